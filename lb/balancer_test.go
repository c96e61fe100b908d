package lb

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// newBalancer returns a Balancer with a fixed seed, unless c has a Rand.
func newBalancer(t testing.TB, c Config, targets ...Target[string]) *Balancer[string] {
	t.Helper()
	if c.Rand == nil {
		c.Rand = seeded()
	}
	b, err := New[string](c)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Update(targets); err != nil {
		t.Fatal(err)
	}
	return b
}

// seeded returns a random source that is the same in every run.
func seeded() func() uint64 {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}

// at returns a target in a network and zone, of weight 1.
func at(name, network, zone string) Target[string] {
	return Target[string]{Value: name, Key: name, Locality: Locality{Network: network, Zone: zone}, Weight: 1}
}

func weighted(name string, weight uint32) Target[string] {
	return Target[string]{Value: name, Key: name, Weight: weight}
}

func mustPick(t testing.TB, b *Balancer[string], r Request) Pick[string] {
	t.Helper()
	p, err := b.Pick(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// picked returns who was picked in n picks, and how often.
func picked(t testing.TB, b *Balancer[string], n int, r Request) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for range n {
		p := mustPick(t, b, r)
		counts[p.Value]++
		p.Done(Outcome{})
	}
	return counts
}

func wantPicked(t testing.TB, b *Balancer[string], r Request, want ...string) {
	t.Helper()
	got := picked(t, b, 200, r)
	for _, name := range want {
		if got[name] == 0 {
			t.Errorf("%s was not picked: %v", name, got)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("picked %v besides %v", got, want)
	}
}

func TestFailover(t *testing.T) {
	source := Locality{Network: "n1", Zone: "z1"}
	policy := Policy{Mode: Failover, Preferences: []Scope{Network, Zone}}
	down := func(t Target[string]) Target[string] { t.Health = Unhealthy; return t }
	zero := func(t Target[string]) Target[string] { t.Weight = 0; return t }
	here, there := at("here", "n1", "z1"), at("there", "n1", "z2")
	away, awaySame := at("away", "n2", "z2"), at("awaySame", "n2", "z1")
	for _, tt := range []struct {
		name    string
		targets []Target[string]
		want    []string
	}{
		{"best rank only", []Target[string]{away, awaySame, there, here}, []string{"here"}},
		{"same network before same zone", []Target[string]{away, awaySame, there}, []string{"there"}},
		{"the zone ranks remote networks", []Target[string]{away, awaySame}, []string{"awaySame"}},
		{"unhealthy ones fail over", []Target[string]{down(here), there, away}, []string{"there"}},
		{"those without capacity fail over", []Target[string]{zero(here), away}, []string{"away"}},
		{"last resort", []Target[string]{away}, []string{"away"}},
		{"equal ranks share", []Target[string]{away, at("far", "n3", "z3")}, []string{"away", "far"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBalancer(t, Config{Source: source, Policy: policy}, tt.targets...)
			wantPicked(t, b, Request{}, tt.want...)
		})
	}
}

func TestHealthPolicy(t *testing.T) {
	sick := at("sick", "", "")
	sick.Health = Unhealthy
	b := newBalancer(t, Config{}, sick, at("well", "", ""))
	wantPicked(t, b, Request{}, "well")
	if err := b.SetPolicy(Policy{Health: AllowAll}); err != nil {
		t.Fatal(err)
	}
	wantPicked(t, b, Request{}, "sick", "well")
}

func TestPassthrough(t *testing.T) {
	b := newBalancer(t, Config{Policy: Policy{Mode: Passthrough}}, at("a", "", ""))
	if _, err := b.Pick(Request{}); !errors.Is(err, ErrPassthrough) {
		t.Errorf("error %v, want ErrPassthrough", err)
	}
}

func TestNoTarget(t *testing.T) {
	sick := at("sick", "n1", "z1")
	sick.Health = Unhealthy
	drains := &DrainSet{}
	drains.Set(Drain{Network: "drained"})
	for _, tt := range []struct {
		name    string
		mode    Mode
		targets []Target[string]
		request Request
		want    NoTargetError
	}{
		{"none", Standard, nil, Request{}, NoTargetError{Reason: NoTargets}},
		{"weights", Standard, []Target[string]{weighted("a", 0)}, Request{},
			NoTargetError{Reason: NoneWeighted, Targets: 1, WeightZero: 1}},
		{"drained", Standard, []Target[string]{weighted("a", 0), at("b", "drained", "")}, Request{},
			NoTargetError{Reason: AllDrained, Targets: 2, WeightZero: 1, Drained: 1}},
		{"health", Failover, []Target[string]{sick, at("b", "drained", "")}, Request{},
			NoTargetError{Reason: NoneHealthy, Targets: 2, NotHealthy: 1, Drained: 1}},
		{"strict", Strict, []Target[string]{sick, at("b", "n1", "z2"), at("c", "n2", "z1")}, Request{},
			NoTargetError{Reason: NoneMatching, Targets: 3, NotHealthy: 1, NotMatching: 2}},
		{"excluded", Failover, []Target[string]{at("a", "n1", "z1"), at("b", "n2", "z1")},
			Request{Exclude: []ID{1, 2}}, NoTargetError{Reason: AllExcluded, Targets: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBalancer(t, Config{
				Source: Locality{Network: "n1", Zone: "z1"},
				Policy: Policy{Mode: tt.mode, Preferences: []Scope{Network, Zone}},
				Drains: drains,
			}, tt.targets...)
			_, err := b.Pick(tt.request)
			var got *NoTargetError
			if !errors.As(err, &got) || !errors.Is(err, ErrNoTarget) {
				t.Fatalf("error %v, want a NoTargetError", err)
			}
			tt.want.Policy = got.Policy
			if got.Error() != tt.want.Error() {
				t.Errorf("error %v, want %v", got, &tt.want)
			}
		})
	}
}

func TestUpdateRefusesBadTargets(t *testing.T) {
	b := newBalancer(t, Config{}, at("kept", "", ""))
	for _, tt := range []struct {
		name    string
		targets []Target[string]
		reason  string
	}{
		{"same key", []Target[string]{at("a", "", ""), at("a", "", "")}, "same key"},
		{"health", []Target[string]{at("a", "", ""), {Key: "b", Health: 7}}, "Health(7)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := b.Update(tt.targets)
			var targetErr *TargetError
			if !errors.As(err, &targetErr) || targetErr.Index != 1 || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %v, want a TargetError of target 1: %s", err, tt.reason)
			}
			wantPicked(t, b, Request{}, "kept")
		})
	}
}

