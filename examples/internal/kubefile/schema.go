package kubefile

import (
	"errors"
	"fmt"
	"strings"
)

// schema is what a value must be. There are two kinds: Go types with JSON tags
// (Kubernetes) and protobuf messages (Istio).
type schema interface {
	kind() nodeKind                       // objectNode, listNode, or what a leaf prefers
	field(name string) schema             // of an object; nil if there is no such field
	fields() []string                     // all names, for hints; nil if any name will do
	item() schema                         // of a list
	leaf(kind nodeKind, json []byte) leaf // of anything else
}

// leaf is what a schema says to a single value. A nil err means that it fits.
type leaf struct {
	err  error
	hint string
}

// check compares a value with its schema and reports every difference. It
// returns whether there was none.
func check(n *node, s schema, path string, report func(*Error)) bool {
	want := s.kind()
	switch {
	case n.kind == nullNode:
		return true
	case want == objectNode && n.kind == objectNode:
		return checkObject(n, s, path, report)
	case want == listNode && n.kind == listNode:
		ok := true
		for i, v := range n.values {
			ok = check(v, s.item(), fmt.Sprintf("%s[%d]", path, i), report) && ok
		}
		return ok
	case want == objectNode || want == listNode:
		report(mismatch(n, want, path))
		return false
	}
	l := s.leaf(n.kind, n.appendJSON(nil))
	if errors.Is(l.err, errMismatch) {
		report(mismatch(n, want, path))
	} else if l.err != nil {
		report(&Error{Position: n.position(), Field: path, Err: l.err, Hint: l.hint})
	}
	return l.err == nil
}

func checkObject(n *node, s schema, path string, report func(*Error)) bool {
	ok := true
	for i, key := range n.keys {
		field := join(path, key)
		if f := s.field(key); f != nil {
			ok = check(n.values[i], f, field, report) && ok
			continue
		}
		at := Position{Line: n.keyLines[i][0], Column: n.keyLines[i][1]}
		report(&Error{Position: at, Field: field, Err: ErrUnknownField, Hint: suggest(key, s.fields())})
		ok = false
	}
	if m, isMessage := s.(messageSchema); ok && isMessage {
		// What no field shows alone, such as two members of a oneof.
		if err := m.leaf(objectNode, n.appendJSON(nil)).err; err != nil {
			report(&Error{Position: n.position(), Field: path, Err: err})
			return false
		}
	}
	return ok
}

// errMismatch is a leaf's answer to a value of another JSON type.
var errMismatch = errors.New("type mismatch")

func mismatch(n *node, want nodeKind, path string) *Error {
	e := &Error{Position: n.position(), Field: path, Err: fmt.Errorf("want %s, got %s", want, n.kind)}
	if want == stringNode && (n.kind == boolNode || n.kind == numberNode) {
		e.Err = fmt.Errorf("want %s, got %s: quote it", want, n.kind)
	}
	return e
}

func (n *node) position() Position { return Position{Line: n.line, Column: n.column} }

// join extends a path; names with dots, such as labels, are quoted.
func join(path, name string) string {
	if strings.ContainsAny(name, `."[]`) {
		return fmt.Sprintf("%s[%q]", path, name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
