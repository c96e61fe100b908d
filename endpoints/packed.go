package endpoints

import (
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"
	"unique"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// A packed workload is how a Mesh keeps one: replicas differ in little, and share the rest. It is immutable.
type packed struct {
	*kind
	uid      string
	own      *own                  // nil: the name ends the UID, and there is at most one address
	addr     netip.Addr            // without own
	node     unique.Handle[string] // zero: none
	capacity uint32
	nameLen  uint16
	weighed  bool // there is a capacity
	health   Health
	open     openFields
}

// own holds what does not fit.
type own struct {
	name      string
	addresses []netip.Addr
}

// openFields are those that a fact left to its cluster.
type openFields struct{ network, trustDomain bool }

// A kind is what workloads have in common. In its shape, all that packed workloads have of their own is
// empty.
type kind struct {
	shape    Workload
	identity identity
	hash     uint64
	users    int // workloads of facts; 0: it is not shared by them
}

// shapeOf returns a workload without what packed workloads have of their own.
func shapeOf(w *Workload) Workload {
	s := *w
	s.UID, s.Name, s.Addresses, s.Node, s.Health, s.Capacity = "", "", nil, "", Healthy, nil
	return s
}

func newKind(shape *Workload) *kind {
	return &kind{shape: *shape, identity: identity{
		trustDomain: shape.TrustDomain, namespace: shape.Namespace, account: shape.ServiceAccount, hbone: shape.Tunnel == TunnelHBONE,
	}}
}

// pack packs a workload of a kind.
func pack(k *kind, w *Workload) *packed {
	p := &packed{kind: k, uid: w.UID, health: w.Health}
	p.setOwn(w.Name, w.Addresses)
	if w.Node != "" {
		p.node = unique.Make(w.Node)
	}
	if w.Capacity != nil {
		p.weighed, p.capacity = true, *w.Capacity
	}
	return p
}

// setOwn sets what of a workload is its own, however long it is.
func (p *packed) setOwn(name string, addresses []netip.Addr) {
	if len(addresses) > 1 || len(name) > math.MaxUint16 || !strings.HasSuffix(p.uid, name) {
		p.own = &own{name, addresses}
		return
	}
	p.nameLen = uint16(len(name))
	if len(addresses) == 1 {
		p.addr = addresses[0]
	}
}

// unpack returns the workload, as one piece of memory.
func (p *packed) unpack() *Workload {
	w := new(struct {
		Workload
		addr     [1]netip.Addr
		capacity uint32
	})
	w.Workload = p.shape
	w.UID, w.Health = p.uid, p.health
	switch {
	case p.own != nil:
		w.Name, w.Addresses = p.own.name, p.own.addresses
	default:
		w.Name = p.uid[len(p.uid)-int(p.nameLen):]
		if p.addr.IsValid() {
			w.addr[0] = p.addr
			w.Addresses = w.addr[:]
		}
	}
	if p.node != (unique.Handle[string]{}) {
		w.Node = p.node.Value()
	}
	if p.weighed {
		w.capacity = p.capacity
		w.Capacity = &w.capacity
	}
	return &w.Workload
}

// equal compares all but openFields.
func (p *packed) equal(o *packed) bool {
	if p == o || p == nil || o == nil {
		return p == o
	}
	return p.uid == o.uid && p.addr == o.addr && p.node == o.node && p.capacity == o.capacity && p.nameLen == o.nameLen &&
		p.weighed == o.weighed && p.health == o.health && p.own.equal(o.own) &&
		(p.kind == o.kind || p.shape.Equal(&o.shape))
}

func (o *own) equal(p *own) bool {
	if o == nil || p == nil {
		return o == p
	}
	return o.name == p.name && slices.Equal(o.addresses, p.addresses)
}

func (p *packed) weight() uint32 {
	if !p.weighed {
		return 1
	}
	return p.capacity
}

func (p *packed) place() groupKey { return groupKey{p.shape.Network, p.shape.Cluster} }

// as returns the same workload of another kind.
func (p *packed) as(k *kind) *packed {
	other := *p
	other.kind = k
	return &other
}

func samePacked(a, b *packed) bool { return a.uid == b.uid }

func hasPackedUID(uid string) func(*packed) bool { return func(p *packed) bool { return p.uid == uid } }

func findPacked(in interface {
	Find(uint64, func(*packed) bool) *packed
}, uid string) *packed {
	return in.Find(pmap.HashString(uid), hasPackedUID(uid))
}

// kinds are those of all facts, each once.
type kinds struct {
	seed   maphash.Seed
	byHash map[uint64][]*kind
}

func newKinds() kinds { return kinds{maphash.MakeSeed(), make(map[uint64][]*kind)} }

// take returns the kind of a shape for one more workload. It is cheapest if that is like the one before.
func (ks *kinds) take(shape *Workload, before *packed) *kind {
	if before != nil && before.shape.Equal(shape) {
		before.users++
		return before.kind
	}
	h := ks.hash(shape)
	for _, k := range ks.byHash[h] {
		if k.shape.Equal(shape) {
			k.users++
			return k
		}
	}
	k := newKind(shape)
	k.hash, k.users = h, 1
	ks.byHash[h] = append(ks.byHash[h], k)
	return k
}

// give gives a kind back.
func (ks *kinds) give(k *kind) {
	if k.users--; k.users > 0 {
		return
	}
	left := slices.DeleteFunc(ks.byHash[k.hash], func(o *kind) bool { return o == k })
	if len(left) == 0 {
		delete(ks.byHash, k.hash)
	} else {
		ks.byHash[k.hash] = left
	}
}

// hash hashes what usually tells kinds apart.
func (ks *kinds) hash(w *Workload) uint64 {
	var h maphash.Hash
	h.SetSeed(ks.seed)
	write := func(parts ...string) {
		for _, s := range parts {
			h.WriteString(s)
			h.WriteByte(0)
		}
	}
	write(w.Namespace, w.Cluster, w.Network, w.Hostname, w.TrustDomain, w.ServiceAccount, w.WorkloadName, w.CanonicalName,
		w.CanonicalRevision, w.Locality.Region, w.Locality.Zone, w.Locality.Subzone)
	for i := range w.Services {
		write(w.Services[i].Service)
	}
	write(w.AuthorizationPolicies...)
	h.Write(w.Unknown)
	return h.Sum64()
}
