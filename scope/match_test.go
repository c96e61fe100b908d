package scope

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func mustCompile(t testing.TB, c *Config, opts Options) *Matcher {
	t.Helper()
	m, err := c.Compile(opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// service returns an object of a known namespace without labels.
func service(labels map[string]string) Object {
	return Object{Namespace: "app", Name: "reviews", Labels: labels, NamespaceKnown: true}
}

const (
	globalIfLabelled = "- {servicesSelector: {matchLabels: {istio.io/global: 'true'}}, scope: GLOBAL}\n"
	localIfPrivate   = "- {servicesSelector: {matchExpressions: [{key: private, operator: Exists}]}, scope: LOCAL}\n"
	everythingGlobal = "- {scope: GLOBAL}\n"
	everythingLocal  = "- {scope: LOCAL}\n"
)

// TestEvaluate has the semantics of istiod, and those of LocalWins where they
// differ.
func TestEvaluate(t *testing.T) {
	labelled := service(map[string]string{"istio.io/global": "true"})
	private := service(map[string]string{"istio.io/global": "true", "private": ""})
	inNamespace := func(labels map[string]string) Object {
		o := service(nil)
		o.NamespaceLabels = labels
		return o
	}
	unknown := labelled
	unknown.NamespaceKnown = false
	for _, tt := range []struct {
		name      string
		entries   string
		object    Object
		istio     Scope
		localWins Scope
		reason    Reason // under LocalWins
	}{
		{"no entries", "", labelled, Local, Local, NoEntry},
		{"label", globalIfLabelled, labelled, Global, Global, GlobalEntry},
		{"no label", globalIfLabelled, service(nil), Local, Local, NoEntry},
		{"another value", globalIfLabelled, service(map[string]string{"istio.io/global": "false"}), Local, Local, NoEntry},
		{"namespace not known", everythingGlobal, unknown, Local, Local, NamespaceUnknown},
		{"no selectors match everything", everythingGlobal, service(nil), Global, Global, GlobalEntry},
		{"empty selectors match everything",
			"- {namespaceSelector: {}, servicesSelector: {matchLabels: {}, matchExpressions: []}, scope: GLOBAL}\n",
			service(nil), Global, Global, GlobalEntry},
		{"LOCAL is a no-op for istiod, before", everythingLocal + everythingGlobal, service(nil), Global, Local, LocalEntry},
		{"LOCAL is a no-op for istiod, after", everythingGlobal + everythingLocal, service(nil), Global, Local, LocalEntry},
		{"LOCAL for some", localIfPrivate + globalIfLabelled, private, Global, Local, LocalEntry},
		{"LOCAL for others", localIfPrivate + globalIfLabelled, labelled, Global, Global, GlobalEntry},
		{"LOCAL alone", localIfPrivate, private, Local, Local, NoEntry},
		{"any of several", localIfPrivate + "- {servicesSelector: {matchLabels: {a: b}}, scope: GLOBAL}\n" + globalIfLabelled,
			labelled, Global, Global, GlobalEntry},
		{"both selectors must match: services only",
			"- {namespaceSelector: {matchLabels: {a: b}}, servicesSelector: {}, scope: GLOBAL}\n",
			service(map[string]string{"a": "b"}), Local, Local, NoEntry},
		{"both selectors must match: namespace only",
			"- {namespaceSelector: {matchLabels: {a: b}}, servicesSelector: {matchLabels: {c: d}}, scope: GLOBAL}\n",
			inNamespace(map[string]string{"a": "b"}), Local, Local, NoEntry},
		{"namespace selector", "- {namespaceSelector: {matchLabels: {a: b}}, scope: GLOBAL}\n",
			inNamespace(map[string]string{"a": "b"}), Global, Global, GlobalEntry},
		{"labels and expressions are anded",
			"- {servicesSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}, scope: GLOBAL}\n",
			service(map[string]string{"a": "b"}), Local, Local, NoEntry},
		{"NotIn matches a missing key",
			"- {servicesSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}, scope: GLOBAL}\n",
			service(nil), Global, Global, GlobalEntry},
		{"NotIn does not match its value",
			"- {servicesSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}, scope: GLOBAL}\n",
			service(map[string]string{"a": "b"}), Local, Local, NoEntry},
		{"DoesNotExist", "- {servicesSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}, scope: GLOBAL}\n",
			service(map[string]string{"a": ""}), Local, Local, NoEntry},
		{"Exists matches an empty value", "- {servicesSelector: {matchExpressions: [{key: a, operator: Exists}]}, scope: GLOBAL}\n",
			service(map[string]string{"a": ""}), Global, Global, GlobalEntry},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Config{}
			if tt.entries != "" {
				c = mustParse(t, "serviceScopeConfigs:\n"+tt.entries)
			}
			if got := mustCompile(t, c, Options{}).Evaluate(tt.object); got != tt.istio {
				t.Errorf("as istiod: %v, want %v", got, tt.istio)
			}
			m := mustCompile(t, c, Options{Precedence: LocalWins})
			if got := m.Evaluate(tt.object); got != tt.localWins {
				t.Errorf("LocalWins: %v, want %v", got, tt.localWins)
			}
			if ex := m.Explain(tt.object); ex.Scope != tt.localWins || ex.Reason != tt.reason {
				t.Errorf("explained as %v (%v), want %v (%v)", ex.Scope, ex.Reason, tt.localWins, tt.reason)
			}
		})
	}
}

