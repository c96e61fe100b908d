package lb

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRank holds ranks to what ztunnel computes.
func TestRank(t *testing.T) {
	source := Locality{Network: "n1", Cluster: "c1", Region: "r1", Zone: "z1", Subzone: "s1", Node: "w1"}
	with := func(change func(*Locality)) Locality {
		l := source
		change(&l)
		return l
	}
	sameZone := []Scope{Network, Region, Zone}
	for _, tt := range []struct {
		name   string
		prefs  []Scope
		target Locality
		rank   int
		strict bool
	}{
		{"no preferences", nil, Locality{}, 0, true},
		{"all match", []Scope{Region, Zone, Subzone, Node}, source, 4, true},
		{"prefix ends at the first mismatch", []Scope{Region, Zone, Subzone},
			with(func(l *Locality) { l.Zone = "z2" }), 1, false},
		{"zone does not need region", []Scope{Zone}, with(func(l *Locality) { l.Region = "r2" }), 1, true},
		{"a first mismatch is rank 0", []Scope{Region, Zone}, with(func(l *Locality) { l.Region = "r2" }), 0, false},
		{"cluster", []Scope{Cluster}, with(func(l *Locality) { l.Cluster = "c2" }), 0, false},

		{"network first, local, nothing else", sameZone, Locality{Network: "n1"}, 3, false},
		{"network first, local, region", sameZone, Locality{Network: "n1", Region: "r1"}, 4, false},
		{"network first, local, region and zone", sameZone, source, 5, true},
		{"network first, local, zone only", sameZone, Locality{Network: "n1", Zone: "z1"}, 3, false},
		{"network first, remote, nothing else", sameZone, Locality{Network: "n2"}, 0, false},
		{"network first, remote, region", sameZone, Locality{Network: "n2", Region: "r1"}, 1, false},
		{"network first, remote, region and zone", sameZone,
			with(func(l *Locality) { l.Network = "n2" }), 2, false},
		{"network alone, remote is never strict", []Scope{Network}, Locality{Network: "n2"}, 0, false},
		{"network alone, local", []Scope{Network}, Locality{Network: "n1"}, 1, true},

		{"network not first breaks the chain", []Scope{Region, Network, Zone},
			with(func(l *Locality) { l.Network = "n2" }), 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Policy{Mode: Failover, Preferences: tt.prefs}
			rank, strict := p.rank(&source, &tt.target)
			if rank != tt.rank || strict != tt.strict {
				t.Errorf("rank = %d, strict = %v; want %d, %v", rank, strict, tt.rank, tt.strict)
			}
		})
	}
}

func TestRankEmptyMatchesEmpty(t *testing.T) {
	p := Policy{Mode: Failover, Preferences: []Scope{Network, Region, Zone, Subzone, Node}}
	if rank, strict := p.rank(&Locality{}, &Locality{}); rank != 9 || !strict {
		t.Errorf("rank = %d, strict = %v; want 9, true", rank, strict)
	}
}

