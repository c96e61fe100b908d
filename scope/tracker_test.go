package scope

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTracker(t *testing.T) {
	tracker := NewTracker(mustCompile(t, Default(), Options{}))
	reviews, ratings := Key{"app", "reviews"}, Key{"app", "ratings"}
	label := map[string]string{"istio.io/global": "true"}

	if _, changed := tracker.SetService(reviews, label); changed {
		t.Error("a service became Global before its namespace was known")
	}
	tracker.SetService(ratings, nil)
	wantChanges(t, "namespace appears", tracker.SetNamespace("app", nil), Change{reviews, Local, Global})
	wantChanges(t, "namespace is the same", tracker.SetNamespace("app", nil))
	if c, changed := tracker.SetService(ratings, label); !changed || c != (Change{ratings, Local, Global}) {
		t.Errorf("ratings is labelled: %+v, %v", c, changed)
	}
	if _, changed := tracker.SetService(ratings, label); changed {
		t.Error("setting the same labels is a change")
	}
	all := mustCompile(t, &Config{}, Options{})
	wantChanges(t, "config without entries", tracker.SetMatcher(all), Change{ratings, Global, Local}, Change{reviews, Global, Local})
	wantChanges(t, "default config again", tracker.SetMatcher(mustCompile(t, Default(), Options{})),
		Change{ratings, Local, Global}, Change{reviews, Local, Global})
	if ex, ok := tracker.Explain(reviews); !ok || ex.Reason != GlobalEntry {
		t.Errorf("explained as %+v, %v", ex, ok)
	}
	if c, changed := tracker.RemoveService(ratings); !changed || c != (Change{ratings, Global, Local}) {
		t.Errorf("ratings is removed: %+v, %v", c, changed)
	}
	if _, changed := tracker.RemoveService(ratings); changed {
		t.Error("ratings was removed twice")
	}
	wantChanges(t, "namespace goes", tracker.RemoveNamespace("app"), Change{reviews, Global, Local})
	wantChanges(t, "namespace is gone", tracker.RemoveNamespace("app"))
	if s, ok := tracker.Scope(reviews); s != Local || !ok {
		t.Errorf("reviews is %v, %v; want LOCAL, true", s, ok)
	}
	if _, ok := tracker.Scope(ratings); ok {
		t.Error("ratings is still there")
	}
	tracker.RemoveService(reviews)
	if len(tracker.namespaces) != 0 {
		t.Errorf("%d namespaces are kept for nothing", len(tracker.namespaces))
	}
}

func wantChanges(t *testing.T, what string, got []Change, want ...Change) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: changes (-want +got):\n%s", what, diff)
	}
}

func TestTrackerCopiesLabels(t *testing.T) {
	tracker := NewTracker(mustCompile(t, Default(), Options{}))
	label := map[string]string{"istio.io/global": "true"}
	tracker.SetNamespace("app", nil)
	tracker.SetService(Key{"app", "reviews"}, label)
	delete(label, "istio.io/global")
	wantChanges(t, "namespace is set again", tracker.SetNamespace("app", nil))
}

// world is the oracle of TestTrackerMatchesOracle: it keeps what is there and
// judges everything from scratch, by the plainest reading of istiod's rules and
// of LocalWins.
type world struct {
	config     *Config
	opts       Options
	namespaces map[string]map[string]string
	services   map[Key]map[string]string
}

func (w *world) scopes() map[Key]Scope {
	scopes := map[Key]Scope{}
	for key, labels := range w.services {
		scopes[key] = w.scope(key, labels)
	}
	return scopes
}

func (w *world) scope(key Key, labels map[string]string) Scope {
	nsLabels, known := w.namespaces[key.Namespace]
	if !known {
		return Local
	}
	global, local := false, false
	for _, e := range w.config.Entries {
		if slowMatch(e.NamespaceSelector, nsLabels) && slowMatch(e.ServicesSelector, labels) {
			global = global || e.Scope == Global
			local = local || e.Scope == Local
		}
	}
	if w.opts.Precedence == LocalWins && (local || key.Namespace == "kube-system") {
		return Local
	}
	if global {
		return Global
	}
	return Local
}

func slowMatch(s *metav1.LabelSelector, labels map[string]string) bool {
	if s == nil {
		return true
	}
	for k, v := range s.MatchLabels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		value, has := labels[r.Key]
		in := false
		for _, v := range r.Values {
			in = in || (has && v == value)
		}
		ok := map[metav1.LabelSelectorOperator]bool{
			metav1.LabelSelectorOpIn:           in,
			metav1.LabelSelectorOpNotIn:        !in,
			metav1.LabelSelectorOpExists:       has,
			metav1.LabelSelectorOpDoesNotExist: !has,
		}[r.Operator]
		if !ok {
			return false
		}
	}
	return true
}

