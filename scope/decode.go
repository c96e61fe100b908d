package scope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode returns the root of the one document in data, with lines and columns.
func decode(data []byte) (*yaml.Node, *ParseError) {
	if len(data) > MaxSize {
		return nil, &ParseError{Problem: fmt.Sprintf("is longer than %d bytes", MaxSize)}
	}
	// The YAML parser stumbles over some of JSON: \/ and surrogate pairs.
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) && json.Valid(data) {
		return decodeJSON(data), nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{}, nil
	case err != nil:
		return nil, syntaxError(err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, &ParseError{Line: second.Line, Column: second.Column, Problem: "has a second document"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.AliasNode {
		root = root.Alias
	}
	return root, nil
}

// yamlError takes the line from the text of a YAML error, the only place that
// has it. The errors of the YAML package's parser proper, as opposed to its
// scanner, count lines from 0; they are those about what is missing.
var (
	yamlError       = regexp.MustCompile(`^yaml: line (\d+): (.*)`)
	yamlParserError = regexp.MustCompile(`^(did not find expected (key|node|'-'|'?,|<)|found undefined tag)`)
)

func syntaxError(err error) *ParseError {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return &ParseError{Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	e := &ParseError{Problem: m[2]}
	e.Line, _ = strconv.Atoi(m[1])
	if yamlParserError.MatchString(m[2]) {
		e.Line++
	}
	return e
}

// decodeJSON turns valid JSON into the nodes that the YAML parser would make
// of it.
func decodeJSON(data []byte) *yaml.Node {
	d := &jsonDecoder{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	d.dec.UseNumber()
	return d.value()
}

type jsonDecoder struct {
	dec  *json.Decoder
	data []byte

	// Where the last token began, for lines and columns.
	offset    int
	line      int
	lineStart int
}

func (d *jsonDecoder) value() *yaml.Node {
	d.advance(int(d.dec.InputOffset()))
	token, _ := d.dec.Token() // data is valid
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: d.line, Column: d.offset - d.lineStart + 1}
	switch token := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if token == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for d.dec.More() {
			n.Content = append(n.Content, d.value())
		}
		_, _ = d.dec.Token() // the end
	case string:
		n.Tag, n.Value, n.Style = "!!str", token, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!float", token.String()
		if !strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!int"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(token)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n
}

// advance moves to the token that starts at or after offset.
func (d *jsonDecoder) advance(offset int) {
	for i := d.offset; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '\n':
			d.line, d.lineStart = d.line+1, i+1
		case i >= offset && !strings.ContainsRune(" \t\r,:", rune(c)):
			d.offset = i
			return
		}
	}
}
