package dnsproxy

import "strings"

// match is the record that a name means to a client.
type match struct {
	*record
	// target is the name that the addresses are under when it is not the one asked
	// for: a prefix of that, after a search domain was taken off.
	target   string
	wildcard bool
	searched bool // a search domain was taken off
}

// Lookup returns the entry that name means to a client with view v. The entry
// must not be modified.
func (t *NameTable) Lookup(v View, name string) (*Entry, bool) {
	m, ok := t.find(&v, canonical(name))
	if !ok {
		return nil, false
	}
	return m.entry, true
}

// find looks for the canonical name q: as it is, without a search domain, and
// then below wildcards, the most specific first.
func (t *NameTable) find(v *View, q string) (match, bool) {
	if t == nil || q == "" {
		return match{}, false
	}
	if r := t.exact(v, q); r != nil {
		return match{record: r}, true
	}
	for i := range v.searchLen() {
		if s, ok := v.trimSearch(i, q); ok {
			if r := t.exact(v, s); r != nil {
				return match{record: r, target: s, searched: true}, true
			}
		}
	}
	return t.findWildcard(v, q)
}

func (t *NameTable) findWildcard(v *View, q string) (match, bool) {
	if t.wild.Len() == 0 {
		return match{}, false
	}
	for _, rest, ok := strings.Cut(q, "."); ok; _, rest, ok = strings.Cut(rest, ".") {
		if r := t.choose(v, &t.wild, rest); r != nil {
			return match{record: r, wildcard: true}, true
		}
		for i := range v.searchLen() {
			s, ok := v.trimSearch(i, rest)
			if !ok {
				continue
			}
			if r := t.choose(v, &t.wild, s); r != nil {
				return match{record: r, wildcard: true, searched: true}, true
			}
		}
	}
	return match{}, false
}

// exact looks for q as a complete name, and as one of the short names that
// Kubernetes knows, which depend on the number of labels:
//
//	1  name                of the client's namespace
//	2  name.namespace      or pod.name of the client's namespace
//	3  name.namespace.svc  or pod.name.namespace
//	4  pod.name.namespace.svc
func (t *NameTable) exact(v *View, q string) *record {
	if r := t.choose(v, &t.hosts, q); r != nil {
		return r
	}
	labels := strings.Count(q, ".") + 1
	if labels > 4 || t.short.Len() == 0 {
		return nil
	}
	if short, ok := strings.CutSuffix(q, ".svc"); ok && labels >= 3 {
		if r := t.chooseShort(v, short); r != nil {
			return r
		}
	}
	if labels == 2 || labels == 3 {
		if r := t.chooseShort(v, q); r != nil {
			return r
		}
	}
	if labels <= 2 && v.Namespace != "" {
		return t.chooseShort(v, q+"."+v.Namespace)
	}
	return nil
}

// choose returns what name means to the client: what its own namespace says,
// else the canonical entry, else the first.
func (t *NameTable) choose(v *View, ix *recordsByName, name string) *record {
	recs, _ := ix.Get(name)
	return v.prefer(recs, func(*record) bool { return true })
}

func (t *NameTable) chooseShort(v *View, short string) *record {
	recs, _ := t.short.Get(short)
	return v.prefer(recs, v.hasShortName)
}

func (v *View) prefer(recs []*record, allowed func(*record) bool) *record {
	var best *record
	for _, r := range recs {
		switch {
		case !v.sees(r) || !allowed(r):
		case r.entry.Namespace == v.Namespace:
			return r
		case best == nil || r.entry.Canonical && !best.entry.Canonical:
			best = r
		}
	}
	return best
}

// sees says whether r counts for the client. An External host without addresses
// does not: it is left to the upstream servers, as ztunnel and istiod do.
func (v *View) sees(r *record) bool {
	if r.entry.Private && r.entry.Namespace != v.Namespace {
		return false
	}
	return len(r.v4)+len(r.v6) > 0 || r.entry.Registry == Kubernetes
}

// hasShortName says whether the short name of r works for the client. ztunnel
// goes by the form of the host, Istio's agent also wants it from Kubernetes.
func (v *View) hasShortName(r *record) bool {
	if v.Dialect == Sidecar && r.entry.Registry != Kubernetes {
		return false
	}
	rest, ok := trimDomain(r.name, v.clusterDomain())
	return ok && strings.HasSuffix(rest, ".svc")
}
