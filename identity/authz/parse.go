package authz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Resources collects Kubernetes objects: AuthorizationPolicies and
// PeerAuthentications of security.istio.io. The zero value is empty. It is not
// safe for concurrent use.
type Resources struct {
	policies []authorizationPolicy
	peers    []peerAuthentication
	others   []Warning
	places   map[string]string // object to "file:line"
}

// meta is what matters of an object's metadata.
type meta struct {
	kind, namespace, name string
	created               time.Time
	annotations           map[string]string
	file                  string
	line                  int
}

func (m *meta) object() string { return m.kind + " " + m.namespace + "/" + m.name }

// Parse adds the objects of a file: any number of YAML documents, which may be
// Lists, or JSON. Objects of other API groups are skipped; RequestAuthentications
// are too, with a warning from Convert: they are about HTTP. An object without a
// namespace is in "default".
//
// Unknown fields and values that Istio would not admit are errors. All that are
// found are returned, joined; each is an Error with file, line and field. On an
// error nothing is added.
func (r *Resources) Parse(file string, data []byte) error {
	next := Resources{places: make(map[string]string)}
	var errs []error
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // where the next document begins is not known
			errs = append(errs, syntaxError(file, err))
			break
		}
		if len(doc.Content) > 0 {
			errs = append(errs, next.document(file, doc.Content[0])...)
		}
	}
	for object, place := range next.places {
		if other, ok := r.places[object]; ok {
			errs = append(errs, fmt.Errorf("%s: %s: %w: it is also at %s", place, object, ErrDuplicate, other))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	r.add(&next)
	return nil
}

func (r *Resources) add(next *Resources) {
	if r.places == nil {
		r.places = make(map[string]string)
	}
	r.policies = append(r.policies, next.policies...)
	r.peers = append(r.peers, next.peers...)
	r.others = append(r.others, next.others...)
	for object, place := range next.places {
		r.places[object] = place
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

func syntaxError(file string, err error) error {
	e := &Error{File: file, Err: fmt.Errorf("%w: %w", ErrSyntax, err)}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Err = fmt.Errorf("%w: %s", ErrSyntax, m[2])
	}
	return e
}

// document reads an object or a List of them. Lists of Lists do not exist.
func (r *Resources) document(file string, n *node) []error {
	if _, kind := typeOf(n); strings.HasSuffix(kind, "List") {
		w := &walker{file: file}
		if items := child(n, "items"); items != nil && !isNull(items) {
			w.list(items, "items", func(item *node, _ string) { w.errs = append(w.errs, r.item(file, item)...) })
		}
		return w.errs
	}
	return r.item(file, n)
}

func (r *Resources) item(file string, n *node) []error {
	w := &walker{file: file}
	n = follow(n)
	if isNull(n) || !w.hasType(n) {
		return w.errs
	}
	group, kind := typeOf(n)
	if group == "v1" && kind == "List" {
		w.fail(n, "kind", fmt.Errorf("%w: a List in a List", ErrInvalid))
	}
	if group != "security.istio.io" {
		return w.errs
	}
	switch kind {
	case "AuthorizationPolicy":
		p := w.authorizationPolicy(n)
		r.policies = append(r.policies, p)
		w.register(r, n, &p.meta)
	case "PeerAuthentication":
		p := w.peerAuthentication(n)
		r.peers = append(r.peers, p)
		w.register(r, n, &p.meta)
	case "RequestAuthentication":
		m := meta{kind: kind, namespace: "default"}
		if md := child(n, "metadata"); md != nil {
			w.readMeta(md, &m)
		}
		r.others = append(r.others, Warning{File: file, Line: n.Line, Object: m.object(), Message: "is about HTTP, which needs a waypoint: it is skipped"})
	default:
		w.fail(n, "kind", fmt.Errorf("%w: security.istio.io has no %q", ErrInvalid, kind))
	}
	return w.errs
}

func (w *walker) register(r *Resources, n *node, m *meta) {
	place := fmt.Sprintf("%s:%d", w.file, n.Line)
	if other, ok := r.places[m.object()]; ok {
		w.fail(n, "", fmt.Errorf("%w: it is also at %s", ErrDuplicate, other))
		return
	}
	r.places[m.object()] = place
}

// hasType reports whether it can be told what an object is. One that cannot be
// told could be a policy, and must not be passed over.
func (w *walker) hasType(n *node) bool {
	if n.Kind != mappingNode {
		w.fail(n, "", fmt.Errorf("%w: want an object with apiVersion and kind", ErrInvalid))
		return false
	}
	before := len(w.errs)
	for _, field := range []string{"apiVersion", "kind"} {
		if v := child(n, field); v == nil || isNull(v) || v.Value == "" {
			w.fail(n, field, fmt.Errorf("%w: it is missing", ErrInvalid))
		}
		seen := false
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value != field {
				continue
			}
			if seen {
				w.fail(n.Content[i], field, errTwice)
			}
			seen = true
		}
	}
	return len(w.errs) == before
}

// typeOf returns the API group and the kind of an object.
func typeOf(n *node) (group, kind string) {
	if v := child(n, "apiVersion"); v != nil {
		group, _, _ = strings.Cut(v.Value, "/")
	}
	if k := child(n, "kind"); k != nil {
		kind = k.Value
	}
	return group, kind
}

func child(n *node, key string) *node {
	n = follow(n)
	if n.Kind != mappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return follow(n.Content[i+1])
		}
	}
	return nil
}

