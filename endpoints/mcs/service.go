package mcs

import (
	"net/netip"
	"slices"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Domain is the suffix of the names of imported services.
const Domain = "clusterset.local"

// Hostname returns <name>.<namespace>.svc.clusterset.local.
func Hostname(namespace, name string) string { return name + "." + namespace + ".svc." + Domain }

// Fact returns what each cluster that exports i tells a mesh. The addresses are those of the virtual
// network of the cluster, none for a headless service; where a cluster exports nothing, the VIPs of the mesh
// give it some. Its ports name no target: each backend has its own, or does not have the port.
func (i *Import) Fact(addresses ...netip.Addr) *endpoints.Service {
	s := &endpoints.Service{
		Name: i.Name, Namespace: i.Namespace, Hostname: Hostname(i.Namespace, i.Name),
		Scope: endpoints.ScopeGlobal, Canonical: true, Created: i.Created, IPFamilies: i.ipFamilies(),
	}
	for _, p := range i.Ports {
		s.Ports = append(s.Ports, endpoints.Port{ServicePort: p.Port, AppProtocol: appProtocol(p.AppProtocol)})
	}
	if i.Type == ClusterSetIP {
		for _, a := range addresses {
			s.Addresses = append(s.Addresses, endpoints.HostAddress("", a))
		}
	}
	return s
}

// PodFact returns the service that is one pod of a headless i: <pod>.<cluster>.<name>.<namespace>.svc.clusterset.local.
func (i *Import) PodFact(pod, cluster string) *endpoints.Service {
	return i.Fact().ForPod(pod + "." + cluster)
}

func (i *Import) ipFamilies() endpoints.IPFamilies {
	return endpoints.IPFamiliesOf(slices.Contains(i.IPFamilies, "IPv4"), slices.Contains(i.IPFamilies, "IPv6"))
}

// appProtocol knows the names that Kubernetes defines and the usual ones.
func appProtocol(name string) endpoints.AppProtocol {
	switch name {
	case "http":
		return endpoints.AppHTTP11
	case "http2", "kubernetes.io/h2c":
		return endpoints.AppHTTP2
	case "grpc":
		return endpoints.AppGRPC
	case "https", "tls":
		return endpoints.AppTLS
	case "tcp":
		return endpoints.AppTCP
	}
	return endpoints.AppUnknown
}
