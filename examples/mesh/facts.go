package main

import (
	"fmt"
	"io/fs"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	"github.com/eastwest-mesh/eastwest/scope"
)

// facts are what a cluster's objects say, read in the most direct way: what
// the story expects of the mesh is worked out from these, not from the code
// that it shows.
type facts struct {
	cluster string
	*kubefile.Snapshot
	scope *scope.Matcher
}

// loadFacts reads the facts of a cluster. The directory is how errors call it.
func loadFacts(fsys fs.FS, cluster, directory string) (*facts, error) {
	snapshot, err := kubefile.Loader{}.LoadFS(fsys, directory)
	if err != nil {
		return nil, err
	}
	return newFacts(cluster, snapshot)
}

func newFacts(cluster string, snapshot *kubefile.Snapshot) (*facts, error) {
	matcher, err := kubemesh.Scopes(snapshot, scope.Options{})
	if err != nil {
		return nil, err
	}
	return &facts{cluster, snapshot, matcher}, nil
}

func (f *facts) service(namespace, name string) (*corev1.Service, error) {
	for _, s := range f.Services {
		if s.Namespace == namespace && s.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("cluster %s has no Service %s/%s", f.cluster, namespace, name)
}

func (f *facts) pod(namespace, name string) (*corev1.Pod, error) {
	for _, p := range f.Pods {
		if p.Namespace == namespace && p.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("cluster %s has no Pod %s/%s", f.cluster, namespace, name)
}

// backends are the ready pods that a service selects.
func (f *facts) backends(s *corev1.Service) []*corev1.Pod {
	var pods []*corev1.Pod
	selector := labels.SelectorFromSet(s.Spec.Selector)
	for _, p := range f.Pods {
		if len(s.Spec.Selector) > 0 && p.Namespace == s.Namespace && selector.Matches(labels.Set(p.Labels)) && ready(p) {
			pods = append(pods, p)
		}
	}
	return pods
}

// count is how many backends a service has; none, if there is no such service.
func (f *facts) count(s *corev1.Service) int {
	if s == nil {
		return 0
	}
	return len(f.backends(s))
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

func (f *facts) global(s *corev1.Service) bool {
	o := scope.Object{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels}
	for _, ns := range f.Namespaces {
		if ns.Name == s.Namespace {
			o.NamespaceKnown, o.NamespaceLabels = true, ns.Labels
		}
	}
	return f.scope.Evaluate(o) == scope.Global
}

func (f *facts) network() string {
	for _, ns := range f.Namespaces {
		if ns.Name == "istio-system" {
			return ns.Labels["topology.istio.io/network"]
		}
	}
	return ""
}

func (f *facts) trustDomain() string {
	if f.Mesh != nil && f.Mesh.GetTrustDomain() != "" {
		return f.Mesh.GetTrustDomain()
	}
	return "cluster.local"
}

// A gatewayFact is where a cluster's east-west gateway listens, and who it is.
type gatewayFact struct {
	namespace, serviceAccount string
	address                   netip.AddrPort
}

func (f *facts) gateway() (gatewayFact, error) {
	for _, g := range f.Gateways {
		if g.Spec.GatewayClassName != "istio-east-west" || len(g.Status.Addresses) == 0 {
			continue
		}
		ip, err := netip.ParseAddr(g.Status.Addresses[0].Value)
		if err != nil {
			return gatewayFact{}, fmt.Errorf("%s: Gateway %s/%s: status.addresses: %w", f.Position(g), g.Namespace, g.Name, err)
		}
		account := g.Annotations["gateway.istio.io/service-account"]
		if account == "" {
			account = g.Name
		}
		return gatewayFact{g.Namespace, account, netip.AddrPortFrom(ip, 15008)}, nil
	}
	return gatewayFact{}, fmt.Errorf("cluster %s has no Gateway of class istio-east-west with an address", f.cluster)
}

// node returns the name of the cluster's node. The story runs one node proxy
// in each cluster.
func (f *facts) node() (string, error) {
	if len(f.Nodes) != 1 {
		return "", fmt.Errorf("cluster %s has %d Nodes; the story wants one", f.cluster, len(f.Nodes))
	}
	return f.Nodes[0].Name, nil
}

// podPrefixes cover the pods' addresses: that is the cluster's pod network.
func (f *facts) podPrefixes() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, p := range f.Pods {
		ip, err := netip.ParseAddr(p.Status.PodIP)
		if err != nil {
			return nil, fmt.Errorf("%s: Pod %s/%s: status.podIP: %w", f.Position(p), p.Namespace, p.Name, err)
		}
		prefixes = append(prefixes, netip.PrefixFrom(ip, ip.BitLen()))
	}
	return prefixes, nil
}
