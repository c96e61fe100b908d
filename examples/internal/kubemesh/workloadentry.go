package kubemesh

import (
	"maps"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// readsEntries reports whether ServiceEntries and WorkloadEntries are read.
// istiod reads those of its own cluster only.
func (c *converter) readsEntries() bool { return c.isHome || c.config.Compat == endpoints.Native }

// convertWorkloadEntries converts virtual machines.
func (c *converter) convertWorkloadEntries() {
	if !c.readsEntries() {
		return
	}
	for _, e := range c.snapshot.WorkloadEntries {
		c.workloadEntry(e)
	}
}

func (c *converter) workloadEntry(e *kubefile.WorkloadEntry) {
	labels := maps.Clone(e.Labels)
	if labels == nil && len(e.Spec.Labels) > 0 {
		labels = make(map[string]string)
	}
	for key, value := range e.Spec.Labels {
		if _, ok := labels[key]; !ok { // those of the metadata win
			labels[key] = value
		}
	}
	var services []*service
	for _, s := range c.services[e.Namespace] {
		if s.selects(labels) {
			services = append(services, s)
		}
	}
	w := c.entry(e.Spec, services)
	w.UID = c.config.Cluster + "/networking.istio.io/WorkloadEntry/" + e.Namespace + "/" + e.Name
	w.Name, w.Namespace, w.Network = e.Name, e.Namespace, e.Spec.Network
	name := firstLabel(labels, e.Name, workloadNameLabel)
	if group, ok := e.Annotations["istio.io/autoRegistrationGroup"]; ok {
		name = group
	}
	setCanonical(w, name, labels)
	c.setTunnel("WorkloadEntry", e, w, labels, e.Annotations)
	c.setWorkloadWaypoint("WorkloadEntry", &metav1.ObjectMeta{Name: e.Name, Namespace: e.Namespace, Labels: labels}, w)
	w.AuthorizationPolicies = c.policiesOf(e.Namespace, labels)
	c.addWorkload("WorkloadEntry", e, w)
}

// convertServiceEntryEndpoints converts the endpoints in ServiceEntries. A
// ServiceEntry to be resolved by DNS that has none stands for its hosts.
func (c *converter) convertServiceEntryEndpoints() {
	if !c.readsEntries() {
		return
	}
	bySource := make(map[metav1.Object][]*service)
	for _, inNamespace := range c.services {
		for _, s := range inNamespace {
			bySource[s.source] = append(bySource[s.source], s)
		}
	}
	for _, e := range c.snapshot.ServiceEntries {
		services := bySource[e]
		if len(services) == 0 {
			continue // told when its hosts lost
		}
		network := ""
		for _, endpoint := range e.Spec.Endpoints {
			network = c.networkOf(endpoint, network)
			c.serviceEntryEndpoint(e, endpoint, services, network)
		}
		if len(e.Spec.Endpoints) == 0 && e.Spec.WorkloadSelector == nil && resolvedByDNS(e.Spec) {
			for _, s := range services {
				c.serviceEntryEndpoint(e, &networking.WorkloadEntry{Address: s.fact.Hostname}, []*service{s}, "")
			}
		}
	}
}

// networkOf returns an endpoint's network. In istiod, an endpoint that names
// none is on the network of the one before.
func (c *converter) networkOf(e *networking.WorkloadEntry, before string) string {
	if e.Network == "" && c.config.Compat == endpoints.Istio {
		return before
	}
	return e.Network
}

func resolvedByDNS(e *networking.ServiceEntry) bool {
	switch e.Resolution {
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN, networking.ServiceEntry_DYNAMIC_DNS:
		return true
	}
	return false
}

func (c *converter) serviceEntryEndpoint(e *kubefile.ServiceEntry, endpoint *networking.WorkloadEntry, services []*service, network string) {
	if strings.HasPrefix(endpoint.Address, "unix://") {
		c.warn("ServiceEntry", e, "the endpoint %s cannot be reached from other machines", endpoint.Address)
		return
	}
	w := c.entry(endpoint, services)
	w.UID = c.config.Cluster + "/networking.istio.io/ServiceEntry/" + e.Namespace + "/" + e.Name + "/" + endpoint.Address
	w.Name, w.Namespace, w.Network = e.Name, e.Namespace, network
	setCanonical(w, e.Name, e.Labels)
	c.setTunnel("ServiceEntry", e, w, e.Labels, e.Annotations)
	if endpoint.Labels != nil {
		c.setWorkloadWaypoint("ServiceEntry", &metav1.ObjectMeta{Name: e.Name, Namespace: e.Namespace, Labels: endpoint.Labels}, w)
	}
	w.AuthorizationPolicies = c.policiesOf(e.Namespace, e.Labels)
	c.addWorkload("ServiceEntry", e, w)
}

// entry converts what WorkloadEntries and endpoints of ServiceEntries share.
func (c *converter) entry(e *networking.WorkloadEntry, services []*service) *endpoints.Workload {
	w := &endpoints.Workload{
		ServiceAccount: e.ServiceAccount,
		Services:       membership(services, func(s *service, i int) (uint16, bool) { return entryPort(e, s, i) }),
		Locality:       splitLocality(e.Locality),
	}
	if e.Address != "" {
		setAddress(w, e.Address)
	}
	if e.Weight > 0 {
		w.Capacity = &e.Weight
	}
	return w
}

// entryPort finds a service's port on an entry, which may rename it.
func entryPort(e *networking.WorkloadEntry, s *service, i int) (uint16, bool) {
	if named := s.ports[i].target; named != "" {
		port, ok := e.Ports[named]
		return uint16(port), ok
	}
	if port, ok := e.Ports[s.ports[i].name]; ok {
		return uint16(port), true
	}
	return s.ports[i].number, !s.ports[i].absent
}

// splitLocality reads "region/zone/subzone".
func splitLocality(text string) endpoints.Locality {
	var parts [3]string
	copy(parts[:], strings.SplitN(text, "/", 3))
	return endpoints.Locality{Region: parts[0], Zone: parts[1], Subzone: parts[2]}
}
