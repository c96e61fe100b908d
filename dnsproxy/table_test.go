package dnsproxy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

func TestEntryErrors(t *testing.T) {
	one := addrs("192.0.2.1")
	tests := []struct {
		name  string
		entry dnsproxy.Entry
		field string
	}{
		{"no host", dnsproxy.Entry{Addresses: one}, "Host"},
		{"empty label", dnsproxy.Entry{Host: "a..example.com"}, "Host"},
		{"long label", dnsproxy.Entry{Host: strings.Repeat("a", 64) + ".example.com"}, "Host"},
		{"long name", dnsproxy.Entry{Host: strings.Repeat("a.", 127) + "com"}, "Host"},
		{"wildcard inside", dnsproxy.Entry{Host: "a.*.example.com"}, "Host"},
		{"only a wildcard", dnsproxy.Entry{Host: "*"}, "Host"},
		{"space", dnsproxy.Entry{Host: "a b.example.com"}, "Host"},
		{"escape", dnsproxy.Entry{Host: `a\.b.example.com`}, "Host"},
		{"short name", dnsproxy.Entry{Host: "a.example.com", ShortName: "a/b"}, "ShortName"},
		{"alt host", dnsproxy.Entry{Host: "a.example.com", AltHosts: []string{"b.example.com", ""}}, "AltHosts[1]"},
		{"zero address", dnsproxy.Entry{Host: "a.example.com", Addresses: []netip.Addr{one[0], {}}}, "Addresses[1]"},
		{"address with a zone", dnsproxy.Entry{Host: "a.example.com", Addresses: addrs("fe80::1%eth0")}, "Addresses[0]"},
		{"pod without anything", dnsproxy.Entry{Host: "a.example.com", Pods: []dnsproxy.Pod{{}}}, "Pods[0].Name"},
		{"pod's name", dnsproxy.Entry{Host: "a.example.com", Pods: []dnsproxy.Pod{{Name: "a!"}}}, "Pods[0].Name"},
		{"pod's address", dnsproxy.Entry{Host: "a.example.com", Pods: []dnsproxy.Pod{{Name: "a", Addresses: []netip.Addr{{}}}}}, "Pods[0].Addresses[0]"},
		{"port", dnsproxy.Entry{Host: "a.example.com", Ports: []dnsproxy.Port{{Name: "http"}}}, "Ports[0].Number"},
	}
	good := dnsproxy.Entry{Host: "good.example.com", Addresses: one}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.entry.Namespace = "ns"
			names := namesOf(t, good)
			before := names.Load()
			err := names.Update([]dnsproxy.Entry{tt.entry}, []dnsproxy.Key{good.Key()})
			var got *dnsproxy.EntryError
			if !errors.As(err, &got) || got.Field != tt.field || got.Key != tt.entry.Key() {
				t.Errorf("error is %v, want an *EntryError of %s", err, tt.field)
			}
			if names.Load() != before {
				t.Error("the table has changed")
			}
		})
	}
}

func TestNilTable(t *testing.T) {
	var table *dnsproxy.NameTable
	if _, ok := table.Get(dnsproxy.Key{}); ok || table.Len() != 0 {
		t.Error("a nil table has entries")
	}
	for range table.All() {
		t.Error("a nil table yields entries")
	}
	next, err := table.With([]dnsproxy.Entry{{Host: "a.example.com"}}, nil)
	if err != nil || next.Len() != 1 {
		t.Errorf("%d entries, %v, want 1", next.Len(), err)
	}
	names := new(dnsproxy.Names)
	names.Store(nil)
	if names.Load() == nil {
		t.Error("a stored nil is no table")
	}
}

// slowTable answers as a NameTable does, by looking at every entry.
type slowTable map[dnsproxy.Key]dnsproxy.Entry

