package dnsproxy

import (
	"net/netip"
)

// Registry says where a host comes from.
type Registry string

// The registries that the mesh distinguishes. Only Kubernetes hosts have short
// names; other values are kept as they are and treated like External.
const (
	Kubernetes Registry = "Kubernetes"
	External   Registry = "External"
)

// Entry is one host of a [NameTable]. Entries of one host may exist in several
// namespaces (two ServiceEntries for api.example.com, say): the namespace of
// the client decides which of them it sees, see [View].
//
// A table keeps the entries it is given: their slices must not be modified
// afterwards.
type Entry struct {
	// Host is the name: a fully qualified one ("reviews.app.svc.cluster.local",
	// "db.example.com") or a wildcard ("*.example.com", which stands for every
	// name below example.com, at any depth). Case and a trailing dot do not matter.
	Host string

	// Namespace is where the host was declared; it may be empty for External hosts.
	Namespace string

	// ShortName is what clients of the same namespace may call a Kubernetes host,
	// and others as ShortName.Namespace. When empty it is taken from a Host of the
	// form name.namespace.svc.domain. Short names only work for clients whose
	// cluster domain the Host is in: so clusterset.local hosts have none.
	ShortName string

	// Registry is where the host comes from. Empty means External.
	Registry Registry

	// Addresses are the answers, of both families. A Kubernetes host without
	// addresses is answered with no data; an External one without any is left to
	// the upstream servers.
	Addresses []netip.Addr

	// Headless says that the host has no virtual address: it answers with the
	// addresses of its Pods when Addresses is empty, and its SRV records name pods.
	Headless bool

	// Pods are the names below Host: pod.Name + "." + Host each.
	Pods []Pod

	// Ports are known ports, for SRV. Without any, SRV questions go upstream.
	Ports []Port

	// AltHosts are further complete names of the host, never expanded.
	AltHosts []string

	// Canonical prefers this entry for clients of namespaces that have no entry of
	// their own for the host.
	Canonical bool

	// Private hides the entry from clients of other namespaces.
	Private bool
}

// Pod is one member of a headless host.
type Pod struct {
	// Name is the label before the host, such as "db-0". When empty, the pod is
	// named after its first address, as Kubernetes does: "10-1-0-13".
	Name      string
	Addresses []netip.Addr
}

// Port is a named port of a host.
type Port struct {
	Name     string // "http"
	Protocol string // "TCP" (default when empty), "UDP", "SCTP"
	Number   uint16
}

// Key identifies an entry of a table.
type Key struct {
	Namespace string
	Host      string
}

// Key returns the identity of the entry: its namespace and its host in
// canonical form (lower case, no trailing dot).
func (e *Entry) Key() Key {
	return Key{Namespace: e.Namespace, Host: canonical(e.Host)}
}

// Flatten returns e and its pods as entries of their own, with their addresses
// and short names spelled out: what a table that knows no pods would have. Pods
// without addresses are left out.
func (e *Entry) Flatten() []Entry {
	host := canonical(e.Host)
	short := shortName(e, host)
	service := *e
	service.ShortName, service.Addresses, service.Pods = short, addressesOf(e), nil
	out := []Entry{service}
	for _, p := range e.Pods {
		if len(p.Addresses) == 0 {
			continue
		}
		pod := Entry{
			Host:      podLabel(p) + "." + host,
			Namespace: e.Namespace,
			Registry:  e.Registry,
			Addresses: p.Addresses,
			Canonical: e.Canonical,
			Private:   e.Private,
		}
		if short != "" {
			pod.ShortName = podLabel(p) + "." + short
		}
		out = append(out, pod)
	}
	return out
}