func TestExcludeGoesOnToTheNextRank(t *testing.T) {
	for algorithm := WeightedRandom; algorithm <= Consistent; algorithm++ {
		t.Run(algorithm.String(), func(t *testing.T) {
			b := newBalancer(t, Config{
				Algorithm: algorithm,
				Source:    Locality{Network: "n1"},
				Policy:    Policy{Mode: Failover, Preferences: []Scope{Network}},
			}, at("a", "n1", ""), at("b", "n1", ""), at("c", "n2", ""))
			var tried []ID
			var names []string
			for range 3 {
				p := mustPick(t, b, Request{Hash: 7, Exclude: tried})
				p.Done(Outcome{Err: errors.New("refused")})
				tried = append(tried, p.ID, p.ID, 12345)
				names = append(names, p.Value)
			}
			if got := strings.Join(names, ""); got != "abc" && got != "bac" {
				t.Errorf("tried %s, want a and b in any order, then c", got)
			}
			if _, err := b.Pick(Request{Exclude: tried}); !errors.Is(err, ErrNoTarget) {
				t.Errorf("error %v, want ErrNoTarget", err)
			}
		})
	}
}

func TestStateIsKeptByKey(t *testing.T) {
	b := newBalancer(t, Config{Algorithm: LeastRequest}, weighted("a", 1))
	p := mustPick(t, b, Request{})
	if err := b.Update([]Target[string]{weighted("b", 1), weighted("a", 5)}); err != nil {
		t.Fatal(err)
	}
	if r := b.Explain()[1]; r.ID != p.ID || r.InFlight != 1 {
		t.Errorf("after Update: ID %d, in flight %d; want %d, 1", r.ID, r.InFlight, p.ID)
	}
	p.Done(Outcome{})
	if r := b.Explain()[1]; r.InFlight != 0 {
		t.Errorf("after Done: in flight %d, want 0", r.InFlight)
	}
	// A key that comes back is another target.
	b.Update(nil)
	b.Update([]Target[string]{weighted("a", 1)})
	if r := b.Explain()[0]; r.ID == p.ID {
		t.Error("the ID of a target that was gone was used again")
	}
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	b := newBalancer(t, Config{Algorithm: LeastRequest}, weighted("a", 1), weighted("b", 1), weighted("c", 2))
	inFlight := map[string]int{}
	for range 400 {
		inFlight[mustPick(t, b, Request{}).Value]++ // never Done
	}
	for name, want := range map[string]int{"a": 100, "b": 100, "c": 200} {
		if got := inFlight[name]; got < want-5 || got > want+5 {
			t.Errorf("%s has %d in flight, want about %d", name, got, want)
		}
	}
}

