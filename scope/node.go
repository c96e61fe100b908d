package scope

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds the work of a parse: aliases can make a small document
// stand for a huge one.
const maxNodes = 1 << 17

// maxErrors is how many problems are reported at most.
const maxErrors = 20

const mergeKeys = "merge keys are not supported, write the fields out"

// A parser walks a document by the shape that it should have, and notes every
// place where it has another one.
type parser struct {
	file  string
	errs  []error
	nodes int
}

// fields are the readers of a message's fields, by JSON name.
type fields map[string]reader

type reader func(n *yaml.Node, path string)

func (p *parser) fail(n *yaml.Node, path, problem, suggestion string) {
	switch len(p.errs) {
	case maxErrors:
		return
	case maxErrors - 1:
		path, problem, suggestion = "", "too many problems, here and after", ""
	}
	p.errs = append(p.errs, &ParseError{
		File:       p.file,
		Line:       n.Line,
		Column:     n.Column,
		Path:       path,
		Problem:    problem,
		Suggestion: suggestion,
	})
}

func (p *parser) wrongType(n *yaml.Node, path, want string) {
	p.fail(n, path, fmt.Sprintf("%s: want %s", describe(n), want), "")
}

// follow returns what an alias stands for, and counts.
func (p *parser) follow(n *yaml.Node) *yaml.Node {
	if p.nodes++; p.nodes == maxNodes {
		p.errs = nil // this is the one to report
		p.fail(n, "", fmt.Sprintf("more than %d values: aliases multiply", maxNodes), "")
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// exhausted reports whether the document is too large to go on.
func (p *parser) exhausted() bool { return p.nodes >= maxNodes || len(p.errs) >= maxErrors }

// message reads a mapping all of whose fields we own.
func (p *parser) message(n *yaml.Node, path string, known fields) {
	p.mapping(n, path, known, func(key *yaml.Node, path string) {
		problem := "unknown field"
		if key.Value == "<<" {
			problem = mergeKeys
		}
		var names []string
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		p.fail(key, path, problem, nearest(key.Value, names...))
	})
}

// mapping reads the known fields of a mapping, under their JSON names or those
// of the .proto file, and hands the keys of others to unknown.
func (p *parser) mapping(n *yaml.Node, path string, known fields, unknown reader) {
	p.pairs(n, path, func(key, value *yaml.Node, path string) {
		if read, ok := known[jsonName(key.Value)]; ok {
			read(value, path)
		} else {
			unknown(key, path)
		}
	})
}

// pairs calls read for each key and value of a mapping. A key that comes twice
// is an error: one of the two would be lost.
func (p *parser) pairs(n *yaml.Node, path string, read func(key, value *yaml.Node, path string)) {
	n = p.follow(n)
	if n.Kind != yaml.MappingNode {
		p.wrongType(n, path, "a mapping")
		return
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !p.exhausted(); i += 2 {
		key := p.follow(n.Content[i])
		if key.Kind != yaml.ScalarNode {
			p.wrongType(key, path, "a field name")
			continue
		}
		field := join(path, key.Value)
		if line, again := lines[jsonName(key.Value)]; again {
			p.fail(n.Content[i], field, fmt.Sprintf("is set twice: also in line %d", line), "")
			continue
		}
		lines[jsonName(key.Value)] = key.Line
		read(key, n.Content[i+1], field)
	}
}

// list calls read for each item; null is an empty list.
func (p *parser) list(n *yaml.Node, path string, read reader) {
	n = p.follow(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		p.wrongType(n, path, "a list")
		return
	}
	for i, item := range n.Content {
		if p.exhausted() {
			return
		}
		read(item, fmt.Sprintf("%s[%d]", path, i))
	}
}

// text reads a string. Scalars that some YAML parsers take for another type
// are refused: Kubernetes labels are strings, and istiod's parser, of YAML
// 1.1, would read an unquoted yes as a boolean.
func (p *parser) text(n *yaml.Node, path string) string {
	n = p.follow(n)
	switch {
	case n.Kind != yaml.ScalarNode, isNull(n):
		p.wrongType(n, path, "a string")
	case n.ShortTag() != "!!str", n.Style == 0 && isYAML11Bool(n.Value):
		p.fail(n, path, describe(n)+": want a string", fmt.Sprintf("%.60q, with quotes", n.Value))
	default:
		return n.Value
	}
	return ""
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func isYAML11Bool(s string) bool {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON",
		"n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return true
	}
	return false
}

// describe names what is there, for errors.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "is a mapping"
	case yaml.SequenceNode:
		return "is a list"
	}
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		return "is null"
	case tag == "!!str" && n.Style == 0 && isYAML11Bool(n.Value), tag == "!!bool":
		return fmt.Sprintf("%s is a boolean", n.Value)
	case tag == "!!int", tag == "!!float":
		return fmt.Sprintf("%.60s is a number", n.Value)
	case tag == "!!str":
		return fmt.Sprintf("%.60q is a string", n.Value)
	default:
		return fmt.Sprintf("%.60s is a %s", n.Value, strings.TrimLeft(tag, "!"))
	}
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// jsonName turns a field name of a .proto file into the JSON one:
// service_scope_configs into serviceScopeConfigs.
func jsonName(name string) string {
	if !strings.Contains(name, "_") {
		return name
	}
	var b strings.Builder
	upper := false
	for _, r := range name {
		if r == '_' {
			upper = true
			continue
		}
		if upper {
			r = unicode.ToUpper(r)
		}
		b.WriteRune(r)
		upper = false
	}
	return b.String()
}
