package dnsproxy

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
