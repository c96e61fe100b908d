package kubefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// node is a YAML value that is ready to be JSON: aliases are resolved and
// keys are strings. It remembers where it was written.
type node struct {
	line, column int
	kind         nodeKind
	keys         []string // of an object, in order
	keyLines     [][2]int // line and column of each key
	values       []*node  // of an object or a list
	scalar       json.RawMessage
	block        bool // a string that is written below its key, as with "|"
}

type nodeKind uint8

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	stringNode
	listNode
	objectNode
)

// String names the kind with its article.
func (k nodeKind) String() string {
	return [...]string{"nothing", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// builder makes nodes of one document, and bounds how many: aliases of aliases
// grow exponentially.
type builder struct {
	budget int
	fail   func(y *yaml.Node, err error)
	open   map[*yaml.Node]bool // aliases being resolved
}

// newBuilder allows a document of size bytes as many values as could be written
// in it, and some more by aliases.
func newBuilder(size int, fail func(y *yaml.Node, err error)) *builder {
	return &builder{budget: size + 1<<16, open: make(map[*yaml.Node]bool), fail: fail}
}

var (
	errTooManyNodes = fmt.Errorf("%w: its aliases make too many values", ErrTooLarge)
	errMergeKey     = errors.New("the merge key << is not supported: write the fields out")
)

func (b *builder) build(y *yaml.Node) *node {
	if b.budget--; b.budget < 0 {
		if b.budget == -1 {
			b.fail(y, errTooManyNodes)
		}
		return &node{line: y.Line, column: y.Column}
	}
	n := &node{line: y.Line, column: y.Column}
	switch y.Kind {
	case yaml.AliasNode:
		return b.alias(y)
	case yaml.MappingNode:
		n.kind = objectNode
		b.object(n, y)
	case yaml.SequenceNode:
		n.kind = listNode
		for _, item := range y.Content {
			n.values = append(n.values, b.build(item))
		}
	case yaml.ScalarNode:
		var err error
		n.block = y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
		if n.kind, n.scalar, err = scalar(y); err != nil {
			b.fail(y, err)
		}
	}
	return n
}

func (b *builder) alias(y *yaml.Node) *node {
	if b.open[y.Alias] {
		b.fail(y, fmt.Errorf("the anchor %q contains itself", y.Value))
		return &node{line: y.Line, column: y.Column}
	}
	b.open[y.Alias] = true
	defer delete(b.open, y.Alias)
	return b.build(y.Alias)
}

func (b *builder) object(n *node, y *yaml.Node) {
	seen := make(map[string]int, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			b.fail(y.Content[i], errors.New("a key must be a string"))
			continue
		}
		if key.ShortTag() == "!!merge" {
			b.fail(key, errMergeKey)
			continue
		}
		if first, twice := seen[key.Value]; twice {
			b.fail(key, fmt.Errorf("the key %q is on line %d too", key.Value, first))
			continue
		}
		seen[key.Value] = key.Line
		n.keys = append(n.keys, key.Value)
		n.keyLines = append(n.keyLines, [2]int{key.Line, key.Column})
		n.values = append(n.values, b.build(y.Content[i+1]))
	}
}

// scalar converts what YAML 1.2's core schema calls null, bool, int and float
// (with YAML 1.1's octal and separators, as Kubernetes has them); all else is
// a string, dates too.
func scalar(y *yaml.Node) (nodeKind, json.RawMessage, error) {
	switch y.ShortTag() {
	case "!!null":
		return nullNode, json.RawMessage("null"), nil
	case "!!bool":
		var v bool
		err := y.Decode(&v)
		return boolNode, json.RawMessage(strconv.FormatBool(v)), err
	case "!!int":
		raw, err := integer(y)
		return numberNode, raw, err
	case "!!float":
		var v float64
		if err := y.Decode(&v); err != nil {
			return numberNode, json.RawMessage("0"), err
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return numberNode, json.RawMessage("0"), fmt.Errorf("%s is not a number that JSON has", y.Value)
		}
		raw, err := json.Marshal(v)
		return numberNode, raw, err
	case "!!str", "!!timestamp":
		if v, ok := oldBooleans[strings.ToLower(y.Value)]; ok && y.Style == 0 {
			return boolNode, json.RawMessage(strconv.FormatBool(v)), nil
		}
		raw, err := json.Marshal(y.Value)
		return stringNode, raw, err
	}
	return stringNode, json.RawMessage(`""`), fmt.Errorf("the tag %s is not supported", y.ShortTag())
}

// oldBooleans are booleans of YAML 1.1, which Kubernetes still reads; unquoted
// only.
var oldBooleans = map[string]bool{"yes": true, "on": true, "no": false, "off": false}

func integer(y *yaml.Node) (json.RawMessage, error) {
	var signed int64
	if err := y.Decode(&signed); err == nil {
		return strconv.AppendInt(nil, signed, 10), nil
	}
	var unsigned uint64
	err := y.Decode(&unsigned)
	return strconv.AppendUint(nil, unsigned, 10), err
}

// appendJSON appends the node as JSON.
func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case nullNode:
		return append(b, "null"...)
	case listNode:
		b = append(b, '[')
		for i, v := range n.values {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.appendJSON(b)
		}
		return append(b, ']')
	case objectNode:
		b = append(b, '{')
		for i, v := range n.values {
			if i > 0 {
				b = append(b, ',')
			}
			key, _ := json.Marshal(n.keys[i])
			b = append(append(b, key...), ':')
			b = v.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, n.scalar...)
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	if n != nil && n.kind == objectNode {
		for i, k := range n.keys {
			if k == key {
				return n.values[i]
			}
		}
	}
	return nil
}

// text returns the value of a key if it is a string.
func (n *node) text(key string) string {
	v := n.get(key)
	if v == nil || v.kind != stringNode {
		return ""
	}
	var s string
	_ = json.Unmarshal(v.scalar, &s) // made by json.Marshal
	return s
}

// at returns the node that a path such as spec.ports[0].port leads to, or the
// last one on the way there.
func (n *node) at(path string) *node {
	for path != "" && n != nil {
		var next *node
		if rest, ok := strings.CutPrefix(path, "["); ok {
			index, tail, _ := strings.Cut(rest, "]")
			path = strings.TrimPrefix(tail, ".")
			if key, err := strconv.Unquote(index); err == nil {
				next = n.get(key)
			} else if i, err := strconv.Atoi(index); err == nil && i < len(n.values) {
				next = n.values[i]
			}
		} else {
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			next = n.get(path[:end])
			path = strings.TrimPrefix(path[end:], ".")
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}
