package kubemesh

import (
	"net/netip"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const (
	eastWestClass = "istio-east-west"
	remoteClass   = "istio-remote"

	listenerProtocolOption   = "gateway.istio.io/listener-protocol"
	serviceAccountAnnotation = "gateway.istio.io/service-account"
)

// convertGateways finds the gateways of networks. One of class istio-east-west
// is how others enter the network of its cluster. One of class istio-remote, in
// the control plane's own cluster, says how another network is entered. Any
// other that has a network, and passes TLS through by SNI, is one for sidecars.
func (c *converter) convertGateways() {
	for _, g := range c.snapshot.Gateways {
		class := string(g.Spec.GatewayClassName)
		switch {
		case class != eastWestClass && class != remoteClass && (g.Labels[networkLabel] == "" || sniPort(g) == 0):
		case g.Labels[networkLabel] == "":
			c.warn("Gateway", g, "is of class %s but has no label %s, so it is for no network", class, networkLabel)
		case class == remoteClass && !c.isHome:
			c.warn("Gateway", g, "is of class %s in a remote cluster: only that cluster's own control plane reads it", class)
		default:
			c.gateway(g, class)
		}
	}
}

func (c *converter) gateway(g *gatewayv1.Gateway, class string) {
	fact := &endpoints.Gateway{
		Namespace:      g.Namespace,
		Name:           g.Name,
		Network:        g.Labels[networkLabel],
		SNIPort:        sniPort(g),
		ServiceAccount: gatewayAccount(g, class),
		Weight:         c.gatewayWeight(g),
		Health:         gatewayHealth(g),
	}
	switch listener := hboneListener(g, class); {
	case listener != nil:
		fact.HBONEPort = c.hbonePort(g, class, listener)
	case fact.SNIPort != 0:
		fact.NoHBONE = true
	default:
		c.warn("Gateway", g, "has no listener of protocol HBONE that terminates TLS, so other networks cannot use it")
		return
	}
	for _, a := range g.Status.Addresses {
		if a.Type == nil {
			c.warn("Gateway", g, "its address %s has no type, so it is not used", a.Value)
		} else if ip, err := netip.ParseAddr(a.Value); err == nil && *a.Type == gatewayv1.IPAddressType {
			fact.Addresses = append(fact.Addresses, ip)
		} else if *a.Type == gatewayv1.HostnameAddressType {
			fact.Hostnames = append(fact.Hostnames, a.Value)
		} else {
			c.warn("Gateway", g, "its address %s is of type %s, which is not used", a.Value, *a.Type)
		}
	}
	if len(fact.Addresses)+len(fact.Hostnames) == 0 {
		c.warn("Gateway", g, "has no address in its status yet, so other networks cannot use it")
		return
	}
	c.facts.Gateways = append(c.facts.Gateways, fact)
}

// hbonePort returns the port of a listener; 0 where it is istiod's, which does not
// read that of its own class, and names the gateway so.
func (c *converter) hbonePort(g *gatewayv1.Gateway, class string, l *gatewayv1.Listener) uint16 {
	port := uint16(l.Port)
	if class != eastWestClass || port != endpoints.DefaultHBONEPort && c.config.Compat != endpoints.Istio {
		return port
	}
	if port != endpoints.DefaultHBONEPort {
		c.warn("Gateway", g, "its HBONE port %d is not read: istiod takes %d", port, endpoints.DefaultHBONEPort)
	}
	return 0
}

// weightAnnotation is how much goes through a gateway, compared with others of
// its network.
const weightAnnotation = "eastwest-mesh.io/weight"

func (c *converter) gatewayWeight(g *gatewayv1.Gateway) uint32 {
	text, ok := g.Annotations[weightAnnotation]
	if !ok {
		return 0
	}
	weight, err := strconv.ParseUint(text, 10, 32)
	if err != nil || weight == 0 {
		c.warn("Gateway", g, "the annotation %s: %q is not a number from 1", weightAnnotation, text)
	}
	return uint32(weight)
}

// gatewayHealth reads the condition Programmed, which says that there is
// something that serves the Gateway.
func gatewayHealth(g *gatewayv1.Gateway) endpoints.Health {
	for _, c := range g.Status.Conditions {
		if c.Type == string(gatewayv1.GatewayConditionProgrammed) && c.Status == metav1.ConditionFalse {
			return endpoints.Unhealthy
		}
	}
	return endpoints.Healthy
}

// hboneListener returns the first listener that other networks can use, of a
// class that has such.
func hboneListener(g *gatewayv1.Gateway, class string) *gatewayv1.Listener {
	if class != eastWestClass && class != remoteClass {
		return nil
	}
	for i := range g.Spec.Listeners {
		l := &g.Spec.Listeners[i]
		terminates := l.TLS != nil && l.TLS.Mode != nil && *l.TLS.Mode == gatewayv1.TLSModeTerminate
		if l.Protocol == "HBONE" && (terminates || class == remoteClass) {
			return l
		}
	}
	return nil
}

// sniPort returns the port of the listener that passes sidecars' TLS through by
// SNI: one that says so, or that has TLS on the port for it.
func sniPort(g *gatewayv1.Gateway) uint16 {
	for _, l := range g.Spec.Listeners {
		said := l.TLS != nil && l.TLS.Options[listenerProtocolOption] == "auto-passthrough"
		if l.Protocol == gatewayv1.TLSProtocolType && (said || l.Port == 15443) {
			return uint16(l.Port)
		}
	}
	return 0
}

// gatewayAccount returns the service account that the gateway must prove.
func gatewayAccount(g *gatewayv1.Gateway, class string) string {
	if name := g.Annotations[serviceAccountAnnotation]; name != "" {
		return name
	}
	if class == remoteClass {
		return g.Name + "-" + remoteClass
	}
	return g.Name
}
