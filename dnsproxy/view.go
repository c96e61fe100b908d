package dnsproxy

import "strings"

// Dialect is how names are expanded and answered, where Istio's two resolvers differ.
type Dialect int

const (
	// Ambient is ztunnel's: every search domain is expanded, and a wildcard match
	// is answered under the name that was asked for.
	Ambient Dialect = iota
	// Sidecar is that of Istio's agent: only the first search domain is expanded,
	// never for a name that is already below it, and a wildcard that was found
	// through it is answered as a CNAME to the literal wildcard name.
	Sidecar
)

// View is what makes one client's answers differ from another's: the same table
// serves clients of all namespaces. The zero View is a client without a
// namespace in cluster.local.
type View struct {
	// Namespace of the client. It decides what short names mean, and which of
	// several entries of one host is meant.
	Namespace string

	// ClusterDomain is the domain of Kubernetes names; empty means cluster.local.
	ClusterDomain string

	// Search are the search domains of the client's resolver, which it appends to
	// names that are not complete. Nil means what a pod has:
	// <namespace>.svc.<domain>, svc.<domain>, <domain>. At most eight are used.
	Search []string

	// Dialect is how names are expanded; the zero value is Ambient.
	Dialect Dialect
}

const (
	defaultClusterDomain = "cluster.local"
	maxSearch            = 8 // glibc has no limit any more; resolv.conf had 6 for long
)

func (v *View) clusterDomain() string {
	if v.ClusterDomain == "" {
		return defaultClusterDomain
	}
	return strings.TrimSuffix(v.ClusterDomain, ".")
}

// searchLen is the number of search domains that are expanded.
func (v *View) searchLen() int {
	n := 3
	if v.Search != nil {
		n = min(len(v.Search), maxSearch)
	}
	if v.Dialect == Sidecar {
		n = min(n, 1)
	}
	return n
}

// trimSearch takes the search domain i off the end of the canonical name q.
func (v *View) trimSearch(i int, q string) (string, bool) {
	short, ok := v.trimDomainOf(i, q)
	if !ok || v.Dialect != Sidecar {
		return short, ok
	}
	// The agent expands no name that is below the search domain already.
	if _, again := v.trimDomainOf(i, short); again {
		return "", false
	}
	return short, true
}

func (v *View) trimDomainOf(i int, q string) (string, bool) {
	if v.Search != nil {
		return trimDomain(q, v.Search[i])
	}
	q, ok := trimDomain(q, v.clusterDomain())
	if i <= 1 && ok {
		q, ok = trimDomain(q, "svc")
	}
	if i == 0 && ok {
		q, ok = trimDomain(q, v.Namespace)
	}
	return q, ok
}

// trimDomain takes domain, in any case and with or without a trailing dot, off
// the end of the canonical name q, of which something must be left.
func trimDomain(q, domain string) (string, bool) {
	domain = strings.TrimSuffix(domain, ".")
	at := len(q) - len(domain) - 1
	if domain == "" || at <= 0 || q[at] != '.' || !strings.EqualFold(q[at+1:], domain) {
		return "", false
	}
	return q[:at], true
}
