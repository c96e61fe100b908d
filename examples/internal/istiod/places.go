package istiod

import (
	"maps"
	"slices"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// places are where things are, for questions of clients. They are made anew at
// every change, and not changed afterwards.
type places struct {
	identities map[placement]bool
	networks   map[string]bool // of clusters, workloads and gateways
	clusters   map[string]string
	pods       map[string]podName // by the workload's UID
	mutual     map[string]bool    // UIDs of workloads that take Istio's mutual TLS

	gatewayNames []string // hostnames of gateways, sorted
}

// A placement is that an identity runs on a node.
type placement struct{ cluster, node, identity string }

// A podName is what a StatefulSet gives to its pods, to be resolved below the
// name of its service.
type podName struct{ hostname, subdomain string }

func newPlaces(known map[string]*cluster) *places {
	p := &places{identities: map[placement]bool{}, networks: map[string]bool{}, clusters: map[string]string{}, pods: map[string]podName{}, mutual: map[string]bool{}}
	for name, c := range maps.All(known) {
		p.clusters[name] = c.facts.Cluster.Network
		p.networks[c.facts.Cluster.Network] = true
		for _, w := range c.facts.Workloads {
			p.networks[w.Network] = true
			if w.Node != "" {
				p.identities[placement{name, w.Node, w.Identity()}] = true
			}
		}
		for _, g := range c.facts.Gateways {
			p.networks[g.Network] = true
			p.gatewayNames = append(p.gatewayNames, g.Hostnames...)
		}
		p.namePods(name, c.snapshot)
		p.findSidecars(name, c.snapshot)
	}
	slices.Sort(p.gatewayNames)
	p.gatewayNames = slices.Compact(p.gatewayNames)
	return p
}

// tlsModeLabel is what the sidecar injector gives to what takes mutual TLS.
const tlsModeLabel = "security.istio.io/tlsMode"

func (p *places) findSidecars(cluster string, s *kubefile.Snapshot) {
	for _, pod := range s.Pods {
		if pod.Labels[tlsModeLabel] == "istio" {
			p.mutual[cluster+"//Pod/"+pod.Namespace+"/"+pod.Name] = true
		}
	}
	for _, e := range s.WorkloadEntries {
		if e.Labels[tlsModeLabel] == "istio" || e.Spec.GetLabels()[tlsModeLabel] == "istio" {
			p.mutual[cluster+"/networking.istio.io/WorkloadEntry/"+e.Namespace+"/"+e.Name] = true
		}
	}
}

func (p *places) namePods(cluster string, s *kubefile.Snapshot) {
	for _, pod := range s.Pods {
		if pod.Spec.Hostname != "" && pod.Spec.Subdomain != "" {
			p.pods[cluster+"//Pod/"+pod.Namespace+"/"+pod.Name] = podName{pod.Spec.Hostname, pod.Spec.Subdomain}
		}
	}
}