func TestDefaultIsTheAmbientProfile(t *testing.T) {
	m := mustCompile(t, Default(), Options{})
	if got := m.Evaluate(service(map[string]string{"istio.io/global": "true"})); got != Global {
		t.Errorf("labelled: %v, want GLOBAL", got)
	}
	if got := m.Evaluate(service(nil)); got != Local {
		t.Errorf("not labelled: %v, want LOCAL", got)
	}
}

func TestClusterLocal(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings string
		opts     Options
		want     map[string]bool
	}{
		{"defaults", "", Options{}, map[string]bool{
			"dns.kube-system.svc.cluster.local":     true,
			"kubernetes.default.svc.cluster.local":  true,
			"istiod.istio-system.svc.cluster.local": true,
			"reviews.app.svc.cluster.local":         false,
			"kube-system.svc.cluster.local":         false,
			"dns.kube-system.svc.other.domain":      false,
		}},
		{"domain and control plane", "", Options{Domain: "corp", DiscoveryHost: "cp.mesh.svc"}, map[string]bool{
			"dns.kube-system.svc.corp":     true,
			"cp.mesh.svc.corp":             true,
			"istiod.istio-system.svc.corp": false,
		}},
		{"domain in any case", "", Options{Domain: "Corp.Example"}, map[string]bool{
			"dns.kube-system.svc.corp.example":     true,
			"kubernetes.default.svc.Corp.Example":  true,
			"istiod.istio-system.svc.corp.example": true,
		}},
		{"control plane with domain", "", Options{DiscoveryHost: "cp.mesh.svc.cluster.local"}, map[string]bool{
			"cp.mesh.svc.cluster.local": true,
		}},
		{"the most specific host wins", `
- {settings: {clusterLocal: true}, hosts: ["*.svc.cluster.local"]}
- {settings: {clusterLocal: false}, hosts: ["*.app.svc.cluster.local"]}
- {settings: {clusterLocal: true}, hosts: ["db.app.svc.cluster.local"]}`, Options{}, map[string]bool{
			"a.b.svc.cluster.local":    true,
			"a.app.svc.cluster.local":  false,
			"db.app.svc.cluster.local": true,
			"DB.app.svc.cluster.local": true,
			"elsewhere.example.com":    false,
		}},
		{"a star is everything", `
- {settings: {clusterLocal: true}, hosts: ["*"]}`, Options{}, map[string]bool{"a.b": true, "": true}},
		{"a star may lack its dot", `
- {settings: {clusterLocal: true}, hosts: ["*-db.example.com"]}`, Options{}, map[string]bool{
			"a-db.example.com": true, "a.example.com": false,
		}},
		{"the last of equal hosts counts", `
- {settings: {clusterLocal: true}, hosts: [a.b]}
- {settings: {clusterLocal: false}, hosts: [a.b]}`, Options{}, map[string]bool{"a.b": false}},
		{"false removes an equal default", `
- {settings: {clusterLocal: false}, hosts: [kubernetes.default.svc.cluster.local]}`, Options{}, map[string]bool{
			"kubernetes.default.svc.cluster.local": false,
			"dns.kube-system.svc.cluster.local":    true,
		}},
		{"false within a default wildcard removes all of it", `
- {settings: {clusterLocal: false}, hosts: [dns.kube-system.svc.cluster.local]}`, Options{}, map[string]bool{
			"dns.kube-system.svc.cluster.local":   false,
			"other.kube-system.svc.cluster.local": false,
		}},
		{"no settings means false", `
- {hosts: ["*.kube-system.svc.cluster.local"]}`, Options{}, map[string]bool{
			"dns.kube-system.svc.cluster.local": false,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustCompile(t, mustParse(t, "serviceSettings:"+tt.settings), tt.opts)
			for host, want := range tt.want {
				if got := m.ClusterLocal(host); got != want {
					t.Errorf("ClusterLocal(%q) = %v, want %v", host, got, want)
				}
			}
		})
	}
}

