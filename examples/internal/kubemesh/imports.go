package kubemesh

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/mcs"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// Imports are what clusters export by the Multi-Cluster Services API, by
// namespace/name.
type Imports map[string]Imported

// Imported is a service that clusters export, and the status of their
// ServiceExports.
type Imported struct {
	*mcs.Import                            // nil: no export is valid
	Conditions  map[string][]mcs.Condition // by cluster
}

// NewImports merges the ServiceExports of all clusters, by cluster ID.
func NewImports(snapshots map[string]*kubefile.Snapshot) Imports {
	exports := make(map[[2]string][]mcs.Export)
	for cluster, s := range snapshots {
		services := make(map[[2]string]*corev1.Service, len(s.Services))
		for _, service := range s.Services {
			services[[2]string{service.Namespace, service.Name}] = service
		}
		for _, e := range s.ServiceExports {
			key := [2]string{e.Namespace, e.Name}
			exports[key] = append(exports[key], mcs.Export{
				Cluster: cluster, Created: e.CreationTimestamp.Time,
				Labels: e.Spec.ExportedLabels, Annotations: e.Spec.ExportedAnnotations,
				Service: exported(services[key]),
			})
		}
	}
	imports := make(Imports, len(exports))
	for key, of := range exports {
		merged, conditions := mcs.Merge(key[0], key[1], of)
		imports[key[0]+"/"+key[1]] = Imported{merged, conditions}
	}
	return imports
}

// exported returns what of a Service counts for other clusters.
func exported(s *corev1.Service) *mcs.Service {
	if s == nil {
		return nil
	}
	out := &mcs.Service{SessionAffinity: string(s.Spec.SessionAffinity)}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		out.Type = mcs.ExternalName
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		out.Type = mcs.Headless
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		out.SessionAffinityTimeout = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		out.InternalTrafficPolicy = string(*p)
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		out.TrafficDistribution = *d
	}
	for _, f := range s.Spec.IPFamilies {
		out.IPFamilies = append(out.IPFamilies, string(f))
	}
	for _, p := range s.Spec.Ports {
		port := mcs.Port{Name: p.Name, Protocol: string(p.Protocol), Port: uint16(p.Port)}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}

// convertImports converts what this cluster has a part in. Other clusters'
// views have it all the same.
func (c *converter) convertImports() {
	if c.config.Compat == endpoints.Istio {
		return
	}
	for _, e := range c.snapshot.ServiceExports {
		imported := c.config.Imports[e.Namespace+"/"+e.Name]
		for _, condition := range imported.Conditions[c.config.Cluster] {
			if condition.Type == mcs.Valid && condition.Status == "False" || condition.Type == mcs.Conflict && condition.Status == "True" {
				c.warn("ServiceExport", e, "%s: %s", condition.Reason, condition.Message)
			}
		}
		if i := imported.Import; i != nil && slices.Contains(i.Clusters, c.config.Cluster) {
			c.imported(c.find(e.Namespace, e.Name), i)
		}
	}
}

// imported makes the service of all clusters that a Service of this one has a
// part in.
func (c *converter) imported(s *service, i *mcs.Import) {
	s.imported = &service{fact: i.Fact(), kubernetes: true, source: s.source, selector: s.selector, headless: i.Type == mcs.Headless}
	for _, p := range i.Ports {
		at := slices.IndexFunc(s.ports, func(own portName) bool { return own.name == p.Name })
		if at >= 0 && s.fact.Ports[at].ServicePort == p.Port {
			s.imported.ports = append(s.imported.ports, s.ports[at])
		} else {
			s.imported.ports = append(s.imported.ports, portName{name: p.Name, absent: true})
		}
	}
	fact := s.imported.fact
	// Whether unready pods are used is not for all clusters to agree about, nor is
	// what Istio's annotation says.
	traffic := s.traffic
	traffic.InternalLocal = i.InternalTrafficPolicy == string(corev1.ServiceInternalTrafficPolicyLocal)
	traffic.Distribution = i.TrafficDistribution
	fact.LoadBalancing = c.loadBalancing("ServiceExport", s.source, traffic)
	if i.Type == mcs.ClusterSetIP {
		for _, ip := range c.assign("ServiceExport", s.source, fact.Hostname) {
			fact.Addresses = append(fact.Addresses, c.address(ip))
		}
	}
	c.facts.Services = append(c.facts.Services, fact)
}