func randomLabels(r *rand.Rand) map[string]string {
	labels := map[string]string{}
	for _, key := range []string{"a", "b"} {
		if i := r.IntN(3); i > 0 {
			labels[key] = []string{"", "x", "y"}[i]
		}
	}
	return labels
}

func randomSelector(r *rand.Rand) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	switch r.IntN(3) {
	case 0:
		return nil
	case 1:
		s.MatchLabels = randomLabels(r)
	}
	for range r.IntN(2) {
		req := metav1.LabelSelectorRequirement{Key: []string{"a", "b"}[r.IntN(2)]}
		switch r.IntN(4) {
		case 0:
			req.Operator, req.Values = metav1.LabelSelectorOpIn, []string{"x", "z"}
		case 1:
			req.Operator, req.Values = metav1.LabelSelectorOpNotIn, []string{"y"}
		case 2:
			req.Operator = metav1.LabelSelectorOpExists
		case 3:
			req.Operator = metav1.LabelSelectorOpDoesNotExist
		}
		s.MatchExpressions = append(s.MatchExpressions, req)
	}
	return s
}

func randomConfig(r *rand.Rand) *Config {
	c := &Config{}
	for range r.IntN(4) {
		c.Entries = append(c.Entries, Entry{
			NamespaceSelector: randomSelector(r),
			ServicesSelector:  randomSelector(r),
			Scope:             Scope(r.IntN(2)),
		})
	}
	return c
}

// TestTrackerMatchesOracle feeds a Tracker random events, and checks after each
// that what it reported leads from the scopes before to the scopes that are
// right now, and that each report is a real change.
func TestTrackerMatchesOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	w := &world{config: &Config{}, namespaces: map[string]map[string]string{}, services: map[Key]map[string]string{}}
	tracker := NewTracker(mustCompile(t, w.config, w.opts))
	reported := map[Key]Scope{} // what a follower of the changes knows to be Global

	for i := range 5000 {
		var changes []Change
		namespace := []string{"app", "db", "kube-system"}[r.IntN(3)]
		key := Key{namespace, fmt.Sprint("s", r.IntN(5))}
		one := func(c Change, changed bool) {
			if changed {
				changes = append(changes, c)
			}
		}
		switch r.IntN(10) {
		case 0:
			delete(w.namespaces, namespace)
			changes = tracker.RemoveNamespace(namespace)
		case 1, 2:
			w.namespaces[namespace] = randomLabels(r)
			changes = tracker.SetNamespace(namespace, w.namespaces[namespace])
		case 3:
			delete(w.services, key)
			one(tracker.RemoveService(key))
		case 4:
			w.config, w.opts = randomConfig(r), Options{Precedence: Precedence(r.IntN(2))}
			changes = tracker.SetMatcher(mustCompile(t, w.config, w.opts))
		default:
			w.services[key] = randomLabels(r)
			one(tracker.SetService(key, w.services[key]))
		}

		for _, c := range changes {
			if c.Before == c.After || reported[c.Key] != c.Before {
				t.Fatalf("event %d: %+v was reported of a service that was %v", i, c, reported[c.Key])
			}
			reported[c.Key] = c.After
		}
		want := w.scopes()
		if diff := cmp.Diff(want, tracker.Scopes()); diff != "" {
			t.Fatalf("event %d: scopes (-want +got):\n%s", i, diff)
		}
		for key, s := range reported {
			if want[key] != s {
				t.Fatalf("event %d: %v is %v, but %v was reported last", i, key, want[key], s)
			}
		}
		for key, s := range want {
			if reported[key] != s {
				t.Fatalf("event %d: %v became %v, and it was not reported", i, key, s)
			}
			if ex, ok := tracker.Explain(key); !ok || ex.Scope != s {
				t.Fatalf("event %d: %v is %v and explained as %v", i, key, s, ex)
			}
		}
	}
}

func TestTrackerConcurrentUse(t *testing.T) {
	m := mustCompile(t, Default(), Options{Precedence: LocalWins})
	tracker := NewTracker(m)
	label := map[string]string{"istio.io/global": "true"}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			key := Key{"app", fmt.Sprint("s", g)}
			for i := range 200 {
				tracker.SetNamespace("app", label)
				tracker.SetService(key, label)
				tracker.Scopes()
				tracker.Explain(key)
				tracker.SetMatcher(m)
				if i%2 == 0 {
					tracker.RemoveService(key)
				}
			}
		})
	}
	wg.Wait()
	if got := len(tracker.Scopes()); got != 4 {
		t.Errorf("%d services, want 4", got)
	}
}
