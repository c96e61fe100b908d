package scope

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxSize is the longest MeshConfig that Parse reads, in bytes: what
// Kubernetes can store in one ConfigMap.
const MaxSize = 1 << 20

// Parse reads serviceScopeConfigs and serviceSettings from MeshConfig YAML or
// JSON.
//
// It is strict about these two: an unknown field, operator or scope, a value of
// the wrong type, a label that Kubernetes would not accept, is a *ParseError,
// where Istio drops the field (so that a misspelt selector matches everything)
// or the entry. Other fields of MeshConfig are for others, and are ignored on
// purpose, except for those that look like a misspelling of ours and those that
// show that data is not a MeshConfig but what one is wrapped in.
//
// Empty data is an empty Config.
func Parse(data []byte) (*Config, error) {
	return parse("", data)
}

// ParseFile is Parse of the content of a file, whose name it puts in errors.
func ParseFile(name string) (*Config, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	return parse(name, data)
}

func parse(file string, data []byte) (*Config, error) {
	root, err := decode(data)
	if err != nil {
		err.File = file
		return nil, err
	}
	p := &parser{file: file}
	config := p.meshConfig(root)
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return config, nil
}

// meshConfig reads the document. Unlike the messages below it, it has many
// fields that we do not own.
func (p *parser) meshConfig(n *yaml.Node) *Config {
	c := &Config{}
	if isNull(n) {
		return c
	}
	p.mapping(n, "", fields{
		"serviceScopeConfigs": func(n *yaml.Node, path string) {
			p.list(n, path, func(n *yaml.Node, path string) {
				c.Entries = append(c.Entries, p.entry(n, path))
			})
		},
		"serviceSettings": func(n *yaml.Node, path string) {
			p.list(n, path, func(n *yaml.Node, path string) {
				c.Settings = append(c.Settings, p.setting(n, path))
			})
		},
	}, p.foreignField)
	return c
}

// foreignField is called for a top-level field that is not ours.
func (p *parser) foreignField(key *yaml.Node, path string) {
	switch key.Value {
	case "apiVersion", "kind", "metadata", "data":
		p.fail(key, path, "this is a Kubernetes object, not a MeshConfig",
			"the text that a ConfigMap has under data.mesh")
		return
	case "<<":
		p.fail(key, path, mergeKeys, "")
		return
	case "meshConfig", "mesh", "spec":
		p.fail(key, path, "this is what a MeshConfig is wrapped in", "the value of "+key.Value)
		return
	}
	if name := nearest(key.Value, "serviceScopeConfigs", "serviceSettings"); name != "" {
		p.fail(key, path, "unknown field", name)
	}
}

func (p *parser) entry(n *yaml.Node, path string) Entry {
	e := Entry{Line: n.Line}
	p.message(n, path, fields{
		"namespaceSelector": func(n *yaml.Node, path string) { e.NamespaceSelector = p.selector(n, path) },
		"servicesSelector":  func(n *yaml.Node, path string) { e.ServicesSelector = p.selector(n, path) },
		"scope":             func(n *yaml.Node, path string) { e.Scope = p.scope(n, path) },
	})
	return e
}

// scope reads the enum; the JSON form of protobuf allows its number too.
func (p *parser) scope(n *yaml.Node, path string) Scope {
	n = p.follow(n)
	if n.Kind != yaml.ScalarNode {
		p.wrongType(n, path, "LOCAL or GLOBAL")
		return Local
	}
	switch n.Value {
	case "LOCAL", "0":
		return Local
	case "GLOBAL", "1":
		return Global
	}
	if !isNull(n) {
		p.fail(n, path, fmt.Sprintf("unknown scope %.60q: want LOCAL or GLOBAL", n.Value), nearest(n.Value, "LOCAL", "GLOBAL"))
	}
	return Local
}

