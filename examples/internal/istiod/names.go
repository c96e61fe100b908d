package istiod

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/dnsproxy/nds"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/mcs"
)

// nameTable encodes the names that clients of a namespace may resolve.
func nameTable(snapshot *endpoints.Snapshot, client endpoints.Client, namespace string, pods map[string]podName) ([]byte, error) {
	services, backends := visible(snapshot, namespace)
	table := make([]dnsproxy.Service, len(services))
	for i, s := range services {
		table[i] = nameOf(s, client.Network)
		if table[i].Headless {
			table[i].Members = members(backends[s.Key()], pods)
		}
	}
	return nds.Encode(dnsproxy.Entries(dnsproxy.Audience{Network: client.Network, Cluster: client.Cluster}, table))
}

// visible returns the services that a namespace sees, its own ones first, for
// of several with one name the first counts; and all workloads by service.
func visible(snapshot *endpoints.Snapshot, namespace string) ([]*endpoints.Service, map[string][]*endpoints.Workload) {
	var services []*endpoints.Service
	backends := map[string][]*endpoints.Workload{}
	for r := range snapshot.All() {
		switch {
		case r.Workload != nil:
			for _, s := range r.Workload.Services {
				backends[s.Service] = append(backends[s.Service], r.Workload)
			}
		case r.Service.Instance && len(r.Service.Addresses) == 0:
			// A pod of this network, which is named as a member of its service.
		case r.Service.Visibility == endpoints.VisiblePublic || r.Service.Namespace == namespace:
			services = append(services, r.Service)
		}
	}
	slices.SortFunc(services, func(a, b *endpoints.Service) int {
		return cmp.Or(
			boolRank(a.Namespace != namespace)-boolRank(b.Namespace != namespace),
			boolRank(!a.Canonical)-boolRank(!b.Canonical),
			cmp.Compare(a.Key(), b.Key()),
		)
	})
	for _, all := range backends {
		slices.SortFunc(all, func(a, b *endpoints.Workload) int { return cmp.Compare(a.UID, b.UID) })
	}
	return services, backends
}

func nameOf(s *endpoints.Service, network string) dnsproxy.Service {
	name := dnsproxy.Service{
		Host:      s.Hostname,
		Namespace: s.Namespace,
		Registry:  dnsproxy.External,
		Addresses: addressesOn(s, network),
		Headless:  len(s.Addresses) == 0,

		PublishNotReady: s.LoadBalancing != nil && s.LoadBalancing.HealthPolicy == endpoints.AllowAll,
	}
	imported := strings.HasSuffix(s.Hostname, ".svc."+mcs.Domain)
	if strings.HasPrefix(s.Hostname, s.Name+"."+s.Namespace+".svc.") && !imported { // short names are for the cluster's own
		name.Registry, name.ShortName = dnsproxy.Kubernetes, s.Name
	}
	return name
}

// addressesOn returns the addresses that a service has on a network; if there
// are none, those that it has elsewhere, as istiod does.
func addressesOn(s *endpoints.Service, network string) []string {
	var here, elsewhere []string
	for _, a := range s.Addresses {
		switch {
		case !a.Prefix.IsSingleIP():
			// A block is no answer.
		case a.Network == network:
			here = append(here, a.Prefix.Addr().String())
		default:
			elsewhere = append(elsewhere, a.Prefix.Addr().String())
		}
	}
	if len(here) > 0 {
		return here
	}
	return elsewhere
}

func members(workloads []*endpoints.Workload, pods map[string]podName) []dnsproxy.Member {
	all := make([]dnsproxy.Member, 0, len(workloads))
	for _, w := range workloads {
		pod := pods[w.UID]
		all = append(all, dnsproxy.Member{
			Addresses: slices.DeleteFunc(slices.Clone(w.Addresses), netip.Addr.IsUnspecified),
			Hostname:  pod.hostname,
			Subdomain: pod.subdomain,
			Network:   w.Network,
			Cluster:   w.Cluster,
			NotReady:  w.Health != endpoints.Healthy,
		})
	}
	return all
}