// lookup finds the entry for a complete name, a short one, or a wildcard.
func (s slowTable) lookup(namespace, name string) (dnsproxy.Key, bool) {
	for _, match := range []func(dnsproxy.Entry) bool{
		func(e dnsproxy.Entry) bool { return e.Host == name },
		func(e dnsproxy.Entry) bool { return e.Host == name+".svc.cluster.local" },
		func(e dnsproxy.Entry) bool { return e.Host == name+"."+namespace+".svc.cluster.local" },
	} {
		if k, ok := s.best(namespace, match); ok {
			return k, true
		}
	}
	for rest := name; ; {
		var more bool
		if _, rest, more = strings.Cut(rest, "."); !more {
			return dnsproxy.Key{}, false
		}
		if k, ok := s.best(namespace, func(e dnsproxy.Entry) bool { return e.Host == "*."+rest }); ok {
			return k, true
		}
	}
}

func (s slowTable) best(namespace string, match func(dnsproxy.Entry) bool) (dnsproxy.Key, bool) {
	var found []dnsproxy.Entry
	for _, e := range s {
		if match(e) && len(e.Addresses) > 0 && (!e.Private || e.Namespace == namespace) {
			found = append(found, e)
		}
	}
	rank := func(e dnsproxy.Entry) int {
		switch {
		case e.Namespace == namespace:
			return 0
		case e.Canonical:
			return 1
		}
		return 2
	}
	slices.SortFunc(found, func(a, b dnsproxy.Entry) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a.Namespace, b.Namespace)
	})
	if len(found) == 0 {
		return dnsproxy.Key{}, false
	}
	return found[0].Key(), true
}

