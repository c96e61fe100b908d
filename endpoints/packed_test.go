package endpoints

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// TestPackedKeepsEveryField packs and unpacks workloads that differ in one field, by reflection, so that a
// field added later cannot be forgotten.
func TestPackedKeepsEveryField(t *testing.T) {
	pods := []*Workload{
		{},
		{UID: "east//Pod/app/a", Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Node: "n", Capacity: new(uint32(0))},
		{UID: "east//Pod/app/a", Name: "b", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}},
		{UID: "east/" + strings.Repeat("x", 70000), Name: strings.Repeat("x", 70000)},
	}
	for i := range reflect.TypeFor[Workload]().NumField() {
		w := new(Workload)
		fill(reflect.ValueOf(w).Elem().Field(i))
		pods = append(pods, w)
	}
	ks := newKinds()
	var all []*packed
	for _, w := range pods {
		shape := shapeOf(w)
		p := pack(ks.take(&shape, nil), w)
		if got := p.unpack(); !got.Equal(w) {
			t.Errorf("got  %+v\nwant %+v", got, w)
		}
		for j, o := range all {
			if p.equal(o) || o.equal(p) {
				t.Errorf("%+v and %+v are packed alike", w, pods[j])
			}
		}
		if again := pack(newKind(&shape), w); !p.equal(again) {
			t.Errorf("%+v is not packed like itself", w)
		}
		all = append(all, p)
	}
	for _, p := range all {
		ks.give(p.kind)
	}
	if n := len(ks.byHash); n != 0 {
		t.Errorf("%d kinds are left", n)
	}
}

// TestKindsAreShared: replicas have one kind, as long as there are any.
func TestKindsAreShared(t *testing.T) {
	ks := newKinds()
	a, b := &Workload{UID: "east//Pod/app/a", Namespace: "app"}, &Workload{UID: "east//Pod/app/b", Namespace: "app", Health: Unhealthy}
	shape, other := shapeOf(a), shapeOf(b)
	first := pack(ks.take(&shape, nil), a)
	if k := ks.take(&other, nil); k != first.kind {
		t.Error("replicas have two kinds")
	}
	if k := ks.take(&other, first); k != first.kind || k.users != 3 {
		t.Errorf("one that was known has another kind, or %d users", k.users)
	}
	for range 3 {
		ks.give(first.kind)
	}
	if len(ks.byHash) != 0 {
		t.Error("a kind without users is kept")
	}
	collide := kinds{byHash: map[uint64][]*kind{0: nil}}
	x, y := newKind(&Workload{Namespace: "x"}), newKind(&Workload{Namespace: "y"})
	x.users, y.users = 1, 1
	collide.byHash[0] = []*kind{x, y}
	if collide.give(x); len(collide.byHash[0]) != 1 || collide.byHash[0][0] != y {
		t.Error("a kind of the same hash went along")
	}
}
