package scope

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

func mustParse(t testing.TB, data string) *Config {
	t.Helper()
	c, err := Parse([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// full uses everything that is ours, among fields that are not.
const full = `
trustDomain: cluster.local
defaultConfig:
  proxyMetadata: {A: b}
serviceScopeConfigs:
- namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: In
      values: [shop, 'bank']
  servicesSelector:
    matchLabels:
      istio.io/global: "true"
    matchExpressions:
    - {key: legacy, operator: DoesNotExist}
  scope: GLOBAL
- servicesSelector: {matchExpressions: [{key: private, operator: Exists}]}
serviceSettings:
- settings:
    clusterLocal: true
  hosts: ["*.db.svc.cluster.local", audit.ops.svc.cluster.local]
- hosts: ["kubernetes.default.svc.cluster.local"]
`

var fullConfig = &Config{
	Entries: []Entry{
		{
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpIn, Values: []string{"shop", "bank"},
			}}},
			ServicesSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"istio.io/global": "true"},
				MatchExpressions: []metav1.LabelSelectorRequirement{{
					Key: "legacy", Operator: metav1.LabelSelectorOpDoesNotExist,
				}},
			},
			Scope: Global,
			Line:  6,
		},
		{
			ServicesSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: "private", Operator: metav1.LabelSelectorOpExists,
			}}},
			Line: 17,
		},
	},
	Settings: []ServiceSetting{
		{ClusterLocal: true, Hosts: []string{"*.db.svc.cluster.local", "audit.ops.svc.cluster.local"}, Line: 19},
		{Hosts: []string{"kubernetes.default.svc.cluster.local"}, Line: 22},
	},
}

var ignoreLines = cmp.Options{
	cmpopts.IgnoreFields(Entry{}, "Line"),
	cmpopts.IgnoreFields(ServiceSetting{}, "Line"),
	cmpopts.EquateEmpty(),
}

