package kubefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsjson "sigs.k8s.io/json"
)

// file reads all documents of a file.
func (r *reader) file(name string, content []byte) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.fail(syntaxError(r.display(name), err))
			return // where the next document starts is not known
		}
		before := len(r.errs)
		b := newBuilder(len(content), func(y *yaml.Node, err error) {
			r.fail(&Error{Position: Position{r.display(name), y.Line, y.Column}, Err: err})
		})
		n := b.build(doc.Content[0])
		if len(r.errs) > before || n.kind == nullNode {
			continue
		}
		if isMeshFile(name) && n.get("kind") == nil {
			r.mesh(n, content, Position{File: r.display(name), Line: 1, Column: 1})
			continue
		}
		r.document(n, r.display(name), "", "")
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

func syntaxError(file string, err error) *Error {
	e := &Error{Position: Position{File: file}, Err: err}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Err = errors.New(m[2])
	}
	return e
}

// document reads an object or a List. A List of a kind says for its items what
// they are.
func (r *reader) document(n *node, file, listVersion, listKind string) {
	if n.kind != objectNode {
		r.failNode(n, file, "", &Error{Err: fmt.Errorf("want an object with apiVersion and kind, got %s", n.kind)})
		return
	}
	apiVersion, kindName := n.text("apiVersion"), n.text("kind")
	if apiVersion == "" && kindName == "" {
		apiVersion, kindName = listVersion, listKind
	}
	items := n.get("items")
	if base, isList := strings.CutSuffix(kindName, "List"); isList && (base == "" || kinds[base] != nil) {
		r.list(n, items, file, apiVersion, base)
		return
	}
	k, e := kindFor(apiVersion, kindName)
	if e != nil {
		r.failNode(n.at(e.Field), file, objectName(kindName, n), e)
		return
	}
	r.object(k, n, file)
}

func (r *reader) list(n, items *node, file, apiVersion, base string) {
	for i, key := range n.keys {
		if fields := []string{"apiVersion", "kind", "metadata", "items"}; !slices.Contains(fields, key) {
			at := Position{file, n.keyLines[i][0], n.keyLines[i][1]}
			r.fail(&Error{Position: at, Object: n.text("kind"), Field: key, Err: ErrUnknownField, Hint: suggest(key, fields)})
		}
	}
	if items == nil || items.kind == nullNode {
		return // an empty List
	}
	if items.kind != listNode {
		r.failNode(items, file, n.text("kind"), &Error{Field: "items", Err: fmt.Errorf("want a list, got %s", items.kind)})
		return
	}
	if base == "" {
		apiVersion = ""
	}
	for _, item := range items.values {
		r.document(item, file, apiVersion, base)
	}
}

// kindFor finds a kind by its name and version.
func kindFor(apiVersion, name string) (*kind, *Error) {
	if name == "" || apiVersion == "" {
		missing := "kind"
		if name != "" {
			missing = "apiVersion"
		}
		return nil, &Error{Field: missing, Err: errors.New("required")}
	}
	k := kinds[name]
	if k == nil {
		return nil, &Error{Field: "kind", Err: fmt.Errorf("%w %s", ErrUnknownKind, name), Hint: suggest(name, slices.Sorted(maps.Keys(kinds)))}
	}
	if !slices.Contains(k.apiVersions(), apiVersion) {
		return nil, &Error{Field: "apiVersion", Err: fmt.Errorf("%w %s of version %s", ErrUnknownKind, name, apiVersion), Hint: k.apiVersion}
	}
	return k, nil
}

// object checks, decodes, completes and keeps one object.
func (r *reader) object(k *kind, n *node, file string) {
	name, before := objectName(k.name, n), len(r.errs)
	report := func(e *Error) {
		e.File, e.Object = file, name
		r.fail(e)
	}
	o := k.make()
	if !check(n, schemaOf(reflect.TypeOf(o)), "", report) {
		return
	}
	text := n.appendJSON(nil)
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(text, o); err != nil {
		report(&Error{Position: n.position(), Err: err})
		return
	}
	complete(o)
	validate(o, k, func(field string, err error) {
		report(&Error{Position: n.at(field).position(), Field: field, Err: err})
	})
	if len(r.errs) == before {
		r.keep(k, o, n, file)
	}
}

func (r *reader) keep(k *kind, o metav1.Object, n *node, file string) {
	position := Position{file, n.line, n.column}
	id := fmt.Sprintf("%s %s/%s", k.name, o.GetNamespace(), o.GetName())
	if first, twice := r.seen[id]; twice {
		r.failNode(n, file, objectName(k.name, n), &Error{Err: fmt.Errorf("%w: the first is at %s", ErrDuplicate, first)})
		return
	}
	r.seen[id] = position
	if len(r.seen) > r.loader.MaxObjects {
		r.failNode(n, file, "", &Error{Err: fmt.Errorf("%w: more than %d objects", ErrTooLarge, r.loader.MaxObjects)})
		r.full = true
		return
	}
	k.add(r.snapshot, o)
	r.snapshot.sources[o] = source{position, n}
	if k.name == "ConfigMap" && isMeshConfigMap(o) {
		r.meshFromConfigMap(n, file)
	}
}

// failNode reports an error at a node.
func (r *reader) failNode(n *node, file, object string, e *Error) {
	e.Position, e.Object = Position{file, n.line, n.column}, object
	r.fail(e)
}

// objectName returns "Kind namespace/name", as far as they are known.
func objectName(kind string, n *node) string {
	meta := n.get("metadata")
	name := meta.text("name")
	if ns := meta.text("namespace"); ns != "" {
		name = ns + "/" + name
	}
	return strings.TrimSpace(kind + " " + name)
}
