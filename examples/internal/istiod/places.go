package istiod

import (
	"maps"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// places are where things are, for questions of clients. They are made anew at
// every change, and not changed afterwards.
type places struct {
	identities map[placement]bool
	networks   map[string]bool // of clusters, workloads and gateways
	clusters   map[string]string
	pods       map[string]podName // by the workload's UID
}

// A placement is that an identity runs on a node.
type placement struct{ cluster, node, identity string }

// A podName is what a StatefulSet gives to its pods, to be resolved below the
// name of its service.
type podName struct{ hostname, subdomain string }

func newPlaces(known map[string]*cluster) *places {
	p := &places{identities: map[placement]bool{}, networks: map[string]bool{}, clusters: map[string]string{}, pods: map[string]podName{}}
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
		}
		p.namePods(name, c.snapshot)
	}
	return p
}

func (p *places) namePods(cluster string, s *kubefile.Snapshot) {
	for _, pod := range s.Pods {
		if pod.Spec.Hostname != "" && pod.Spec.Subdomain != "" {
			p.pods[cluster+"//Pod/"+pod.Namespace+"/"+pod.Name] = podName{pod.Spec.Hostname, pod.Spec.Subdomain}
		}
	}
}
