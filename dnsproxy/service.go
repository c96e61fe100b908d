package dnsproxy

import "net/netip"

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

// Entries are the names that audience a sees of services, in the way of istiod.
func Entries(a Audience, services []Service) []Entry { return nil }