func TestParseFull(t *testing.T) {
	if diff := cmp.Diff(fullConfig, mustParse(t, full)); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestParseJSON(t *testing.T) {
	json, err := sigsyaml.YAMLToJSON([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullConfig, mustParse(t, string(json)), ignoreLines); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestParseAccepts(t *testing.T) {
	entry := func(scope Scope) *Config { return &Config{Entries: []Entry{{Scope: scope}}} }
	for _, tt := range []struct {
		name string
		data string
		want *Config
	}{
		{"nothing", "", &Config{}},
		{"a comment", "# no config\n", &Config{}},
		{"null", "null", &Config{}},
		{"null lists", "serviceScopeConfigs:\nserviceSettings: null\n", &Config{}},
		{"only fields of others", "accessLogFile: /dev/stdout\n", &Config{}},
		{"names of the .proto file", "service_scope_configs: [{services_selector: , scope: GLOBAL}]", entry(Global)},
		{"enum numbers", "serviceScopeConfigs: [{scope: 1}]", entry(Global)},
		{"scope is LOCAL by default", "serviceScopeConfigs: [{}]", entry(Local)},
		{"aliases", "serviceScopeConfigs: [&a {scope: GLOBAL}]\nserviceSettings: []\nrootNamespace: &b x",
			entry(Global)},
		{"JSON with tabs, escapes and surrogates",
			"{\n\t\"accessLogFormat\": \"\\/ \\ud83d\\ude00\",\n\t\"serviceScopeConfigs\": [{\"scope\": \"GLOBAL\"}]}",
			entry(Global)},
		{"a quoted yes", `serviceSettings: [{hosts: ["yes"]}]`, &Config{Settings: []ServiceSetting{{Hosts: []string{"yes"}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mustParse(t, tt.data), ignoreLines); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseAlias(t *testing.T) {
	c := mustParse(t, `
serviceScopeConfigs:
- servicesSelector: &sel {matchLabels: {a: b}}
  namespaceSelector: *sel
`)
	if diff := cmp.Diff(c.Entries[0].ServicesSelector, c.Entries[0].NamespaceSelector); diff != "" {
		t.Errorf("the alias differs:\n%s", diff)
	}
}

// in returns a config with a servicesSelector of one expression, in line 4.
func in(expression string) string {
	return "serviceScopeConfigs:\n- servicesSelector:\n    matchExpressions:\n    - {" + expression + "}\n"
}

func TestParseErrors(t *testing.T) {
	const expression = "serviceScopeConfigs[0].servicesSelector.matchExpressions[0]"
	for _, tt := range []struct {
		name       string
		data       string
		line, col  int
		path       string
		problem    string // part of it
		suggestion string
	}{
		{"the typo of Istio's documentation",
			"serviceScopeConfigs:\n - namespacesSelector: {}\n",
			2, 4, "serviceScopeConfigs[0].namespacesSelector", "unknown field", "namespaceSelector"},
		{"serviceSelector", "serviceScopeConfigs: [{serviceSelector: {}}]",
			1, 24, "serviceScopeConfigs[0].serviceSelector", "unknown field", "servicesSelector"},
		{"a field that resembles none", "serviceScopeConfigs: [{color: red}]",
			1, 24, "serviceScopeConfigs[0].color", "unknown field", ""},
		{"matchLabel", "serviceScopeConfigs: [{servicesSelector: {matchLabel: {}}}]",
			1, 43, "serviceScopeConfigs[0].servicesSelector.matchLabel", "unknown field", "matchLabels"},
		{"the boolean of Istio's documentation", in("key: a, operator: In, values: [true]"),
			4, 39, expression + ".values[0]", "true is a boolean: want a string", `"true", with quotes`},
		{"a boolean of YAML 1.1", in("key: a, operator: In, values: [yes]"),
			4, 39, expression + ".values[0]", "yes is a boolean: want a string", `"yes", with quotes`},
		{"a number", in("key: a, operator: In, values: [1.5]"),
			4, 39, expression + ".values[0]", "1.5 is a number", `"1.5", with quotes`},
		{"a date", in("key: a, operator: In, values: [2026-01-01]"),
			4, 39, expression + ".values[0]", "is a timestamp", `"2026-01-01", with quotes`},
		{"a null value", in("key: a, operator: In, values: [null]"),
			4, 39, expression + ".values[0]", "is null: want a string", ""},
		{"unknown operator", in("key: a, operator: in, values: [x]"),
			4, 26, expression + ".operator", `unknown operator "in"`, "In"},
		{"operators of another kind", in("key: a, operator: Gt, values: ['1']"),
			4, 26, expression + ".operator", "want In, NotIn, Exists or DoesNotExist", ""},
		{"no operator", in("key: a"), 4, 7, expression, "not a valid label selector operator", ""},
		{"no key", in("operator: Exists"), 4, 7, expression, "key", ""},
		{"In without values", in("key: a, operator: In"), 4, 7, expression, "values", ""},
		{"Exists with values", in("key: a, operator: Exists, values: [b]"), 4, 7, expression, "must be empty", ""},
		{"a bad key", in("key: 'a b', operator: Exists"), 4, 7, expression, "a b", ""},
		{"a bad label value", "serviceScopeConfigs: [{servicesSelector: {matchLabels: {a: 'b c'}}}]",
			1, 60, "serviceScopeConfigs[0].servicesSelector.matchLabels.a", "b c", ""},
		{"scope in lower case", "serviceScopeConfigs:\n- scope: global\n",
			2, 10, "serviceScopeConfigs[0].scope", `unknown scope "global": want LOCAL or GLOBAL`, "GLOBAL"},
		{"scope of a wrong type", "serviceScopeConfigs: [{scope: [GLOBAL]}]",
			1, 31, "serviceScopeConfigs[0].scope", "is a list: want LOCAL or GLOBAL", ""},
		{"a scope number that is none", "serviceScopeConfigs: [{scope: 2}]",
			1, 31, "serviceScopeConfigs[0].scope", `unknown scope "2"`, ""},
		{"a mapping for the list", "serviceScopeConfigs: {scope: GLOBAL}",
			1, 22, "serviceScopeConfigs", "is a mapping: want a list", ""},
		{"a list for a mapping", "serviceScopeConfigs: [[]]", 1, 23, "serviceScopeConfigs[0]", "is a list: want a mapping", ""},
		{"a null entry", "serviceScopeConfigs: [null]", 1, 23, "serviceScopeConfigs[0]", "is null: want a mapping", ""},
		{"a document that is a list", "- a", 1, 1, "", "is a list: want a mapping", ""},
		{"a document that is a word", "GLOBAL", 1, 1, "", `"GLOBAL" is a string: want a mapping`, ""},
		{"a field twice", "serviceScopeConfigs: [{scope: GLOBAL,\n  scope: LOCAL}]",
			2, 3, "serviceScopeConfigs[0].scope", "is set twice: also in line 1", ""},
		{"a field under both of its names", "serviceScopeConfigs: []\nservice_scope_configs: []\n",
			2, 1, "service_scope_configs", "is set twice", ""},
		{"a field of others twice", "trustDomain: a\ntrustDomain: b\n", 2, 1, "trustDomain", "is set twice", ""},
		{"a near miss", "serviceScopeConfig: []", 1, 1, "serviceScopeConfig", "unknown field", "serviceScopeConfigs"},
		{"a near miss in case", "servicescopeconfigs: []", 1, 1, "servicescopeconfigs", "unknown field", "serviceScopeConfigs"},
		{"a near miss of settings", "servicesSetting: []", 1, 1, "servicesSetting", "unknown field", "serviceSettings"},
		{"clusterLocal of a wrong type", "serviceSettings: [{settings: {clusterLocal: 'true'}}]",
			1, 45, "serviceSettings[0].settings.clusterLocal", `"true" is a string: want true or false`, ""},
		{"clusterlocal", "serviceSettings: [{settings: {clusterlocal: true}}]",
			1, 31, "serviceSettings[0].settings.clusterlocal", "unknown field", "clusterLocal"},
		{"a bad host", "serviceSettings: [{hosts: ['a.*.b']}]",
			1, 28, "serviceSettings[0].hosts[0]", `"a.*.b" is not a host`, ""},
		{"merge keys", "serviceScopeConfigs: [{<<: {scope: GLOBAL}}]",
			1, 24, "serviceScopeConfigs[0].<<", "merge keys are not supported", ""},
		{"merge keys at the top", "<<: {serviceScopeConfigs: []}",
			1, 1, "<<", "merge keys are not supported", ""},
		{"a key that is a list", "serviceScopeConfigs: [{[a]: b}]", 1, 24, "serviceScopeConfigs[0]", "want a field name", ""},
		{"a whole ConfigMap", "apiVersion: v1\n", 1, 1, "apiVersion", "a Kubernetes object",
			"the text that a ConfigMap has under data.mesh"},
		{"values of Istio's charts", "meshConfig: {}", 1, 1, "meshConfig", "wrapped", "the value of meshConfig"},
		{"two documents", "a: b\n---\nc: d\n", 2, 1, "", "second document", ""},
		{"a YAML list without end", "a: b\nc: [d\n", 2, 0, "", "did not find expected ',' or ']'", ""},
		{"a YAML list in a mapping", "a: b\n- c\n", 2, 0, "", "did not find expected key", ""},
		{"a YAML mapping in a list", "- a\nb: c\n", 2, 0, "", "did not find expected '-'", ""},
		{"a YAML value too many", "a: b\nb: c: d\n", 2, 0, "", "not allowed", ""},
		{"a YAML tab", "a:\n\tb: c\n", 2, 0, "", "cannot start any token", ""},
		{"a YAML alias of nothing", "a: b\nc: *x\n", 0, 0, "", "unknown anchor 'x'", ""},
		{"in JSON", "{\n\t\"serviceScopeConfigs\": [\n\t\t{\"scope\": true}]}",
			3, 13, "serviceScopeConfigs[0].scope", `unknown scope "true"`, ""},
		{"in JSON, a number", "{\"serviceSettings\":\n [ {\"hosts\" : [ 12 ] } ] }",
			2, 17, "serviceSettings[0].hosts[0]", "12 is a number", `"12", with quotes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.data))
			var got *ParseError
			if !errors.As(err, &got) {
				t.Fatalf("config %+v, error %v; want a ParseError", c, err)
			}
			want := &ParseError{Line: tt.line, Column: tt.col, Path: tt.path, Suggestion: tt.suggestion, Problem: got.Problem}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if !strings.Contains(got.Problem, tt.problem) {
				t.Errorf("problem %q, want one with %q", got.Problem, tt.problem)
			}
		})
	}
}

func TestParseReportsEveryProblem(t *testing.T) {
	_, err := Parse([]byte("serviceScopeConfigs:\n- {scoop: GLOBAL}\n- {scope: WORLD}\nserviceSetting: []\n"))
	want := `mesh config line 2, column 4: serviceScopeConfigs[0].scoop: unknown field
mesh config line 3, column 11: serviceScopeConfigs[1].scope: unknown scope "WORLD": want LOCAL or GLOBAL
mesh config line 4, column 1: serviceSetting: unknown field (did you mean serviceSettings?)`
	if err == nil || err.Error() != want {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
}

func TestParseFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mesh.yaml")
	if err := os.WriteFile(name, []byte("serviceScopeConfigs:\n- scope: GLOBALE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ParseFile(name)
	want := name + `:2:10: serviceScopeConfigs[0].scope: unknown scope "GLOBALE": want LOCAL or GLOBAL (did you mean GLOBAL?)`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := os.WriteFile(name, []byte("a: b\n- c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = ParseFile(name); err == nil || err.Error() != name+":2: did not find expected key" {
		t.Errorf("error %v, want one of line 2", err)
	}
	if _, err := ParseFile(name + ".gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want os.ErrNotExist", err)
	}
}

// TestParseBounds checks that size, aliases and errors are bounded.
func TestParseBounds(t *testing.T) {
	list := func(n int, item string) string { return "[" + strings.Repeat(item+",", n) + "]" }
	bomb := "trustDomain: &h " + list(10000, "a") + "\n" +
		"rootNamespace: &s {settings: {}, hosts: *h}\n" +
		"serviceSettings: " + list(1000, "*s")
	for _, tt := range []struct{ name, data, problem string }{
		{"size", "# " + strings.Repeat("x", MaxSize), "is longer than 1048576 bytes"},
		{"aliases", bomb, "aliases multiply"},
		{"cycle", "serviceScopeConfigs: &a [*a]", "is a list: want a mapping"},
		{"errors", "serviceScopeConfigs: " + list(10000, "x"), "too many problems"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.data))
			var parseErr *ParseError
			if !errors.As(err, &parseErr) {
				t.Fatalf("error %v, want a ParseError", err)
			}
			if lines := strings.Count(err.Error(), "\n"); lines >= maxErrors {
				t.Errorf("the error has %d lines", lines+1)
			}
			if !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("error %v, want one with %q", err, tt.problem)
			}
		})
	}
}

// TestNoFieldOfMeshConfigIsANearMiss holds the guess of misspellings to the
// fields that MeshConfig has.
func TestNoFieldOfMeshConfigIsANearMiss(t *testing.T) {
	fields := (&meshconfig.MeshConfig{}).ProtoReflect().Descriptor().Fields()
	if fields.Len() < 50 {
		t.Fatalf("MeshConfig has only %d fields", fields.Len())
	}
	for i := range fields.Len() {
		f := fields.Get(i)
		for _, name := range []protoreflect.Name{protoreflect.Name(f.JSONName()), f.Name()} {
			if _, err := Parse(fmt.Appendf(nil, "%s: null\n", name)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestStringsAsIstiodReadsThem compares which plain scalars are strings with
// the YAML parser that istiod uses: none that it takes for another type may
// pass as a string here.
func TestStringsAsIstiodReadsThem(t *testing.T) {
	for _, scalar := range []string{
		"yes", "Yes", "YES", "no", "on", "Off", "y", "N", "true", "True", "TRUE", "tRuE", "null", "~", "Null",
		"1", "01", "0x1F", "0o7", "0b1", "1_000", "1e3", ".5", ".inf", "-.INF", ".nan", "12:30:45", "2026-01-01",
		"a", "1a", "v1.2", "1.2.3", "e1", "=", "x-y", "yess", "truer", "-", "0x", "1e", "_",
	} {
		var v any
		istiod := sigsyaml.Unmarshal([]byte("["+scalar+"]"), &v) == nil
		if istiod {
			_, istiod = v.([]any)[0].(string)
		}
		_, err := Parse([]byte(in("key: a, operator: In, values: [" + scalar + "]")))
		ours := err == nil || !strings.Contains(err.Error(), "want a string")
		if ours && !istiod {
			t.Errorf("%s is a string here, and istiod reads %T", scalar, v)
		}
	}
}

func TestYAMLRoundTrip(t *testing.T) {
	for name, c := range map[string]*Config{
		"default": Default(),
		"full":    fullConfig,
		"empty":   {},
		"quoting": {Entries: []Entry{{
			NamespaceSelector: &metav1.LabelSelector{},
			ServicesSelector:  &metav1.LabelSelector{MatchLabels: map[string]string{"a": "true", "b": "yes", "c": "1", "d": ""}},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := c.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c, mustParse(t, string(data)), ignoreLines); diff != "" {
				t.Errorf("after a round trip (-want +got):\n%s\n%s", diff, data)
			}
		})
	}
	if _, err := (&Config{Entries: []Entry{{Scope: 7}}}).YAML(); err == nil {
		t.Error("a scope that has no name was encoded")
	}
}
