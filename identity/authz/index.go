package authz

import (
	"maps"
	"net/netip"
	"slices"
)

// bucket holds the policies that apply implicitly to the same workloads. A nil
// bucket has none.
type bucket struct {
	enforced, dryRun layer
}

// layer is the groups of policies by action.
type layer struct {
	deny, allow index
	allows      bool // there is an ALLOW policy, be it one without groups
}

func (b *bucket) add(p *policy) {
	l := &b.enforced
	if p.source.DryRun {
		l = &b.dryRun
	}
	x := &l.deny
	if p.source.Action == Allow {
		x = &l.allow
		l.allows = true
	}
	for _, g := range p.groups {
		x.add(g)
	}
}

func (b *bucket) allows(dryRun bool) bool {
	return b != nil && (b.enforced.allows || dryRun && b.dryRun.allows)
}

func (b *bucket) match(a Action, dryRun bool, c *conn) *group {
	if b == nil {
		return nil
	}
	if g := b.enforced.index(a).match(c); g != nil || !dryRun {
		return g
	}
	return b.dryRun.index(a).match(c)
}

func (l *layer) index(a Action) *index {
	if a == Deny {
		return &l.deny
	}
	return &l.allow
}

// index finds the groups that may match a connection without looking at all of
// them. A group is filed under exact values of which the connection must have
// one; a group that requires none is looked at always.
type index struct {
	byPrincipal map[string][]*group
	byAccount   map[ServiceAccount][]*group
	bySource    map[netip.Addr][]*group
	byNamespace map[string][]*group
	byDest      map[netip.Addr][]*group
	byPort      map[uint16][]*group
	rest        []*group
}

// match returns the first group, in the order of the fields above, that matches.
func (x *index) match(c *conn) *group {
	for _, candidates := range [...][]*group{
		x.byPrincipal[c.principal], x.byAccount[c.account], x.bySource[c.source],
		x.byNamespace[c.namespace], x.byDest[c.dest], x.byPort[c.port], x.rest,
	} {
		for _, g := range candidates {
			if g.match(c) {
				return g
			}
		}
	}
	return nil
}

// add files a group under the values that its most selective rule requires.
func (x *index) add(g *group) {
	var best rule
	rank := unselective
	for _, r := range g.rules {
		if s := r.selectivity(); s < rank {
			best, rank = r, s
		}
	}
	if rank == unselective {
		x.rest = append(x.rest, g)
		return
	}
	for i := range best {
		if !best[i].never {
			x.file(g, &best[i])
		}
	}
}

func (x *index) file(g *group, m *match) {
	switch m.selectivity() {
	case onPrincipal:
		file(&x.byPrincipal, g, slices.Collect(maps.Keys(m.principals.exact))...)
	case onAccount:
		file(&x.byAccount, g, m.serviceAccounts...)
	case onSource:
		file(&x.bySource, g, addrs(m.sourceIPs)...)
	case onNamespace:
		file(&x.byNamespace, g, slices.Collect(maps.Keys(m.namespaces.exact))...)
	case onDest:
		file(&x.byDest, g, addrs(m.destinationIPs)...)
	case onPort:
		file(&x.byPort, g, m.destinationPorts...)
	}
}

func file[K comparable](m *map[K][]*group, g *group, keys ...K) {
	if *m == nil {
		*m = make(map[K][]*group)
	}
	for _, k := range keys {
		list := (*m)[k]
		if len(list) == 0 || list[len(list)-1] != g { // a value may be repeated
			(*m)[k] = append(list, g)
		}
	}
}

// selectivity says what a match requires an exact value of, the rarest first.
type selectivity uint8

const (
	onPrincipal selectivity = iota
	onAccount
	onSource
	onNamespace
	onDest
	onPort
	unselective
)

// selectivity of a rule is that of its least selective match: any may match. A
// rule that never matches is filed nowhere, which is most selective.
func (r rule) selectivity() selectivity {
	if len(r) == 0 {
		return unselective
	}
	worst := onPrincipal
	for i := range r {
		if !r[i].never {
			worst = max(worst, r[i].selectivity())
		}
	}
	return worst
}

func (m *match) selectivity() selectivity {
	switch {
	case len(m.principals.exact) > 0 && len(m.principals.patterns) == 0:
		return onPrincipal
	case len(m.serviceAccounts) > 0:
		return onAccount
	case hosts(m.sourceIPs):
		return onSource
	case len(m.namespaces.exact) > 0 && len(m.namespaces.patterns) == 0:
		return onNamespace
	case hosts(m.destinationIPs):
		return onDest
	case len(m.destinationPorts) > 0:
		return onPort
	default:
		return unselective
	}
}

// hosts reports whether there are prefixes and all are single addresses.
func hosts(prefixes []netip.Prefix) bool {
	return len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !p.IsSingleIP() })
}

func addrs(prefixes []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.Addr()
	}
	return out
}
