package scope

import (
	"bytes"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Config is the part of Istio's MeshConfig that decides which services other
// clusters may see. The zero value has no entries: every service is Local.
//
// A Config is plain data. Compile makes it ready for use.
type Config struct {
	// Entries are serviceScopeConfigs.
	Entries []Entry

	// Settings are serviceSettings.
	Settings []ServiceSetting
}

// An Entry is one item of serviceScopeConfigs. Both of its selectors must match
// for it to apply to a service.
type Entry struct {
	// NamespaceSelector matches labels of the service's namespace; nil or
	// empty matches every namespace.
	NamespaceSelector *metav1.LabelSelector

	// ServicesSelector matches labels of the service; nil or empty matches
	// every service.
	ServicesSelector *metav1.LabelSelector

	// Scope of what matches.
	Scope Scope

	// Line that the entry starts at, counted from 1; 0 if it was not parsed.
	Line int
}

// A ServiceSetting is one item of serviceSettings.
type ServiceSetting struct {
	// ClusterLocal is settings.clusterLocal: whether clients and endpoints of
	// the hosts must be in one cluster.
	ClusterLocal bool

	// Hosts are exact names, or wildcards as in a DestinationRule:
	// *.foo.svc.cluster.local.
	Hosts []string

	// Line that the setting starts at, counted from 1; 0 if it was not parsed.
	Line int
}

// Default returns what Istio's ambient profile configures: a service is Global
// if it is labelled istio.io/global: "true".
func Default() *Config {
	return &Config{Entries: []Entry{{
		ServicesSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key:      "istio.io/global",
				Operator: metav1.LabelSelectorOpIn,
				Values:   []string{"true"},
			}},
		},
		Scope: Global,
	}}}
}

// YAML returns c as MeshConfig YAML, which Parse reads back to an equal Config
// (apart from lines). Fields of MeshConfig that Parse ignored are not in it.
func (c *Config) YAML() ([]byte, error) {
	out := configYAML{}
	for _, e := range c.Entries {
		out.Entries = append(out.Entries, entryYAML{
			NamespaceSelector: newSelectorYAML(e.NamespaceSelector),
			ServicesSelector:  newSelectorYAML(e.ServicesSelector),
			Scope:             e.Scope,
		})
	}
	for _, s := range c.Settings {
		out.Settings = append(out.Settings, settingYAML{
			Settings: clusterLocalYAML{s.ClusterLocal},
			Hosts:    s.Hosts,
		})
	}
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return buf.Bytes(), enc.Close()
}

// The types below give the YAML encoder MeshConfig's field names; the
// selectors of apimachinery have names for JSON only.
type (
	configYAML struct {
		Entries  []entryYAML   `yaml:"serviceScopeConfigs,omitempty"`
		Settings []settingYAML `yaml:"serviceSettings,omitempty"`
	}
	entryYAML struct {
		NamespaceSelector *selectorYAML `yaml:"namespaceSelector,omitempty"`
		ServicesSelector  *selectorYAML `yaml:"servicesSelector,omitempty"`
		Scope             Scope         `yaml:"scope"`
	}
	selectorYAML struct {
		MatchLabels      map[string]string `yaml:"matchLabels,omitempty"`
		MatchExpressions []requirementYAML `yaml:"matchExpressions,omitempty"`
	}
	requirementYAML struct {
		Key      string                       `yaml:"key"`
		Operator metav1.LabelSelectorOperator `yaml:"operator"`
		Values   []string                     `yaml:"values,omitempty"`
	}
	settingYAML struct {
		Settings clusterLocalYAML `yaml:"settings"`
		Hosts    []string         `yaml:"hosts,omitempty"`
	}
	clusterLocalYAML struct {
		ClusterLocal bool `yaml:"clusterLocal"`
	}
)

func newSelectorYAML(s *metav1.LabelSelector) *selectorYAML {
	if s == nil {
		return nil
	}
	out := &selectorYAML{MatchLabels: s.MatchLabels}
	for _, r := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, requirementYAML(r))
	}
	return out
}
