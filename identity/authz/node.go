package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// node keeps the line that a value was written on, which YAML by way of JSON
// does not.
type node = yaml.Node

const (
	mappingNode  = yaml.MappingNode
	sequenceNode = yaml.SequenceNode
	scalarNode   = yaml.ScalarNode
	aliasNode    = yaml.AliasNode
)

// An Error is a mistake in a YAML document.
type Error struct {
	File   string
	Line   int    // 1-based; 0 if not known
	Object string // such as "AuthorizationPolicy app/only-client"; "" if not known
	Field  string // such as spec.rules[0].from; "" for the document itself
	Err    error  // Unwrap returns it
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	for _, part := range []string{e.Object, e.Field} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Causes that an Error may have.
var (
	ErrUnknownField = errors.New("unknown field")
	ErrSyntax       = errors.New("malformed YAML")
)

var errTwice = fmt.Errorf("%w: want each field once, by name", ErrInvalid)

// maxNodes bounds what is read from one document, aliases expanded.
const maxNodes = 1 << 20

// walker reads the nodes of one document strictly and collects the errors.
type walker struct {
	file   string
	object string
	nodes  int
	errs   []error
}

func (w *walker) fail(n *node, field string, err error) {
	w.errs = append(w.errs, &Error{File: w.file, Line: n.Line, Object: w.object, Field: field, Err: err})
}

// resolve follows an alias and counts.
func (w *walker) resolve(n *node, field string) (*node, bool) {
	n = follow(n)
	w.nodes++
	if w.nodes > maxNodes {
		if w.nodes == maxNodes+1 {
			w.fail(n, field, fmt.Errorf("%w: more than %d values", ErrInvalid, maxNodes))
		}
		return nil, false
	}
	return n, true
}

// follow returns what an alias stands for.
func follow(n *node) *node {
	if n.Kind == aliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *node) bool { return n.Kind == scalarNode && n.Tag == "!!null" }

// fields names what an object may have, and how each is read.
type fields map[string]func(n *node, field string)

// ignored is a field that is allowed and not read.
func ignored(*node, string) {}

// orNull reads a field that Kubernetes' tools write without a value.
func orNull(read func(n *node, field string)) func(*node, string) {
	return func(n *node, field string) {
		if !isNull(follow(n)) {
			read(n, field)
		}
	}
}

var errEmpty = fmt.Errorf("%w: it is empty", ErrInvalid)

// errNull: what stands for nothing could be meant for something, such as a list
// whose items are missing, and often means everything if it is left out.
var errNull = fmt.Errorf("%w: it is null: leave it out, or say what it is", ErrInvalid)

func (w *walker) mapping(n *node, field string, each func(key string, k, v *node)) {
	n, ok := w.resolve(n, field)
	if !ok {
		return
	}
	if isNull(n) {
		w.fail(n, field, errNull)
		return
	}
	if n.Kind != mappingNode {
		w.fail(n, field, fmt.Errorf("%w: want an object", ErrInvalid))
		return
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if n.Content[i].Kind != scalarNode || seen[key] {
			w.fail(n.Content[i], join(field, key), errTwice)
			continue
		}
		seen[key] = true
		each(key, n.Content[i], n.Content[i+1])
	}
}

func (w *walker) objectOf(n *node, field string, known fields) {
	w.mapping(n, field, func(key string, k, v *node) {
		read, ok := known[key]
		if !ok {
			w.fail(k, join(field, key), unknownField(key, known))
			return
		}
		read(v, join(field, key))
	})
}

func unknownField(key string, known fields) error {
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if strings.EqualFold(name, key) || strings.EqualFold(name, key+"s") || strings.EqualFold(name+"s", key) {
			return fmt.Errorf("%w: did you mean %s?", ErrUnknownField, name)
		}
	}
	return ErrUnknownField
}

func (w *walker) list(n *node, field string, each func(n *node, field string)) {
	n, ok := w.resolve(n, field)
	if !ok {
		return
	}
	if isNull(n) {
		w.fail(n, field, errNull)
		return
	}
	if n.Kind != sequenceNode {
		w.fail(n, field, fmt.Errorf("%w: want a list", ErrInvalid))
		return
	}
	for i, item := range n.Content {
		each(item, fmt.Sprintf("%s[%d]", field, i))
	}
}

// text reads a string. YAML's other scalars are refused as Kubernetes does:
// 8080 without quotes is a number.
func (w *walker) text(n *node, field string) string {
	n, ok := w.resolve(n, field)
	if !ok {
		return ""
	}
	if isNull(n) {
		w.fail(n, field, errNull)
		return ""
	}
	if n.Kind != scalarNode || n.Tag != "!!str" && n.Tag != "!!timestamp" {
		err := fmt.Errorf("%w: want a string", ErrInvalid)
		if n.Kind == scalarNode {
			err = fmt.Errorf("%w: want a string: write %q with quotes", ErrInvalid, n.Value)
		}
		w.fail(n, field, err)
		return ""
	}
	return n.Value
}

func (w *walker) labels(n *node, field string) map[string]string {
	out := make(map[string]string)
	w.mapping(n, field, func(key string, _, v *node) { out[key] = w.text(v, join(field, key)) })
	return out
}

// located is a string with the place where it was written.
type located struct {
	text string
	at   *node
	path string
}

func (w *walker) texts(n *node, field string) []located {
	var out []located
	w.list(n, field, func(n *node, field string) {
		before := len(w.errs)
		s := w.text(n, field)
		if s == "" && len(w.errs) == before {
			w.fail(n, field, errEmpty)
		}
		out = append(out, located{s, n, field})
	})
	return out
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	if strings.ContainsAny(key, "./") {
		return field + "[" + strconv.Quote(key) + "]"
	}
	return field + "." + key
}
