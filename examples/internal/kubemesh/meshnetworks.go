package kubemesh

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// readMeshNetworks reads the ConfigMap's meshNetworks, as istiod does for
// sidecars: which cluster (fromRegistry) and which of its addresses (fromCidr)
// are on which network. Gateways are read from Gateway objects only.
func (c *converter) readMeshNetworks() {
	for _, m := range c.home.ConfigMaps {
		if text := m.Data["meshNetworks"]; m.Name == "istio" && m.Namespace == c.config.SystemNamespace && text != "" {
			c.meshNetworks(m, text)
		}
	}
}

func (c *converter) meshNetworks(m *corev1.ConfigMap, text string) {
	if c.config.Compat == endpoints.Istio {
		c.warnHome(m, "data.meshNetworks: is not read: networks come from the label %s", networkLabel)
		return
	}
	var parsed meshconfig.MeshNetworks
	data, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = protojson.Unmarshal(data, &parsed)
	}
	if err != nil {
		c.warnHome(m, "data.meshNetworks: %v", err)
		return
	}
	for name, network := range parsed.Networks {
		for _, e := range network.Endpoints {
			c.networkEndpoints(m, name, e)
		}
		if len(network.Gateways) > 0 {
			c.warnHome(m, "data.meshNetworks: the gateways of %s are not read: gateways are Gateways of class %s or %s", name, eastWestClass, remoteClass)
		}
	}
	slices.SortFunc(c.facts.Cluster.Ranges, func(a, b endpoints.NetworkAddress) int {
		return slices.Compare([]string{a.Prefix.String(), a.Network}, []string{b.Prefix.String(), b.Network})
	})
}

func (c *converter) networkEndpoints(m *corev1.ConfigMap, name string, e *meshconfig.Network_NetworkEndpoints) {
	switch ne := e.Ne.(type) {
	case *meshconfig.Network_NetworkEndpoints_FromRegistry:
		if ne.FromRegistry == c.config.Cluster && c.facts.Cluster.Network == "" {
			c.facts.Cluster.Network = name
		}
	case *meshconfig.Network_NetworkEndpoints_FromCidr:
		prefix, err := netip.ParsePrefix(ne.FromCidr)
		if err != nil {
			c.warnHome(m, "data.meshNetworks: fromCidr of %s: %v", name, err)
			return
		}
		c.facts.Cluster.Ranges = append(c.facts.Cluster.Ranges, endpoints.NetworkAddress{Network: name, Prefix: prefix.Masked()})
	}
}

// warnHome warns about an object of the control plane's own cluster once: where
// that is converted.
func (c *converter) warnHome(m *corev1.ConfigMap, format string, args ...any) {
	if c.isHome {
		c.warn("ConfigMap", m, format, args...)
	}
}
