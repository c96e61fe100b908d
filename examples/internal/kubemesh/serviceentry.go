package kubemesh

import (
	"net/netip"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/lb"
)

const autoAllocateLabel = "networking.istio.io/enable-autoallocate-ip"

// serviceEntry converts a ServiceEntry to one service for each host.
func (c *converter) serviceEntry(s *kubefile.ServiceEntry) []*service {
	visibility, published := c.visibility(s)
	if !published {
		c.warn("ServiceEntry", s, "is not published: the MeshConfig's serviceEntryVisibility for its namespace is NONE")
		return nil
	}
	var out []*service
	seen := make(map[string]bool)
	for _, host := range s.Spec.Hosts {
		if seen[host] {
			c.warn("ServiceEntry", s, "the host %s is there twice", host)
			continue
		}
		seen[host] = true
		out = append(out, c.serviceEntryHost(s, host, visibility))
	}
	return out
}

func (c *converter) serviceEntryHost(s *kubefile.ServiceEntry, host string, visibility endpoints.Visibility) *service {
	_, nsAnnotations := c.labelsOf(s.Namespace)
	fact := &endpoints.Service{
		Name:            s.Name,
		Namespace:       s.Namespace,
		Hostname:        host,
		Addresses:       c.serviceEntryAddresses(s, host),
		SubjectAltNames: slices.Clone(s.Spec.SubjectAltNames),
		LoadBalancing: c.loadBalancing("ServiceEntry", s, lb.Traffic{
			Annotation:          s.Annotations[lb.Annotation],
			NamespaceAnnotation: nsAnnotations[lb.Annotation],
			Unresolved:          s.Spec.Resolution == networking.ServiceEntry_NONE,
		}),
		Visibility: visibility,
		Created:    s.CreationTimestamp.Time,
	}
	if c.config.Compat == endpoints.Native { // in istiod it never is global
		c.setScope(fact, s)
	}
	c.bindWaypoint("ServiceEntry", s, fact)
	out := &service{fact: fact, source: s, selector: s.Spec.WorkloadSelector.GetLabels()}
	for _, p := range s.Spec.Ports {
		target := p.TargetPort
		if target == 0 {
			target = p.Number
		}
		fact.Ports = append(fact.Ports, endpoints.Port{
			ServicePort: uint16(p.Number), TargetPort: uint16(target), AppProtocol: appProtocol(p.Protocol),
		})
		out.ports = append(out.ports, portName{name: p.Name, number: uint16(target)})
	}
	return out
}

// visibility reads the MeshConfig's serviceEntryVisibility.
func (c *converter) visibility(s *kubefile.ServiceEntry) (endpoints.Visibility, bool) {
	labels, _ := c.labelsOf(s.Namespace)
	switch serviceEntryVisibility(c.mesh.ServiceEntryVisibility, labels) {
	case meshconfig.ServiceEntryVisibility_NONE:
		return 0, false
	case meshconfig.ServiceEntryVisibility_NAMESPACE:
		return endpoints.VisibleNamespace, true
	}
	return endpoints.VisiblePublic, true
}

// serviceEntryAddresses returns the addresses that the user gave, else those
// that a control plane allocated before, else those of Config.VIPs.
func (c *converter) serviceEntryAddresses(s *kubefile.ServiceEntry, host string) []endpoints.NetworkAddress {
	var out []endpoints.NetworkAddress
	for _, text := range s.Spec.Addresses {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			out = append(out, endpoints.NetworkAddress{Network: c.facts.Cluster.Network, Prefix: prefix.Masked()})
		} else if ip, err := netip.ParseAddr(text); err == nil {
			out = append(out, c.address(ip))
		}
	}
	if len(out) > 0 || !eligibleForVIP(s, host) {
		return out
	}
	for _, a := range s.Status.GetAddresses() {
		if ip, err := netip.ParseAddr(a.Value); err == nil && a.Host == host {
			out = append(out, c.address(ip))
		}
	}
	if len(out) == 0 {
		for _, ip := range c.assign("ServiceEntry", s, host) {
			out = append(out, c.address(ip))
		}
	}
	return out
}

// eligibleForVIP says which hosts istiod allocates an address for.
func eligibleForVIP(s *kubefile.ServiceEntry, host string) bool {
	wildcard := strings.HasPrefix(host, "*")
	return s.Spec.Resolution != networking.ServiceEntry_NONE &&
		!strings.EqualFold(s.Labels[autoAllocateLabel], "false") &&
		(!wildcard || s.Spec.Resolution == networking.ServiceEntry_DYNAMIC_DNS)
}

func (c *converter) assign(kind string, o metav1.Object, host string) []netip.Addr {
	if c.config.VIPs == nil {
		c.warn(kind, o, "the host %s has no address, and none can be allocated", host)
		return nil
	}
	c.facts.Assigned = append(c.facts.Assigned, host)
	ips, err := c.config.VIPs.Assign(host)
	if err != nil {
		c.warn(kind, o, "no address could be allocated for the host %s: %v", host, err)
	}
	return ips
}