func TestDrain(t *testing.T) {
	drains := &DrainSet{}
	config := Config{
		Source: Locality{Network: "n1"},
		Policy: Policy{Mode: Failover, Preferences: []Scope{Network}},
		Drains: drains,
	}
	target := func(name, network, cluster, gateway string) Target[string] {
		return Target[string]{Value: name, Key: name, Weight: 1, Gateway: gateway,
			Locality: Locality{Network: network, Cluster: cluster}}
	}
	b := newBalancer(t, config, target("local", "n1", "c1", ""),
		target("g1", "n2", "c2", "gw1"), target("g2", "n2", "c2", "gw2"), target("c3", "n3", "c3", "gw3"))
	other := newBalancer(t, config, target("local", "n1", "c1", ""), target("far", "n2", "c2", "gw1"))

	drains.Set(Drain{})
	wantPicked(t, b, Request{}, "local")
	drains.Set(Drain{Cluster: "c1"})
	wantPicked(t, b, Request{}, "g1", "g2", "c3")
	wantPicked(t, other, Request{}, "far")
	drains.Add(Drain{Network: "n2", Gateway: "gw1"})
	wantPicked(t, b, Request{}, "g2", "c3")
	if _, err := other.Pick(Request{}); !errors.Is(err, ErrNoTarget) {
		t.Errorf("all drained: error %v, want ErrNoTarget", err)
	}
	drains.Add(Drain{Network: "n2"})
	wantPicked(t, b, Request{}, "c3")
	drains.Remove(Drain{Cluster: "c1"})
	wantPicked(t, b, Request{}, "local")
	if got := len(drains.List()); got != 2 {
		t.Errorf("%d drains are left, want 2", got)
	}
}

func TestExplain(t *testing.T) {
	sick := at("sick", "n1", "z1")
	sick.Health = Unhealthy
	gone := at("gone", "n4", "z1")
	none := at("none", "n1", "z1")
	none.Weight = 0
	two := at("two", "n1", "z1")
	two.Weight = 3
	drains := &DrainSet{}
	drains.Set(Drain{Network: "n4"})
	b := newBalancer(t, Config{
		Source: Locality{Network: "n1", Zone: "z1"},
		Policy: Policy{Mode: Failover, Preferences: []Scope{Network, Zone}},
		Drains: drains,
	}, at("one", "n1", "z1"), two, at("next", "n1", "z2"), sick, gone, none)
	want := []struct {
		verdict Verdict
		rank    int
		share   float64
	}{{InUse, 3, 0.25}, {InUse, 3, 0.75}, {Standby, 2, 0}, {NotHealthy, 3, 0}, {Drained, 1, 0}, {WeightZero, 3, 0}}
	for i, r := range b.Explain() {
		if r.Verdict != want[i].verdict || r.Rank != want[i].rank || r.Share != want[i].share {
			t.Errorf("%s: %v, rank %d, share %v; want %v", r.Target.Value, r.Verdict, r.Rank, r.Share, want[i])
		}
	}
}

// TestConcurrentUse checks under the race detector that every Pick is of the
// targets of one of the Updates around it, and that nothing is left in flight.
func TestConcurrentUse(t *testing.T) {
	drains := &DrainSet{}
	for algorithm := WeightedRandom; algorithm <= Consistent; algorithm++ {
		b := newBalancer(t, Config{
			Algorithm: algorithm,
			Drains:    drains,
			Outlier:   Outlier{Failures: 3, Ejection: 1},
			Rand:      rand.Uint64,
		}, weighted("a", 1), weighted("b", 2))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 500 {
					p, err := b.Pick(Request{Hash: uint64(i), Exclude: []ID{ID(i % 3)}})
					if err != nil {
						t.Errorf("%v: %v", algorithm, err)
						return
					}
					var outcome Outcome
					if i%2 == 0 {
						outcome.Err = errors.New("refused")
					}
					p.Done(outcome)
				}
			})
		}
		wg.Go(func() {
			for i := range 100 {
				b.Update([]Target[string]{weighted("a", 1), weighted("b", 2), weighted("c", uint32(i%2))})
				drains.Set(Drain{Cluster: string(rune('a' + i%26))})
				b.Explain()
				b.SetPolicy(Policy{Mode: Mode(i % 2 * 2)})
			}
		})
		wg.Wait()
		for _, r := range b.Explain() {
			if r.InFlight != 0 {
				t.Errorf("%v: %s has %d in flight, want 0", algorithm, r.Target.Value, r.InFlight)
			}
		}
	}
}
