package authz

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func convert(t testing.TB, yaml string) *Converted {
	t.Helper()
	var r Resources
	if err := r.Parse("test.yaml", []byte(yaml)); err != nil {
		t.Fatal(err)
	}
	return r.Convert("")
}

// policy wraps a spec, indented by two spaces, into an AuthorizationPolicy.
func policyYAML(spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: app}\nspec:\n" + spec
}

func rulesOf(matches ...Match) Group {
	var g Group
	for _, m := range matches {
		g.Rules = append(g.Rules, Rule{Matches: []Match{m}})
	}
	return g
}

func TestConvertAuthorizationPolicy(t *testing.T) {
	base := Policy{Namespace: "app", Name: "p", Scope: ScopeNamespace}
	with := func(change func(*Policy)) []Policy {
		p := base
		change(&p)
		return []Policy{p}
	}
	tests := []struct {
		name, yaml string
		want       []Policy
		warning    string
	}{
		{"empty", policyYAML("  {}\n"), []Policy{base}, ""},
		{"no spec", "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: app}\n", []Policy{base}, ""},
		{"JSON", `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"app"},"spec":{"rules":[{}]}}`,
			with(func(p *Policy) { p.Groups = []Group{{}} }), ""},
		{"default namespace", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n", with(func(p *Policy) { p.Namespace = "default" }), ""},
		{"root namespace", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\n",
			with(func(p *Policy) { p.Namespace, p.Scope = "istio-system", ScopeGlobal }), ""},
		{"selector", policyYAML("  selector: {matchLabels: {app: web}}\n  action: DENY\n"), with(func(p *Policy) { p.Scope, p.Action = ScopeWorkload, Deny }), ""},
		{"empty selector", policyYAML("  selector: {}\n"), []Policy{base}, ""},
		{"an empty rule matches all", policyYAML("  rules: [{}]\n"), with(func(p *Policy) { p.Groups = []Group{{}} }), ""},
		{"clauses in order", policyYAML(`  rules:
  - when:
    - {key: source.ip, values: [10.0.0.1, 10.1.0.0/16], notValues: ["fd00::/8"]}
    - {key: destination.port, values: ["80"]}
    - {key: source.namespace, notValues: [a]}
    - {key: source.principal, values: ["*"]}
    - {key: destination.ip, values: [10.2.0.1/8]}
    from:
    - source: {principals: ["*", "a*", "*b", c], notNamespaces: [x]}
    - source: {serviceAccounts: [sa, other/sa], ipBlocks: [1.2.3.4]}
    to:
    - operation: {ports: ["8080"], notPorts: ["1"]}
`), with(func(p *Policy) {
			p.Groups = []Group{{Rules: []Rule{
				{Matches: []Match{{DestinationPorts: []uint16{8080}, NotDestinationPorts: []uint16{1}}}},
				{Matches: []Match{
					{Principals: []StringMatch{present(), prefix("a"), suffix("b"), exact("c")}, NotNamespaces: []StringMatch{exact("x")}},
					{ServiceAccounts: []ServiceAccount{{"app", "sa"}, {"other", "sa"}}, SourceIPs: cidrs("1.2.3.4/32")},
				}},
				{Matches: []Match{{SourceIPs: cidrs("10.0.0.1/32", "10.1.0.0/16"), NotSourceIPs: cidrs("fd00::/8")}}},
				{Matches: []Match{{DestinationPorts: []uint16{80}}}},
				{Matches: []Match{{NotNamespaces: []StringMatch{exact("a")}}}},
				{Matches: []Match{{Principals: []StringMatch{present()}}}},
				{Matches: []Match{{DestinationIPs: cidrs("10.2.0.1/8")}}},
			}}}
		}), ""},
		{"ALLOW with HTTP drops the rule", policyYAML(`  rules:
  - to: [{operation: {methods: [GET], ports: ["80"]}}]
  - to: [{operation: {ports: ["81"]}}]
`), with(func(p *Policy) { p.Groups = []Group{port(81)} }), "HTTP attributes (methods) need a waypoint: rules with them are left out"},
		{"ALLOW with an HTTP condition drops the rule", policyYAML("  rules:\n  - when: [{key: 'request.headers[x]', values: [y]}]\n"),
			[]Policy{base}, "request.headers[x]"},
		{"DENY with HTTP ignores it", policyYAML(`  action: DENY
  rules:
  - to: [{operation: {methods: [GET], ports: ["80"]}}]
    when: [{key: connection.sni, values: [y]}]
`), with(func(p *Policy) { p.Action, p.Groups = Deny, []Group{port(80)} }), "HTTP attributes (connection.sni, methods) need a waypoint: they are ignored"},
		{"DENY with HTTP only denies all", policyYAML(`  action: DENY
  rules:
  - to: [{operation: {paths: [/admin]}}, {operation: {ports: ["80"]}}]
    from: [{source: {namespaces: [a]}}]
`), with(func(p *Policy) {
			p.Action, p.Groups = Deny, []Group{rulesOf(Match{Namespaces: []StringMatch{exact("a")}})}
		}), "paths"},
		{"CUSTOM", policyYAML("  action: CUSTOM\n  provider: {name: x}\n  rules: [{}]\n"), nil, "action CUSTOM is not supported"},
		{"AUDIT", policyYAML("  action: AUDIT\n"), nil, "action AUDIT is not supported"},
		{"targetRefs", policyYAML("  targetRefs: [{kind: Gateway, name: w}]\n"), nil, ""},
		{"targetRef", policyYAML("  targetRef: {kind: Gateway, name: w}\n"), nil, ""},
		{"dry run", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  namespace: app\n  annotations: {istio.io/dry-run: 'true'}\n",
			with(func(p *Policy) { p.DryRun = true }), ""},
		{"other objects", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {whatever: 1}\n---\n---\n# nothing\n", nil, ""},
		{"RequestAuthentication", "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: x}\n", nil, "RequestAuthentication default/x: is about HTTP"},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: app}}\n", []Policy{base}, ""},
		{"apiVersion and kind by alias", "apiVersion: v1\nkind: List\nmetadata: {annotations: {a: &v security.istio.io/v1, b: &k AuthorizationPolicy}}\nitems:\n- {apiVersion: *v, kind: *k, metadata: {name: p, namespace: app}}\n", []Policy{base}, ""},
		{"a list item by alias", "apiVersion: v1\nkind: List\nmetadata: {a: &p {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: app}}}\nitems:\n- *p\n", []Policy{base}, ""},
		{"aliases", policyYAML("  rules:\n  - from: [{source: &a {namespaces: [a]}}]\n  - from: [{source: *a}]\n"), with(func(p *Policy) {
			g := groupOf(Match{Namespaces: []StringMatch{exact("a")}})
			p.Groups = []Group{g, g}
		}), ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := convert(t, tc.yaml)
			if d := cmp.Diff(tc.want, c.Policies, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Errorf("policies (-want +got):\n%s", d)
			}
			if tc.warning == "" && len(c.Warnings) > 0 || tc.warning != "" && (len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].String(), tc.warning)) {
				t.Errorf("warnings %v, want %q", c.Warnings, tc.warning)
			}
			if _, err := Compile(c.Policies); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name, yaml, want string
	}{
		{"syntax", "a: [\n", "test.yaml:1: malformed YAML"},
		{"not an object", "- 1\n", "test.yaml:1: invalid value: want an object"},
		{"unknown field", policyYAML("  rule: []\n"), "test.yaml:5: AuthorizationPolicy app/p: spec.rule: unknown field: did you mean rules?"},
		{"unknown field of a source", policyYAML("  rules:\n  - from:\n    - source:\n        principal: [a]\n"), "test.yaml:8: AuthorizationPolicy app/p: spec.rules[0].from[0].source.principal: unknown field: did you mean principals?"},
		{"unknown top-level field", policyYAML("  {}\nspecs: {}\n"), "test.yaml:6: AuthorizationPolicy app/p: specs: unknown field: did you mean spec?"},
		{"unknown metadata", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, nmespace: app}\n", "metadata.nmespace: unknown field"},
		{"unknown kind", "apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\n", `kind: invalid value: security.istio.io has no "AuthorisationPolicy"`},
		{"unknown version", "apiVersion: security.istio.io/v2\nkind: AuthorizationPolicy\nmetadata: {name: p}\n", "apiVersion: invalid value"},
		{"unknown action", policyYAML("  action: deny\n"), `spec.action: invalid value: "deny"`},
		{"no name", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n", "metadata.name: invalid value: it is empty"},
		{"number for a port", policyYAML("  rules: [{to: [{operation: {ports: [8080]}}]}]\n"), `ports[0]: invalid value: want a string: write "8080" with quotes`},
		{"no port", policyYAML("  rules: [{to: [{operation: {ports: ['65536']}}]}]\n"), `"65536" is not a port`},
		{"no address", policyYAML("  rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]\n"), `"10.0.0.0/33" is neither an address nor a prefix`},
		{"unknown condition", policyYAML("  rules: [{when: [{key: source.namspace, values: [a]}]}]\n"), `when[0].key: invalid value: no attribute is called "source.namspace"`},
		{"condition without values", policyYAML("  rules: [{when: [{key: source.namespace}]}]\n"), "neither values nor notValues"},
		{"empty source", policyYAML("  rules: [{from: [{source: {}}]}]\n"), "from[0].source: invalid value: it is empty"},
		{"empty operation", policyYAML("  rules: [{to: [{}]}]\n"), "to[0].operation: invalid value: it is empty"},
		{"empty principal", policyYAML("  rules: [{from: [{source: {principals: ['']}}]}]\n"), "principals[0]: invalid value: it is empty"},
		{"service account", policyYAML("  rules: [{from: [{source: {serviceAccounts: ['a/b/c']}}]}]\n"), `"a/b/c", want namespace/name or name`},
		{"service account pattern", policyYAML("  rules: [{from: [{source: {serviceAccounts: ['a/*']}}]}]\n"), `"a/*", want namespace/name or name`},
		{"twice the same field", policyYAML("  action: DENY\n  action: ALLOW\n"), "want each field once"},
		{"twice the same object", policyYAML("  {}\n") + "---\n" + policyYAML("  {}\n"), "another policy has the same namespace and name: it is also at test.yaml:1"},
		{"dry run", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, annotations: {istio.io/dry-run: maybe}}\n", `metadata.annotations["istio.io/dry-run"]`},
		{"creation time", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, creationTimestamp: yesterday}\n", "creationTimestamp: invalid value"},
		{"mode", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {mtls: {mode: strict}}\n", `spec.mtls.mode: invalid value: "strict"`},
		{"port", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}\n", `"http" is not a port`},
		{"ports without selector", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {portLevelMtls: {80: {mode: STRICT}}}\n", "it needs a selector"},
		{"no apiVersion", "kind: AuthorizationPolicy\nmetadata: {name: p}\n", "test.yaml:1: apiVersion: invalid value: it is missing"},
		{"no kind", "apiVersion: security.istio.io/v1\nmetadata: {name: p}\n", "test.yaml:1: kind: invalid value: it is missing"},
		{"two API versions", "apiVersion: v1\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n", "test.yaml:2: apiVersion: invalid value: want each field once"},
		{"null rule", policyYAML("  rules:\n  -\n"), "test.yaml:6: AuthorizationPolicy app/p: spec.rules[0]: invalid value: it is null"},
		{"empty from", policyYAML("  rules: [{from: []}]\n"), "spec.rules[0].from: invalid value: it is empty"},
		{"empty to", policyYAML("  rules: [{to: []}]\n"), "spec.rules[0].to: invalid value: it is empty"},
		{"null from", policyYAML("  rules:\n  - from:\n    to: [{operation: {ports: ['80']}}]\n"), "test.yaml:6: AuthorizationPolicy app/p: spec.rules[0].from: invalid value: it is null"},
		{"null when", policyYAML("  rules: [{when: }]\n"), "spec.rules[0].when: invalid value: it is null"},
		{"null principals", policyYAML("  rules: [{from: [{source: {principals: , namespaces: [a]}}]}]\n"), "source.principals: invalid value: it is null"},
		{"null selector", policyYAML("  selector:\n  rules: [{}]\n"), "spec.selector: invalid value: it is null"},
		{"null labels", policyYAML("  selector: {matchLabels: }\n"), "spec.selector.matchLabels: invalid value: it is null"},
		{"null label", policyYAML("  selector: {matchLabels: {app: }}\n"), "spec.selector.matchLabels.app: invalid value: it is null"},
		{"null target", policyYAML("  action: DENY\n  targetRef:\n  rules: [{}]\n"), "spec.targetRef: invalid value: it is null"},
		{"null mode", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {mtls: {mode: }}\n", "spec.mtls.mode: invalid value: it is null"},
		{"null in a list", policyYAML("  rules: [{from: [{source: {principals: [a, ]}}, ~]}]\n"), "spec.rules[0].from[1]: invalid value: it is null"},
		{"target without a name", policyYAML("  targetRef: {kind: Service}\n"), "spec.targetRef.name: invalid value: it is empty"},
		{"target with a typo", policyYAML("  targetRefs: [{kind: Service, nme: s}]\n"), "spec.targetRefs[0].nme: unknown field"},
		{"wildcard in a selector", policyYAML("  selector: {matchLabels: {app: 'web*'}}\n"), `spec.selector.matchLabels.app: invalid value: "web*", want a label without wildcards`},
		{"selector and target", policyYAML("  selector: {matchLabels: {a: b}}\n  targetRefs: [{kind: Service, name: s}]\n"), "spec.selector: invalid value"},
		{"provider without CUSTOM", policyYAML("  action: DENY\n  provider: {name: x}\n"), "spec.provider: invalid value"},
		{"a list of itself", "apiVersion: v1\nkind: List\nitems: &a\n- {kind: List, items: *a}\n", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var r Resources
			err := r.Parse("test.yaml", []byte(tc.yaml))
			if tc.want == "" {
				return // it is enough to come back
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if len(r.policies)+len(r.peers) > 0 {
				t.Error("something was added in spite of the error")
			}
		})
	}
}

func TestParseReportsAllErrors(t *testing.T) {
	var r Resources
	err := r.Parse("test.yaml", []byte(policyYAML("  action: X\n  foo: 1\n")+"---\n"+strings.Replace(policyYAML("  bar: 1\n"), "name: p", "name: q", 1)))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want three errors", err)
	}
	if err := r.Parse("a.yaml", []byte(policyYAML("  {}\n"))); err != nil {
		t.Fatal(err)
	}
	if err := r.Parse("b.yaml", []byte(policyYAML("  {}\n"))); err == nil || !strings.Contains(err.Error(), "a.yaml:1") {
		t.Errorf("the same object in another file: %v", err)
	}
}

// TestGolden converts an AuthorizationPolicy of a real cluster and compares it
// with what a real istiod (1.32-dev) made of it.
func TestGolden(t *testing.T) {
	object, err := os.ReadFile("testdata/cluster1.authorizationpolicy.json")
	if err != nil {
		t.Fatal(err)
	}
	c := convert(t, string(object))
	if d := cmp.Diff(readGolden(t), c.Policies, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("(-istiod +ours):\n%s", d)
	}
	if got := c.PoliciesFor("app", map[string]string{"app": "reviews", "version": "v1"}); !cmp.Equal(got, []string{"app/only-client"}) {
		t.Errorf("reviews: %v", got)
	}
	if got := c.PoliciesFor("app", map[string]string{"app": "client"}); len(got) > 0 {
		t.Errorf("client: %v", got)
	}
}

// readGolden reads the protobuf JSON of istio.security.Authorization, as far as
// the golden file has it.
func readGolden(t *testing.T) []Policy {
	t.Helper()
	var resources []struct {
		Resource struct {
			Name, Namespace, Scope string
			Groups                 []struct {
				Rules []struct {
					Matches []struct {
						DestinationPorts []uint16 `json:"destination_ports"`
						Principals       []struct{ Exact string }
					}
				}
			}
		}
	}
	data, err := os.ReadFile("testdata/cluster1.rbac.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &resources); err != nil {
		t.Fatal(err)
	}
	var out []Policy
	for _, r := range resources {
		p := Policy{Namespace: r.Resource.Namespace, Name: r.Resource.Name}
		for p.Scope.String() != r.Resource.Scope {
			p.Scope++
		}
		for _, g := range r.Resource.Groups {
			var group Group
			for _, rule := range g.Rules {
				var matches []Match
				for _, m := range rule.Matches {
					match := Match{DestinationPorts: m.DestinationPorts}
					for _, s := range m.Principals {
						match.Principals = append(match.Principals, exact(s.Exact))
					}
					matches = append(matches, match)
				}
				group.Rules = append(group.Rules, Rule{Matches: matches})
			}
			p.Groups = append(p.Groups, group)
		}
		out = append(out, p)
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add(policyYAML("  rules:\n  - from: [{source: {principals: ['*', 'a*'], ipBlocks: [10.0.0.0/8]}}]\n    to: [{operation: {ports: ['80'], methods: [GET]}}]\n    when: [{key: source.ip, notValues: ['::1']}]\n"))
	f.Add("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}\n")
	f.Add("kind: List\napiVersion: v1\nitems: &a\n- *a\n")
	f.Add("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: &m {name: p, annotations: *m}\n")
	f.Fuzz(func(t *testing.T, yaml string) {
		var r Resources
		if r.Parse("f", []byte(yaml)) != nil {
			return
		}
		c := r.Convert("")
		if _, err := Compile(c.Policies); err != nil {
			t.Fatalf("what was converted does not compile: %v", err)
		}
	})
}
