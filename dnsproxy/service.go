package dnsproxy

import (
	"net/netip"
	"slices"
	"strings"
)

// Service is what a control plane knows of a host before it is known who asks.
// [Entries] makes from services what one client may see.
type Service struct {
	Host      string
	ShortName string
	Namespace string
	Registry  Registry

	// Addresses are the virtual addresses that the client would use, in order:
	// those of its own cluster, else automatically allocated ones, else those of
	// another cluster. CIDR blocks are no addresses and are passed over.
	Addresses []string

	// Headless services have no virtual address: their members are the answer.
	Headless        bool
	PublishNotReady bool // members count even when they are not ready
	Members         []Member
	Ports           []Port
}

// Member is one endpoint of a headless [Service].
type Member struct {
	Addresses []netip.Addr
	Hostname  string // of the pod
	Subdomain string // of the pod; with Hostname it gives the pod a name of its own
	Network   string // empty: any network
	Cluster   string // empty: any cluster
	NotReady  bool
}

// Audience is whom [Entries] are made for.
type Audience struct {
	Network string // empty: every network
	Cluster string // empty: every cluster

	// LocalHeadless leaves the members in other clusters out of the answers of a
	// headless service (their own names stay). By default they are in.
	LocalHeadless bool
}

// Entries are the names that audience a sees of services, as istiod's name table
// has them, in the order of services. Every host comes once: a Kubernetes service
// wins over an external one, the first Kubernetes service over others, and the
// addresses of external ones add up. Every pod of a headless service that has a
// name is an entry of its own.
func Entries(a Audience, services []Service) []Entry {
	var b entriesBuilder
	for _, s := range services {
		e := Entry{Host: s.Host, Namespace: s.Namespace, Registry: s.Registry, Headless: s.Headless, Ports: s.Ports}
		if e.Registry == "" {
			e.Registry = External
		}
		if e.Registry == Kubernetes && !strings.HasSuffix(canonical(s.Host), clusterSet) {
			e.ShortName = s.ShortName
		}
		if s.Headless {
			e.Addresses = b.addMembers(a, s)
		} else {
			e.Addresses = parseAddresses(s.Addresses)
		}
		if len(e.Addresses) > 0 {
			b.addHost(e)
		}
	}
	return b.entries
}

// entriesBuilder collects entries; a host has its place by the first that named it.
type entriesBuilder struct {
	entries []Entry
	at      map[string]int  // host -> index in entries
	local   map[string]bool // names of pods in the audience's cluster
}

func (b *entriesBuilder) addHost(e Entry) {
	host := canonical(e.Host)
	i, ok := b.at[host]
	switch {
	case !ok:
		b.put(host, e)
	case b.entries[i].Registry == Kubernetes:
		// The first Kubernetes service stays.
	case e.Registry == Kubernetes:
		b.entries[i] = e // an external host only decorated it
	default:
		b.entries[i].Addresses = slices.Concat(b.entries[i].Addresses, e.Addresses)
	}
}

func (b *entriesBuilder) put(host string, e Entry) {
	if b.at == nil {
		b.at, b.local = make(map[string]int), make(map[string]bool)
	}
	b.at[host] = len(b.entries)
	b.entries = append(b.entries, e)
}

// addMembers adds the names of the pods of headless service s, and returns the
// addresses of s itself.
func (b *entriesBuilder) addMembers(a Audience, s Service) []netip.Addr {
	var addrs []netip.Addr
	seen := make(map[netip.Addr]bool)
	for _, m := range s.Members {
		sameNetwork := a.Network == "" || m.Network == "" || a.Network == m.Network
		sameCluster := a.Cluster == "" || m.Cluster == "" || a.Cluster == m.Cluster
		// Across networks a pod cannot be reached by its address.
		if !sameNetwork || len(m.Addresses) == 0 || m.NotReady && !s.PublishNotReady {
			continue
		}
		if seen[m.Addresses[0]] { // once for each port, say
			continue
		}
		seen[m.Addresses[0]] = true
		if m.Subdomain != "" {
			b.addPod(s, m, sameCluster)
		}
		if sameCluster || !a.LocalHeadless {
			addrs = append(addrs, m.Addresses...)
		}
	}
	return addrs
}

// addPod adds the name of m, hostname.subdomain.namespace.svc.domain. Clusters may
// have pods of the same name: then those of the audience's cluster are meant.
func (b *entriesBuilder) addPod(s Service, m Member, local bool) {
	_, domain, ok := strings.Cut(canonical(s.Host), ".")
	if !ok || m.Hostname == "" {
		return
	}
	short := m.Hostname + "." + m.Subdomain
	host := canonical(short + "." + domain)
	e := Entry{Host: host, ShortName: short, Namespace: s.Namespace, Registry: s.Registry, Addresses: m.Addresses}
	i, exists := b.at[host]
	switch {
	case !exists:
		b.put(host, e)
		b.local[host] = local
	case local && !b.local[host]:
		b.entries[i] = e
		b.local[host] = true
	case local == b.local[host]:
		b.entries[i].Addresses = union(b.entries[i].Addresses, m.Addresses)
	}
}

func union(a, b []netip.Addr) []netip.Addr {
	out := slices.Clone(a)
	for _, addr := range b {
		if !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// parseAddresses passes over what is no address: a service may have a CIDR block.
func parseAddresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}