func (p *parser) selector(n *yaml.Node, path string) *metav1.LabelSelector {
	if isNull(p.follow(n)) {
		return nil // as in the JSON form of protobuf: not set
	}
	s := &metav1.LabelSelector{}
	p.message(n, path, fields{
		"matchLabels": func(n *yaml.Node, path string) { s.MatchLabels = p.matchLabels(n, path) },
		"matchExpressions": func(n *yaml.Node, path string) {
			p.list(n, path, func(n *yaml.Node, path string) {
				s.MatchExpressions = append(s.MatchExpressions, p.requirement(n, path))
			})
		},
	})
	return s
}

func (p *parser) matchLabels(n *yaml.Node, path string) map[string]string {
	matchLabels := map[string]string{}
	p.pairs(n, path, func(key, value *yaml.Node, path string) {
		before := len(p.errs)
		label, text := p.text(key, path), p.text(value, path)
		if len(p.errs) > before {
			return
		}
		if err := validateRequirement(label, metav1.LabelSelectorOpIn, []string{text}); err != nil {
			p.fail(value, path, err.Error(), "")
		}
		matchLabels[label] = text
	})
	return matchLabels
}

func (p *parser) requirement(n *yaml.Node, path string) metav1.LabelSelectorRequirement {
	r := metav1.LabelSelectorRequirement{}
	before := len(p.errs)
	p.message(n, path, fields{
		"key":      func(n *yaml.Node, path string) { r.Key = p.text(n, path) },
		"operator": func(n *yaml.Node, path string) { r.Operator = p.operator(n, path) },
		"values": func(n *yaml.Node, path string) {
			p.list(n, path, func(n *yaml.Node, path string) {
				r.Values = append(r.Values, p.text(n, path))
			})
		},
	})
	if len(p.errs) > before {
		return r
	}
	if err := validateRequirement(r.Key, r.Operator, r.Values); err != nil {
		p.fail(n, path, err.Error(), "")
	}
	return r
}

func (p *parser) operator(n *yaml.Node, path string) metav1.LabelSelectorOperator {
	text := p.text(n, path)
	switch op := metav1.LabelSelectorOperator(text); op {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn,
		metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		return op
	}
	p.fail(n, path, fmt.Sprintf("unknown operator %.60q: want In, NotIn, Exists or DoesNotExist", text),
		nearest(text, "In", "NotIn", "Exists", "DoesNotExist"))
	return ""
}

// validateRequirement checks what Kubernetes asks of a requirement: the syntax
// of key and values, and values exactly where the operator wants them.
func validateRequirement(key string, op metav1.LabelSelectorOperator, values []string) error {
	_, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}},
	})
	return err
}

func (p *parser) setting(n *yaml.Node, path string) ServiceSetting {
	s := ServiceSetting{Line: n.Line}
	p.message(n, path, fields{
		"settings": func(n *yaml.Node, path string) {
			if isNull(p.follow(n)) {
				return
			}
			p.message(n, path, fields{
				"clusterLocal": func(n *yaml.Node, path string) { s.ClusterLocal = p.boolean(n, path) },
			})
		},
		"hosts": func(n *yaml.Node, path string) {
			p.list(n, path, func(n *yaml.Node, path string) {
				s.Hosts = append(s.Hosts, p.host(n, path))
			})
		},
	})
	return s
}

func (p *parser) host(n *yaml.Node, path string) string {
	before := len(p.errs)
	host := p.text(n, path)
	if len(p.errs) == before {
		if err := validateHost(host); err != nil {
			p.fail(n, path, err.Error(), "")
		}
	}
	return host
}

func (p *parser) boolean(n *yaml.Node, path string) bool {
	n = p.follow(n)
	if n.Kind != yaml.ScalarNode || (n.ShortTag() != "!!bool" && !isNull(n)) {
		p.wrongType(n, path, "true or false")
		return false
	}
	b, err := strconv.ParseBool(n.Value)
	return err == nil && b
}
