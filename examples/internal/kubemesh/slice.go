package kubemesh

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// convertEndpointSlices converts endpoints that are no pods: those that
// somebody wrote for a Service without a selector. Nothing is known of them but
// their address, which they may share with others.
func (c *converter) convertEndpointSlices() {
	for _, slice := range c.snapshot.EndpointSlices {
		name := slice.Labels[discoveryv1.LabelServiceName]
		if name == "" {
			c.warn("EndpointSlice", slice, "has no label %s, so it is for no Service", discoveryv1.LabelServiceName)
			continue
		}
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			c.warn("EndpointSlice", slice, "has names for addresses, which are not read")
			continue
		}
		s := c.find(slice.Namespace, name)
		if s == nil {
			c.warn("EndpointSlice", slice, "its Service %s is not there", name)
			continue
		}
		c.endpointSlice(slice, s)
	}
}

func (c *converter) endpointSlice(slice *discoveryv1.EndpointSlice, s *service) {
	var services []endpoints.ServicePorts
	for _, s := range withImported([]*service{s}) {
		services = append(services, endpoints.ServicePorts{Service: s.fact.Key(), Ports: c.slicePorts(slice, s)})
	}
	for i, e := range slice.Endpoints {
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			c.checkPodReference(slice, e)
			continue // the Pod says more
		}
		w := &endpoints.Workload{
			UID:         c.config.Cluster + "/discovery.k8s.io/EndpointSlice/" + slice.Namespace + "/" + slice.Name + "/" + e.Addresses[0],
			Name:        slice.Name,
			Namespace:   slice.Namespace,
			Services:    services,
			NetworkMode: endpoints.HostNetwork,
			Type:        endpoints.Deployment, // nobody knows: the zero value, as istiod tells it
		}
		if ready := e.Conditions.Ready; ready != nil && !*ready {
			w.Health = endpoints.Unhealthy
		}
		for _, text := range e.Addresses {
			if ip, err := netip.ParseAddr(text); err == nil {
				w.Addresses = append(w.Addresses, ip)
			}
		}
		if len(e.Addresses) > 1 {
			c.warn("EndpointSlice", slice, "endpoints[%d] has several addresses; Kubernetes gives no meaning to that", i)
		}
		c.addWorkload("EndpointSlice", slice, w)
	}
}

// checkPodReference tells of an endpoint for a pod that is not there.
func (c *converter) checkPodReference(slice *discoveryv1.EndpointSlice, e discoveryv1.Endpoint) {
	if pod := e.TargetRef.Namespace + "/" + e.TargetRef.Name; !c.pods[pod] {
		c.warn("EndpointSlice", slice, "its endpoint %s is for the Pod %s, which is not there", e.Addresses[0], pod)
	}
}

// slicePorts maps the Service's ports to the slice's by name. Only TCP is told.
func (c *converter) slicePorts(slice *discoveryv1.EndpointSlice, s *service) []endpoints.Port {
	var out []endpoints.Port
	for _, p := range slice.Ports {
		if p.Name == nil || p.Port == nil || *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		for i, servicePort := range s.fact.Ports {
			if s.ports[i].name == *p.Name {
				out = append(out, endpoints.Port{ServicePort: servicePort.ServicePort, TargetPort: uint16(*p.Port)})
				break
			}
		}
	}
	return out
}