// TestTableAgainstOracle changes tables at random: each must answer as the slow
// one does, and earlier ones as they did.
func TestTableAgainstOracle(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			slow := slowTable{}
			var table *dnsproxy.NameTable
			type snapshot struct {
				table *dnsproxy.NameTable
				want  []string
			}
			var history []snapshot
			for range 150 {
				upserts, removals := randomChange(rnd)
				next, err := table.With(upserts, removals)
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range removals {
					delete(slow, k)
				}
				for _, e := range upserts {
					slow[e.Key()] = e
				}
				table = next
				if table.Len() != len(slow) {
					t.Fatalf("%d entries, want %d", table.Len(), len(slow))
				}
				want := answers(func(ns, name string) (dnsproxy.Key, bool) { return slow.lookup(ns, name) })
				history = append(history, snapshot{table, want})
			}
			for i, h := range history {
				got := answers(func(ns, name string) (dnsproxy.Key, bool) {
					e, ok := h.table.Lookup(dnsproxy.View{Namespace: ns, Search: []string{}}, name)
					if !ok {
						return dnsproxy.Key{}, false
					}
					return e.Key(), true
				})
				if diff := cmp.Diff(h.want, got); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

var (
	oracleNamespaces = []string{"ns1", "ns2", "ns3"}
	oracleHosts      = []string{"a.ns1.svc.cluster.local", "b.ns1.svc.cluster.local", "a.ns2.svc.cluster.local", "a.test", "b.test", "*.test", "*.b.test", "a.ns1"}
	oracleNames      = append([]string{"a", "b", "c.test", "c.b.test", "d.c.b.test", "b.ns1", "a.ns2", "a.ns3"}, oracleHosts...)
)

// answers asks all names from all namespaces.
func answers(lookup func(ns, name string) (dnsproxy.Key, bool)) []string {
	var out []string
	for _, ns := range oracleNamespaces {
		for _, name := range oracleNames {
			k, ok := lookup(ns, name)
			out = append(out, fmt.Sprint(ns, " ", name, ": ", k, " ", ok))
		}
	}
	return out
}

func randomChange(rnd *rand.Rand) (upserts []dnsproxy.Entry, removals []dnsproxy.Key) {
	pick := func(from []string) string { return from[rnd.IntN(len(from))] }
	for range rnd.IntN(3) {
		removals = append(removals, dnsproxy.Key{Namespace: pick(oracleNamespaces), Host: pick(oracleHosts)})
	}
	for range rnd.IntN(3) {
		e := dnsproxy.Entry{
			Host: pick(oracleHosts), Namespace: pick(oracleNamespaces), Registry: dnsproxy.External,
			Canonical: rnd.IntN(3) == 0, Private: rnd.IntN(3) == 0,
		}
		// Short names of hosts of another namespace are another story.
		if _, ns, ok := strings.Cut(strings.TrimSuffix(e.Host, ".svc.cluster.local"), "."); ok && strings.HasSuffix(e.Host, ".svc.cluster.local") {
			e.Namespace = ns
		}
		if rnd.IntN(4) > 0 {
			e.Addresses = addrs("192.0.2.1")
		}
		upserts = append(upserts, e)
	}
	return upserts, removals
}

// TestTableManyEntries fills and empties a table, with every index in use.
func TestTableManyEntries(t *testing.T) {
	const n = 3000
	var entries []dnsproxy.Entry
	for i := range n {
		entries = append(entries, dnsproxy.Entry{
			Host: fmt.Sprintf("svc-%d.ns.svc.cluster.local", i), Namespace: "ns", Registry: dnsproxy.Kubernetes,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			Pods:      []dnsproxy.Pod{{Name: "pod", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}}},
		})
	}
	full, err := dnsproxy.Build(entries)
	if err != nil {
		t.Fatal(err)
	}
	table := full
	r := func(table *dnsproxy.NameTable, host string, qtype uint16) bool {
		names := new(dnsproxy.Names)
		names.Store(table)
		_, known := (&dnsproxy.Resolver{Names: names}).Resolve(dnsproxy.View{Namespace: "ns"}, dns.Question{Name: host, Qtype: qtype, Qclass: dns.ClassINET})
		return known
	}
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(n) {
		if table, err = table.With(nil, []dnsproxy.Key{entries[i].Key()}); err != nil {
			t.Fatal(err)
		}
		for host, qtype := range map[string]uint16{
			fmt.Sprintf("svc-%d.", i):                              dns.TypeA,
			fmt.Sprintf("pod.svc-%d.", i):                          dns.TypeA,
			fmt.Sprintf("%d.%d.0.10.in-addr.arpa.", byte(i), i>>8): dns.TypePTR,
			fmt.Sprintf("%d.%d.1.10.in-addr.arpa.", byte(i), i>>8): dns.TypePTR,
		} {
			if r(table, host, qtype) || !r(full, host, qtype) {
				t.Fatalf("%s is known after its removal: %v, before: %v", host, r(table, host, qtype), r(full, host, qtype))
			}
		}
	}
	if table.Len() != 0 || full.Len() != n {
		t.Errorf("%d entries are left, and %d of the full table", table.Len(), full.Len())
	}
}

func TestTableEntries(t *testing.T) {
	table := namesOf(t, meshEntries()...).Load()
	e, ok := table.Get(dnsproxy.Key{Namespace: "app", Host: "API.example.com."})
	if !ok || e.Host != "api.example.com" {
		t.Errorf("api.example.com is %v, %v", e, ok)
	}
	if e, ok := table.Get(dnsproxy.Key{Host: "api.example.com"}); ok {
		t.Errorf("without its namespace, api.example.com is %v", e)
	}
	var got []string
	for e := range table.All() {
		got = append(got, e.Host)
	}
	var want []string
	for _, e := range meshEntries() {
		want = append(want, e.Host)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("all entries are %v, want %v", got, want)
	}
	for range table.All() {
		break // must be possible
	}
}

// TestFlatten: a table of what was flattened answers as the original does.
func TestFlatten(t *testing.T) {
	var flat []dnsproxy.Entry
	for _, e := range meshEntries() {
		flat = append(flat, e.Flatten()...)
	}
	for _, e := range flat {
		if len(e.Pods) > 0 {
			t.Errorf("%s still has pods", e.Host)
		}
	}
	deep := &dnsproxy.Resolver{Names: namesOf(t, meshEntries()...), Shuffle: inOrder}
	wide := &dnsproxy.Resolver{Names: namesOf(t, flat...), Shuffle: inOrder}
	for _, host := range []string{"reviews.", "db.", "db.app.", "db-0.db.", "db-0.db.app.svc.", "10-1-0-14.db.app.svc.cluster.local.", "api.example.com."} {
		q := dns.Question{Name: host, Qtype: dns.TypeA, Qclass: dns.ClassINET}
		want, _ := deep.Resolve(dnsproxy.View{Namespace: "app"}, q)
		got, known := wide.Resolve(dnsproxy.View{Namespace: "app"}, q)
		if diff := cmp.Diff(lines(want.Answer), lines(got.Answer)); diff != "" || !known {
			t.Errorf("%s (-want +got):\n%s", host, diff)
		}
	}
}