func TestClusterLocalAndScope(t *testing.T) {
	c := mustParse(t, "serviceScopeConfigs: [{scope: GLOBAL}]\nserviceSettings:\n"+
		"- {settings: {clusterLocal: true}, hosts: ['*.app.svc.cluster.local']}\n")
	named := func(namespace, name, host string) Object {
		return Object{Namespace: namespace, Name: name, Host: host, NamespaceKnown: true}
	}
	for _, tt := range []struct {
		object    Object
		localWins Scope
	}{
		{named("app", "reviews", ""), Local},
		{named("other", "reviews", ""), Global},
		{named("kube-system", "dns", ""), Local},
		{named("app", "reviews", "reviews.example.com"), Global},
	} {
		// istiod asks serviceSettings only for the endpoints of sidecars.
		if got := mustCompile(t, c, Options{}).Evaluate(tt.object); got != Global {
			t.Errorf("as istiod: %+v is %v, want GLOBAL", tt.object, got)
		}
		m := mustCompile(t, c, Options{Precedence: LocalWins})
		if got := m.Evaluate(tt.object); got != tt.localWins {
			t.Errorf("LocalWins: %+v is %v, want %v", tt.object, got, tt.localWins)
		}
		if got := m.Explain(tt.object).Scope; got != tt.localWins {
			t.Errorf("Explain: %+v is %v, want %v", tt.object, got, tt.localWins)
		}
	}
}

func TestExplain(t *testing.T) {
	c := mustParse(t, "# comment\nserviceScopeConfigs:\n"+globalIfLabelled+localIfPrivate+
		"serviceSettings:\n- {settings: {clusterLocal: true}, hosts: [db.app.svc.cluster.local]}\n")
	m := mustCompile(t, c, Options{Precedence: LocalWins})
	labels := map[string]string{"istio.io/global": "true"}
	for _, tt := range []struct {
		name   string
		object Object
		want   string
	}{
		{"global", service(labels), "GLOBAL: serviceScopeConfigs[0] (line 3) matches"},
		{"local entry", service(map[string]string{"istio.io/global": "true", "private": "x"}),
			"LOCAL: serviceScopeConfigs[1] (line 4) matches, and LOCAL wins"},
		{"default", service(nil), "LOCAL: no GLOBAL entry matches"},
		{"host", Object{Namespace: "app", Name: "db", Labels: labels, NamespaceKnown: true},
			"LOCAL: host rule db.app.svc.cluster.local (line 6) makes it cluster-local"},
		{"default host", Object{Namespace: "default", Name: "kubernetes", Labels: labels, NamespaceKnown: true},
			"LOCAL: host rule kubernetes.default.svc.cluster.local makes it cluster-local"},
		{"namespace", Object{Namespace: "app", Labels: labels}, "LOCAL: its namespace is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.Explain(tt.object).String(); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}

	steps := m.Explain(service(labels)).Steps
	if len(steps) != 2 || !steps[0].Matches() || steps[1].Matches() || !steps[1].NamespaceMatches || steps[1].Line != 4 {
		t.Errorf("steps %+v", steps)
	}
}

func TestCompileErrors(t *testing.T) {
	bad := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}
	for _, tt := range []struct {
		path   string
		config Config
		opts   Options
	}{
		{"serviceScopeConfigs[0].namespaceSelector", Config{Entries: []Entry{{NamespaceSelector: bad}}}, Options{}},
		{"serviceScopeConfigs[1].servicesSelector", Config{Entries: []Entry{{}, {ServicesSelector: bad}}}, Options{}},
		{"serviceScopeConfigs[0].scope", Config{Entries: []Entry{{Scope: 2}}}, Options{}},
		{"serviceSettings[0].hosts[1]", Config{Settings: []ServiceSetting{{Hosts: []string{"a", "b.*"}}}}, Options{}},
		{"Options.Precedence", Config{}, Options{Precedence: 2}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			_, err := tt.config.Compile(tt.opts)
			var compileErr *CompileError
			if !errors.As(err, &compileErr) || compileErr.Path != tt.path {
				t.Errorf("error %v, want a CompileError of %s", err, tt.path)
			}
		})
	}
}

func TestMatcherKeepsNothingOfItsConfig(t *testing.T) {
	c := Default()
	m := mustCompile(t, c, Options{})
	c.Entries[0].ServicesSelector.MatchExpressions[0].Values[0] = "changed"
	c.Entries[0].Scope = Local
	if got := m.Evaluate(service(map[string]string{"istio.io/global": "true"})); got != Global {
		t.Errorf("after the config was changed: %v, want GLOBAL", got)
	}
}

func TestAnd(t *testing.T) {
	for _, a := range []Scope{Local, Global} {
		for _, b := range []Scope{Local, Global} {
			if got, want := a.And(b), min(a, b); got != want {
				t.Errorf("%v.And(%v) = %v, want %v", a, b, got, want)
			}
		}
	}
}

func TestScopeText(t *testing.T) {
	for _, s := range []Scope{Local, Global} {
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again Scope
		if err := again.UnmarshalText(text); err != nil || again != s {
			t.Errorf("%v became %v, %v", s, again, err)
		}
	}
	var s Scope
	if err := s.UnmarshalText([]byte("global")); err == nil {
		t.Error("global was accepted")
	}
}
