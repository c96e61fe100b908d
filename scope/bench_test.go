package scope

import (
	"fmt"
	"testing"
)

// twentyEntries returns a config that looks at namespaces and services in all
// the ways there are; few services match any of it.
func twentyEntries() *Config {
	data := "serviceScopeConfigs:\n"
	for i := range 5 {
		data += fmt.Sprintf(`
- {namespaceSelector: {matchLabels: {team: t%[1]d}}, servicesSelector: {matchLabels: {tier: t%[1]d}}, scope: GLOBAL}
- {servicesSelector: {matchExpressions: [{key: share-%[1]d, operator: Exists}]}, scope: GLOBAL}
- {servicesSelector: {matchExpressions: [{key: istio.io/global, operator: In, values: ["v%[1]d", "w%[1]d"]}]}, scope: GLOBAL}
- {namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [prod, stage]}]}, scope: LOCAL}
`, i)
	}
	c, err := Parse([]byte(data))
	if err != nil {
		panic(err)
	}
	return c
}

// manyServices returns services of 1,000 namespaces, with labels as services
// have them.
func manyServices(n int) []Object {
	objects := make([]Object, n)
	for i := range objects {
		objects[i] = Object{
			Namespace: fmt.Sprint("ns-", i%1000),
			Name:      fmt.Sprint("service-", i),
			Labels: map[string]string{
				"app": fmt.Sprint("app-", i), "version": "v1", "tier": fmt.Sprint("t", i%50),
				"app.kubernetes.io/managed-by": "Helm", "istio.io/global": fmt.Sprint(i%3 == 0),
			},
			NamespaceKnown: true,
			NamespaceLabels: map[string]string{
				"kubernetes.io/metadata.name": fmt.Sprint("ns-", i%1000), "team": fmt.Sprint("t", i%100), "env": "prod",
			},
		}
	}
	return objects
}

func TestEvaluateDoesNotAllocate(t *testing.T) {
	m := mustCompile(t, twentyEntries(), Options{})
	o := manyServices(1)[0]
	if allocs := testing.AllocsPerRun(100, func() { m.Evaluate(o) }); allocs != 0 {
		t.Errorf("%v allocations per Evaluate, want 0", allocs)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	for _, precedence := range []Precedence{GlobalWins, LocalWins} {
		b.Run(fmt.Sprintf("%v/services=100000/entries=20", precedence), func(b *testing.B) {
			m := mustCompile(b, twentyEntries(), Options{Precedence: precedence})
			objects := manyServices(100000)
			b.ReportAllocs()
			for b.Loop() {
				for i := range objects {
					m.Evaluate(objects[i])
				}
			}
		})
	}
}

func newBenchTracker(b *testing.B) (*Tracker, []Object) {
	tracker := NewTracker(mustCompile(b, twentyEntries(), Options{}))
	objects := manyServices(100000)
	for _, o := range objects {
		tracker.SetNamespace(o.Namespace, o.NamespaceLabels)
	}
	for _, o := range objects {
		tracker.SetService(Key{o.Namespace, o.Name}, o.Labels)
	}
	return tracker, objects
}

func BenchmarkTrackerLabelChange(b *testing.B) {
	tracker, objects := newBenchTracker(b)
	key := Key{objects[77].Namespace, objects[77].Name}
	labels := []map[string]string{{"share-3": ""}, objects[77].Labels}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tracker.SetService(key, labels[i%2])
	}
}

func BenchmarkTrackerConfigChange(b *testing.B) {
	tracker, _ := newBenchTracker(b)
	matchers := []*Matcher{
		mustCompile(b, twentyEntries(), Options{}),
		mustCompile(b, twentyEntries(), Options{Precedence: LocalWins}),
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tracker.SetMatcher(matchers[i%2])
	}
}

func BenchmarkParse(b *testing.B) {
	data, err := twentyEntries().YAML()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