// TestTrafficPolicy holds policies to what istiod derives.
func TestTrafficPolicy(t *testing.T) {
	sameZone := Policy{Mode: Failover, Preferences: []Scope{Network, Region, Zone}}
	sameNode := Policy{Mode: Failover, Preferences: []Scope{Network, Region, Zone, Subzone, Node}}
	local := Policy{Mode: Strict, Preferences: []Scope{Node}}
	for _, tt := range []struct {
		name    string
		traffic Traffic
		want    Policy
		unknown string // value named by the error
	}{
		{"nothing", Traffic{}, Policy{}, ""},
		{"PreferClose", Traffic{Distribution: "PreferClose"}, sameZone, ""},
		{"PreferSameZone", Traffic{Distribution: "PreferSameZone"}, sameZone, ""},
		{"PreferSameNode", Traffic{Distribution: "PreferSameNode"}, sameNode, ""},
		{"PreferSameCluster", Traffic{Distribution: "PreferSameCluster"},
			Policy{Mode: Failover, Preferences: []Scope{Cluster, Network}}, ""},
		{"PreferSameNetwork", Traffic{Annotation: "PreferSameNetwork"},
			Policy{Mode: Failover, Preferences: []Scope{Network}}, ""},
		{"the field wants its case", Traffic{Distribution: "preferclose"}, Policy{}, "preferclose"},
		{"Any is no value of the field", Traffic{Distribution: "Any", Annotation: "PreferClose"}, sameZone, "Any"},
		{"the annotation takes any case", Traffic{Annotation: "prefersamenode"}, sameNode, ""},
		{"the field wins", Traffic{Distribution: "PreferSameNode", Annotation: "PreferClose"}, sameNode, ""},
		{"an unknown field falls to the annotation",
			Traffic{Distribution: "Nearest", Annotation: "PreferClose"}, sameZone, "Nearest"},
		{"an unknown annotation is Any and ends the search",
			Traffic{Annotation: "Nearest", NamespaceAnnotation: "PreferClose"}, Policy{}, "Nearest"},
		{"annotation Any overrides the namespace",
			Traffic{Annotation: "any", NamespaceAnnotation: "PreferClose"}, Policy{}, ""},
		{"namespace", Traffic{NamespaceAnnotation: "PreferClose"}, sameZone, ""},
		{"internalTrafficPolicy Local wins over all",
			Traffic{InternalLocal: true, Distribution: "PreferClose"}, local, ""},
		{"publishNotReadyAddresses alone", Traffic{PublishNotReady: true}, Policy{Health: AllowAll}, ""},
		{"publishNotReadyAddresses keeps the rest", Traffic{PublishNotReady: true, Distribution: "PreferClose"},
			Policy{Mode: Failover, Preferences: sameZone.Preferences, Health: AllowAll}, ""},
		{"publishNotReadyAddresses with Local", Traffic{PublishNotReady: true, InternalLocal: true},
			Policy{Mode: Strict, Preferences: []Scope{Node}, Health: AllowAll}, ""},
		{"resolution NONE", Traffic{Unresolved: true, Distribution: "PreferClose"},
			Policy{Mode: Passthrough, Health: AllowAll}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.traffic.Policy()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
			var unknown *UnknownDistributionError
			errors.As(err, &unknown)
			switch {
			case tt.unknown == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.unknown != "" && (unknown == nil || unknown.Value != tt.unknown):
				t.Errorf("error %v, want one that names %q", err, tt.unknown)
			}
		})
	}
}

func TestTrafficPoliciesAreNotShared(t *testing.T) {
	first, _ := Traffic{Distribution: "PreferClose"}.Policy()
	first.Preferences[0] = Node
	if second, _ := (Traffic{Distribution: "PreferClose"}).Policy(); second.Preferences[0] != Network {
		t.Error("changing one policy changed another")
	}
}

// TestBalancerKeepsNothingOfItsArguments changes what New, SetPolicy and Update
// were given, and has the Balancer look again.
func TestBalancerKeepsNothingOfItsArguments(t *testing.T) {
	drains := &DrainSet{}
	given := Policy{Mode: Failover, Preferences: []Scope{Network}}
	targets := []Target[string]{at("near", "n1", "z2"), at("far", "n2", "z1")}
	b := newBalancer(t, Config{Source: Locality{Network: "n1", Zone: "z1"}, Policy: given, Drains: drains}, targets...)
	check := func() {
		t.Helper()
		given.Preferences[0] = Zone
		targets[0].Weight = 0
		drains.Add(Drain{Cluster: "elsewhere"}) // the next Pick looks again
		wantPicked(t, b, Request{}, "near")
		given.Preferences[0], targets[0].Weight = Network, 1
	}
	check()
	if err := b.SetPolicy(given); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(targets); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestInvalidConfig(t *testing.T) {
	for _, tt := range []struct {
		field  string
		config Config
	}{
		{"Policy.Mode", Config{Policy: Policy{Mode: 9}}},
		{"Policy.Health", Config{Policy: Policy{Health: -1}}},
		{"Policy.Preferences[1]", Config{Policy: Policy{Preferences: []Scope{Zone, 0}}}},
		{"Algorithm", Config{Algorithm: 9}},
		{"Outlier.Failures", Config{Outlier: Outlier{Failures: -1}}},
		{"Outlier.Ejection", Config{Outlier: Outlier{Ejection: -1}}},
		{"Outlier.MaxEjection", Config{Outlier: Outlier{MaxEjection: -1}}},
		{"Outlier.MaxPercent", Config{Outlier: Outlier{MaxPercent: 101}}},
	} {
		t.Run(tt.field, func(t *testing.T) {
			_, err := New[string](tt.config)
			var policyErr *PolicyError
			if !errors.As(err, &policyErr) || policyErr.Field != tt.field {
				t.Errorf("error %v, want a PolicyError of %s", err, tt.field)
			}
		})
	}
}