// objectMeta reads what all objects have, and the spec with the given fields.
func (w *walker) objectMeta(n *node, spec fields) meta {
	m := meta{file: w.file, line: n.Line, namespace: "default"}
	_, m.kind = typeOf(n)
	if md := child(n, "metadata"); md != nil {
		w.readMeta(md, &m)
	}
	w.object = m.object()
	if m.name == "" {
		w.fail(n, "metadata.name", errEmpty)
	}
	w.objectOf(n, "", fields{
		"apiVersion": w.apiVersion,
		"kind":       ignored,
		"metadata":   ignored, // read above
		"status":     ignored,
		"spec":       orNull(func(n *node, field string) { w.objectOf(n, field, spec) }),
	})
	return m
}

func (w *walker) apiVersion(n *node, field string) {
	known := []string{"security.istio.io/v1", "security.istio.io/v1beta1"}
	if v := w.text(n, field); !slices.Contains(known, v) {
		w.fail(n, field, fmt.Errorf("%w: %q, want one of %s", ErrInvalid, v, strings.Join(known, ", ")))
	}
}

func (w *walker) readMeta(n *node, m *meta) {
	known := fields{
		"name": func(n *node, field string) { m.name = w.text(n, field) },
		"namespace": func(n *node, field string) {
			if ns := w.text(n, field); ns != "" {
				m.namespace = ns
			}
		},
		"annotations": orNull(func(n *node, field string) { m.annotations = w.labels(n, field) }),
		"creationTimestamp": orNull(func(n *node, field string) {
			s := w.text(n, field)
			t, err := time.Parse(time.RFC3339, s)
			if err != nil && s != "" {
				w.fail(n, field, fmt.Errorf("%w: want a time such as 2006-01-02T15:04:05Z", ErrInvalid))
			}
			m.created = t
		}),
	}
	for _, name := range []string{
		"labels", "generateName", "uid", "resourceVersion", "generation", "managedFields", "ownerReferences",
		"finalizers", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds",
	} {
		known[name] = ignored
	}
	w.objectOf(n, "metadata", known)
}

// selector reads a workload selector. An empty one selects as if there were
// none.
func (w *walker) selector(into *map[string]string) func(n *node, field string) {
	return func(n *node, field string) {
		w.objectOf(n, field, fields{
			"matchLabels": func(n *node, field string) {
				*into = w.labels(n, field)
				for _, k := range slices.Sorted(maps.Keys(*into)) {
					v := (*into)[k]
					if k == "" || strings.Contains(k+v, "*") { // it would select nothing
						w.fail(n, join(field, k), fmt.Errorf("%w: %q, want a label without wildcards", ErrInvalid, v))
					}
				}
			},
		})
	}
}

// A Warning is about an object that is not enforced as it is written.
type Warning struct {
	File    string
	Line    int
	Object  string
	Message string
}

func (w Warning) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", w.File, w.Line, w.Object, w.Message)
}
