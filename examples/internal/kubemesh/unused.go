package kubemesh

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// unused tells of fields that have an effect elsewhere, but none in an ambient
// mesh.
func (c *converter) unused() {
	for _, s := range c.snapshot.Services {
		if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
			c.warn("Service", s, "spec.sessionAffinity: has no effect in the mesh")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			c.warn("Service", s, "spec.externalIPs: are not addresses of the service in the mesh")
		}
	}
	for _, p := range c.snapshot.Pods {
		if c.config.Compat == endpoints.Native {
			break
		}
		if network, ok := p.Labels[networkLabel]; ok && network != c.facts.Cluster.Network {
			c.warn("Pod", p, "the label %s: %s is not read: a pod is on the network of its cluster, %q", networkLabel, network, c.facts.Cluster.Network)
		}
	}
	if c.isHome {
		c.unusedOfIstio()
	}
	c.unread()
}

func (c *converter) unusedOfIstio() {
	for _, s := range c.snapshot.ServiceEntries {
		if len(s.Spec.ExportTo) > 0 && !slices.Equal(s.Spec.ExportTo, []string{"*"}) {
			c.warn("ServiceEntry", s, "spec.exportTo: has no effect in ambient mode; the MeshConfig's serviceEntryVisibility has")
		}
	}
}

// unread tells of kinds that are read from the control plane's own cluster
// only.
func (c *converter) unread() {
	if c.isHome {
		return
	}
	entries := 1
	if c.readsEntries() {
		entries = 0
	}
	for _, kind := range []struct {
		name  string
		count int
	}{
		{"ServiceEntries", entries * len(c.snapshot.ServiceEntries)},
		{"WorkloadEntries", entries * len(c.snapshot.WorkloadEntries)},
		{"AuthorizationPolicies", len(c.snapshot.AuthorizationPolicies)},
		{"PeerAuthentications", len(c.snapshot.PeerAuthentications)},
		{"GatewayClasses", len(c.snapshot.GatewayClasses)},
	} {
		if kind.count > 0 {
			c.facts.Warnings = append(c.facts.Warnings, Warning{
				Position: kubefile.Position{File: c.snapshot.Name},
				Problem:  fmt.Sprintf("%d %s of the remote cluster %s are not read: they act in their own cluster only", kind.count, kind.name, c.config.Cluster),
			})
		}
	}
}
