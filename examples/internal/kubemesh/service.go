package kubemesh

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/lb"
	"github.com/eastwest-mesh/eastwest/scope"
)

// service is a service and what is needed to find its workloads.
type service struct {
	fact       *endpoints.Service
	kubernetes bool // a Service, not a host of a ServiceEntry
	source     metav1.Object
	traffic    lb.Traffic // of a Service
	headless   bool       // so that its pods may have names of their own
	selector   map[string]string
	ports      []portName // as fact.Ports
	imported   *service   // the service of all clusters that it is exported to
}

// portName is how a port of a service finds its port of a workload.
type portName struct {
	name   string
	target string // a named targetPort
	number uint16 // another targetPort
	absent bool   // only other clusters have it
}

func (s *service) created() time.Time { return s.fact.Created }

// selects reports whether the selector is there and matches.
func (s *service) selects(labels map[string]string) bool {
	return len(s.selector) > 0 && subset(s.selector, labels)
}

func subset(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// convertServices converts Services and ServiceEntries, and chooses among those
// that have the same hostname.
func (c *converter) convertServices() {
	var all []*service
	for _, s := range c.snapshot.Services {
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			c.warn("Service", s, "is of type ExternalName: it is left to the upstream DNS server")
			continue
		}
		all = append(all, c.kubernetesService(s))
	}
	if c.readsEntries() {
		for _, s := range c.snapshot.ServiceEntries {
			all = append(all, c.serviceEntry(s)...)
		}
	}
	for _, s := range c.selectServices(all) {
		c.facts.Services = append(c.facts.Services, s.fact)
		c.services[s.fact.Namespace] = append(c.services[s.fact.Namespace], s)
	}
}

func (c *converter) kubernetesService(s *corev1.Service) *service {
	traffic := c.traffic(s)
	fact := &endpoints.Service{
		Name:          s.Name,
		Namespace:     s.Namespace,
		Hostname:      c.hostname(s.Name, s.Namespace),
		Addresses:     c.clusterIPs(s),
		IPFamilies:    ipFamilies(s.Spec.IPFamilies),
		LoadBalancing: c.loadBalancing("Service", s, traffic),
		Canonical:     true,
		Created:       s.CreationTimestamp.Time,
	}
	c.setScope(fact, s)
	c.bindWaypoint("Service", s, fact)
	out := &service{fact: fact, kubernetes: true, source: s, selector: s.Spec.Selector, traffic: traffic,
		headless: s.Spec.ClusterIP == corev1.ClusterIPNone}
	for _, p := range s.Spec.Ports {
		// UDP ports are told, too: istiod does not leave them out.
		fact.Ports = append(fact.Ports, endpoints.Port{
			ServicePort: uint16(p.Port),
			TargetPort:  uint16(p.TargetPort.IntVal), // 0 if it is named
			AppProtocol: servicePortProtocol(p),
		})
		out.ports = append(out.ports, portName{name: p.Name, target: p.TargetPort.StrVal, number: uint16(p.TargetPort.IntVal)})
	}
	return out
}

// clusterIPs returns the addresses of a Service; a headless one has none.
func (c *converter) clusterIPs(s *corev1.Service) []endpoints.NetworkAddress {
	var out []endpoints.NetworkAddress
	for _, text := range s.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil { // not "None" or ""
			out = append(out, c.address(ip))
		}
	}
	return out
}

func (c *converter) address(ip netip.Addr) endpoints.NetworkAddress {
	return endpoints.HostAddress(c.facts.Cluster.Network, ip)
}

func ipFamilies(families []corev1.IPFamily) endpoints.IPFamilies {
	return endpoints.IPFamiliesOf(slices.Contains(families, corev1.IPv4Protocol), slices.Contains(families, corev1.IPv6Protocol))
}

// setScope decides who sees a service: the cluster exports it, and others
// accept it.
func (c *converter) setScope(fact *endpoints.Service, o metav1.Object) {
	labels, _ := c.labelsOf(fact.Namespace)
	known := c.namespaces[fact.Namespace] != nil
	object := scope.Object{
		Namespace: fact.Namespace, Name: o.GetName(), Labels: o.GetLabels(),
		NamespaceKnown: known, NamespaceLabels: labels, Host: fact.Hostname,
	}
	if _, ok := o.(*corev1.Service); ok && !known {
		c.warn("Service", o, "its Namespace is not there, so it cannot be global")
	}
	if c.config.Scope.Evaluate(object) != scope.Global {
		return
	}
	fact.Scope = endpoints.ScopeGlobal
	for cluster, accepts := range c.config.Accepts {
		if accepts.Evaluate(object) != scope.Global {
			fact.Refused = append(fact.Refused, cluster)
		}
	}
	slices.Sort(fact.Refused)
}

// traffic reads what a Service prefers.
func (c *converter) traffic(s *corev1.Service) lb.Traffic {
	_, nsAnnotations := c.labelsOf(s.Namespace)
	t := lb.Traffic{
		Annotation:          s.Annotations[lb.Annotation],
		NamespaceAnnotation: nsAnnotations[lb.Annotation],
		PublishNotReady:     s.Spec.PublishNotReadyAddresses,
	}
	if policy := s.Spec.InternalTrafficPolicy; policy != nil {
		t.InternalLocal = *policy == corev1.ServiceInternalTrafficPolicyLocal
	}
	if s.Spec.TrafficDistribution != nil {
		t.Distribution = *s.Spec.TrafficDistribution
	}
	return t
}

// loadBalancing returns nil where all endpoints are alike.
func (c *converter) loadBalancing(kind string, o metav1.Object, t lb.Traffic) *endpoints.LoadBalancing {
	policy, err := t.Policy()
	if err != nil {
		c.warn(kind, o, "%v", err)
	}
	out := &endpoints.LoadBalancing{Mode: modes[policy.Mode]}
	if policy.Health == lb.AllowAll {
		out.HealthPolicy = endpoints.AllowAll
	}
	for _, s := range policy.Preferences {
		out.Preference = append(out.Preference, routingScopes[s])
	}
	if c.config.Compat == endpoints.Istio && policy.Mode == lb.Failover && len(policy.Preferences) < 3 {
		c.warn(kind, o, "its traffic distribution is not one of Istio's")
		out.Mode, out.Preference = endpoints.ModeUnspecified, nil
	}
	if out.Mode == endpoints.ModeUnspecified && out.HealthPolicy == endpoints.OnlyHealthy {
		return nil
	}
	return out
}

var modes = map[lb.Mode]endpoints.BalanceMode{
	lb.Strict: endpoints.ModeStrict, lb.Failover: endpoints.ModeFailover, lb.Passthrough: endpoints.ModePassthrough,
}

var routingScopes = map[lb.Scope]endpoints.RoutingScope{
	lb.Region: endpoints.SameRegion, lb.Zone: endpoints.SameZone, lb.Subzone: endpoints.SameSubzone,
	lb.Node: endpoints.SameNode, lb.Cluster: endpoints.SameCluster, lb.Network: endpoints.SameNetwork,
}
