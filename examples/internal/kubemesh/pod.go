package kubemesh

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const (
	regionLabel       = "topology.kubernetes.io/region"
	zoneLabel         = "topology.kubernetes.io/zone"
	subzoneLabel      = "topology.istio.io/subzone"
	workloadNameLabel = "service.istio.io/workload-name"
)

// A node is what pods have from where they run.
type node struct {
	locality endpoints.Locality
	network  string // empty: that of the cluster
}

func (c *converter) readNodes() {
	c.nodes = make(map[string]node, len(c.snapshot.Nodes))
	for _, n := range c.snapshot.Nodes {
		c.nodes[n.Name] = node{
			locality: endpoints.Locality{Region: n.Labels[regionLabel], Zone: n.Labels[zoneLabel], Subzone: n.Labels[subzoneLabel]},
			network:  n.Labels[networkLabel],
		}
	}
}

// convertPods converts the pods that run. One that has an address but is not
// ready yet is told as unhealthy.
func (c *converter) convertPods() {
	slices := c.podSlices()
	for _, p := range c.snapshot.Pods {
		c.pods[p.Namespace+"/"+p.Name] = true
		finished := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		if !finished && len(p.Status.PodIPs) > 0 {
			c.pod(p, slices)
		}
	}
}

func (c *converter) pod(p *corev1.Pod, slices map[podRef][]*discoveryv1.EndpointSlice) {
	services := c.servicesOfPod(p, slices)
	services = append(services, c.podServices(p, services)...)
	w := &endpoints.Workload{
		UID:            c.config.Cluster + "//Pod/" + p.Namespace + "/" + p.Name,
		Name:           p.Name,
		Namespace:      p.Namespace,
		ServiceAccount: p.Spec.ServiceAccountName,
		Node:           p.Spec.NodeName,
		Health:         podHealth(p),
		Services:       membership(services, func(s *service, i int) (uint16, bool) { return podPort(p, s, i) }),
	}
	for _, ip := range p.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			w.Addresses = append(w.Addresses, addr)
		}
	}
	if p.Spec.HostNetwork {
		w.NetworkMode = endpoints.HostNetwork
	}
	node, known := c.nodes[p.Spec.NodeName]
	if !known && p.Spec.NodeName != "" {
		c.warn("Pod", p, "its Node %s is not there, so its locality is not known", p.Spec.NodeName)
	}
	w.Locality = node.locality
	if c.config.Compat == endpoints.Native { // istiod knows but one network of a cluster
		w.Network = orDefault(p.Labels[networkLabel], node.network)
	}
	setCanonical(w, podWorkloadName(p), p.Labels)
	c.setTunnel("Pod", p, w, p.Labels, p.Annotations)
	c.setWorkloadWaypoint("Pod", p, w)
	w.AuthorizationPolicies = c.policiesOf(p.Namespace, p.Labels)
	c.addWorkload("Pod", p, w)
}

// podServices returns the services that are this one pod, by the names that
// Kubernetes gives it below those of headless services that other clusters see.
func (c *converter) podServices(p *corev1.Pod, services []*service) (named []*service) {
	if c.config.Compat == endpoints.Istio || p.Spec.Hostname == "" {
		return nil
	}
	for _, s := range services {
		if !s.headless || s.fact.Name != p.Spec.Subdomain {
			continue
		}
		if s.fact.Scope == endpoints.ScopeGlobal {
			named = append(named, c.podService(p, s, s.fact.ForPod(p.Spec.Hostname)))
		}
		if i := s.imported; i != nil && i.headless { // the same hostname may be in other clusters
			named = append(named, c.podService(p, i, i.fact.ForPod(p.Spec.Hostname+"."+c.config.Cluster)))
		}
	}
	return named
}

func (c *converter) podService(p *corev1.Pod, of *service, fact *endpoints.Service) *service {
	named := *of
	named.fact, named.imported = fact, nil
	if c.podNames[fact.Key()] {
		c.warn("Pod", p, "another pod has its hostname %s and subdomain %s", p.Spec.Hostname, p.Spec.Subdomain)
	} else {
		c.podNames[fact.Key()] = true
		c.facts.Services = append(c.facts.Services, fact)
	}
	return &named
}

func podHealth(p *corev1.Pod) endpoints.Health {
	ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	if !ready || p.DeletionTimestamp != nil {
		return endpoints.Unhealthy
	}
	return endpoints.Healthy
}

// podRef is a Pod as EndpointSlices name it.
type podRef struct {
	namespace, name string
	uid             types.UID
}

// podSlices finds the EndpointSlices of Services that name a pod.
func (c *converter) podSlices() map[podRef][]*discoveryv1.EndpointSlice {
	out := make(map[podRef][]*discoveryv1.EndpointSlice)
	for _, s := range c.snapshot.EndpointSlices {
		if s.Labels[discoveryv1.LabelServiceName] == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for _, e := range s.Endpoints {
			if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
				key := podRef{ref.Namespace, ref.Name, ref.UID}
				out[key] = append(out[key], s)
			}
		}
	}
	return out
}

// servicesOfPod returns the services whose selector the pod matches, and
// Services without a selector that have it in an EndpointSlice.
func (c *converter) servicesOfPod(p *corev1.Pod, slices map[podRef][]*discoveryv1.EndpointSlice) []*service {
	var out []*service
	seen := make(map[*service]bool)
	for _, s := range c.services[p.Namespace] {
		if s.selects(p.Labels) {
			out, seen[s] = append(out, s), true
		}
	}
	for _, slice := range slices[podRef{p.Namespace, p.Name, p.UID}] {
		s := c.find(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])
		if s != nil && !seen[s] {
			out, seen[s] = append(out, s), true
		}
	}
	return out
}

// podPort finds a service's port on a pod. The name of a ServiceEntry's port
// is looked for among the pod's, too.
func podPort(p *corev1.Pod, s *service, i int) (uint16, bool) {
	if named := s.ports[i].target; named != "" {
		return containerPort(p, named)
	}
	if !s.kubernetes {
		if found, ok := containerPort(p, s.ports[i].name); ok {
			return found, true
		}
	}
	return s.ports[i].number, !s.ports[i].absent
}

// containerPort finds a TCP port by name, also in init containers that keep
// running.
func containerPort(p *corev1.Pod, name string) (uint16, bool) {
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, port := range c.Ports {
			if port.Name == name && port.Protocol == corev1.ProtocolTCP {
				return uint16(port.ContainerPort), true
			}
		}
	}
	return 0, false
}

var cronJobRun = regexp.MustCompile(`(.+)-\d{8,10}$`)

// podWorkloadName names what made the pod: the Deployment of a ReplicaSet, the
// CronJob of a Job, the controller itself, or, for want of one, the pod.
func podWorkloadName(p *corev1.Pod) string {
	if name, ok := p.Labels[workloadNameLabel]; ok {
		return name
	}
	owner := metav1.GetControllerOf(p)
	if p.GenerateName == "" || owner == nil || owner.Name == "" {
		return p.Name
	}
	switch owner.Kind {
	case "ReplicaSet":
		for _, label := range []string{"pod-template-hash", "rollouts-pod-template-hash"} {
			if hash := p.Labels[label]; hash != "" && strings.HasSuffix(owner.Name, hash) {
				return strings.TrimSuffix(owner.Name, "-"+hash)
			}
		}
	case "ReplicationController":
		if name := p.Labels["deploymentconfig"]; name != "" {
			return name
		}
	case "Job":
		if m := cronJobRun.FindStringSubmatch(owner.Name); m != nil {
			return m[1]
		}
	}
	return owner.Name
}
