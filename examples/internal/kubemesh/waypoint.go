package kubemesh

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const (
	useWaypointLabel        = "istio.io/use-waypoint"
	useWaypointNamespace    = "istio.io/use-waypoint-namespace"
	waypointForLabel        = "istio.io/waypoint-for"
	ingressUseWaypointLabel = "istio.io/ingress-use-waypoint"
	canaryLabel             = "istio.io/use-waypoint-canary"
	canaryNamespaceLabel    = "istio.io/use-waypoint-canary-namespace"
	canaryWeightAnnotation  = "istio.io/use-waypoint-canary-weight"
	gatewayNameLabel        = "gateway.networking.k8s.io/gateway-name"
	gatewayManagedLabel     = "gateway.istio.io/managed"
	inboundBinding          = "ambient.istio.io/waypoint-inbound-binding"
)

// waypoint is a Gateway that services and workloads may name as theirs.
type waypoint struct {
	namespace string
	address   endpoints.GatewayAddress
	traffic   string                       // "service", "workload", "all" or "none"
	from      gatewayv1.FromNamespaces     // whose objects may name it
	selector  labels.Selector              // of namespaces, with from Selector
	binding   *endpoints.ApplicationTunnel // how it takes connections from a node proxy
}

// readWaypoints finds the Gateways that have an address. What traffic they
// take is said by their label, else by that of their class, which istiod reads
// from its own cluster.
func (c *converter) readWaypoints() {
	classes := make(map[gatewayv1.ObjectName]*gatewayv1.GatewayClass)
	for _, class := range c.home.GatewayClasses {
		classes[gatewayv1.ObjectName(class.Name)] = class
	}
	c.waypoints = make(map[string]*waypoint)
	for _, g := range c.snapshot.Gateways {
		address, ok := c.waypointAddress(g)
		if !ok {
			continue
		}
		w := &waypoint{namespace: g.Namespace, address: address, traffic: "service"}
		binding := g.Annotations[inboundBinding]
		if class := classes[g.Spec.GatewayClassName]; class != nil {
			w.traffic = orDefault(class.Labels[waypointForLabel], w.traffic)
			binding = orDefault(binding, class.Annotations[inboundBinding])
		}
		w.traffic = orDefault(g.Labels[waypointForLabel], w.traffic)
		if binding != "" {
			w.binding = c.parseBinding(g, binding)
		}
		c.setAllowedRoutes(g, w)
		c.waypoints[g.Namespace+"/"+g.Name] = w
	}
}

// waypointAddress prefers a hostname, which stays the same. The port is always
// 15008.
func (c *converter) waypointAddress(g *gatewayv1.Gateway) (endpoints.GatewayAddress, bool) {
	for _, a := range g.Status.Addresses {
		if a.Type != nil && *a.Type == gatewayv1.HostnameAddressType {
			return endpoints.GatewayAddress{Namespace: g.Namespace, Hostname: a.Value, Port: endpoints.DefaultHBONEPort}, true
		}
	}
	for _, a := range g.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Value); err == nil && a.Type != nil && *a.Type == gatewayv1.IPAddressType {
			return endpoints.GatewayAddress{Address: c.address(ip), Port: endpoints.DefaultHBONEPort}, true
		}
	}
	return endpoints.GatewayAddress{}, false
}

// parseBinding reads "protocol" or "protocol/port".
func (c *converter) parseBinding(g *gatewayv1.Gateway, text string) *endpoints.ApplicationTunnel {
	protocol, number, hasPort := strings.Cut(text, "/")
	port, err := strconv.ParseUint(orDefault(number, "0"), 10, 16)
	known := map[string]endpoints.AppTunnelProtocol{"NONE": endpoints.AppTunnelNone, "PROXY": endpoints.AppTunnelPROXY}
	p, ok := known[protocol]
	if !ok || err != nil || hasPort && number == "" {
		c.warn("Gateway", g, "the annotation %s: %q is neither PROTOCOL nor PROTOCOL/PORT, with NONE or PROXY for the protocol", inboundBinding, text)
		return nil
	}
	return &endpoints.ApplicationTunnel{Protocol: p, Port: uint16(port)}
}

// setAllowedRoutes reads whose objects may name the waypoint from the listener
// that the binding names, else from that of HBONE.
func (c *converter) setAllowedRoutes(g *gatewayv1.Gateway, w *waypoint) {
	w.from = gatewayv1.NamespacesFromSame
	for _, l := range g.Spec.Listeners {
		bound := l.Protocol == "HBONE" && l.Port == endpoints.DefaultHBONEPort
		if w.binding != nil && w.binding.Port != 0 {
			bound = l.Port == gatewayv1.PortNumber(w.binding.Port)
		}
		if !bound || l.AllowedRoutes == nil || l.AllowedRoutes.Namespaces == nil {
			continue
		}
		if from := l.AllowedRoutes.Namespaces.From; from != nil {
			w.from = *from
		}
		selector, err := metav1.LabelSelectorAsSelector(l.AllowedRoutes.Namespaces.Selector)
		if err != nil {
			c.warn("Gateway", g, "the listener %s: allowedRoutes: %v", l.Name, err)
			selector = labels.Nothing()
		}
		w.selector = selector
		return
	}
}

func (c *converter) allows(w *waypoint, namespace string) bool {
	switch w.from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSelector:
		got, _ := c.labelsOf(namespace)
		return w.selector.Matches(labels.Set(got))
	}
	return w.namespace == namespace
}

// waypointFor returns the waypoint that an object or its namespace names.
// direct says that it was the object.
func (c *converter) waypointFor(o metav1.Object) (key string, w *waypoint, direct bool, err error) {
	named, direct := useWaypoint(o.GetLabels(), o.GetNamespace())
	if !direct {
		nsLabels, _ := c.labelsOf(o.GetNamespace())
		named, _ = useWaypoint(nsLabels, o.GetNamespace())
	}
	if named == "" {
		return "", nil, direct, nil
	}
	w, err = c.waypointNamed(named, o.GetNamespace())
	return named, w, direct, err
}

func (c *converter) waypointNamed(key, namespace string) (*waypoint, error) {
	w := c.waypoints[key]
	if w == nil {
		return nil, fmt.Errorf("the waypoint %s is not there or has no address yet", key)
	}
	if !c.allows(w, namespace) {
		return nil, fmt.Errorf("the waypoint %s does not allow objects of namespace %s", key, namespace)
	}
	return w, nil
}

// useWaypoint returns "namespace/name", or "" for none; said means that the
// label is there.
func useWaypoint(l map[string]string, namespace string) (key string, said bool) {
	name, said := l[useWaypointLabel]
	if !said || name == "none" {
		return "", said
	}
	if other, ok := l[useWaypointNamespace]; ok {
		namespace = other
	}
	return namespace + "/" + name, true
}

// bindWaypoint sets a service's waypoints.
func (c *converter) bindWaypoint(kind string, o metav1.Object, fact *endpoints.Service) {
	switch o.GetLabels()[gatewayManagedLabel] {
	case "istio.io-mesh-controller", "istio.io-eastwest-controller":
		return // it is a gateway itself
	}
	key, w, _, err := c.waypointFor(o)
	if err == nil && w != nil {
		err = servesTraffic(key, w, "service")
	}
	if err == nil && w != nil && fact.Visibility == endpoints.VisibleNamespace && w.namespace != o.GetNamespace() {
		err = fmt.Errorf("the waypoint %s is in another namespace, from where the host must not be seen", key)
	}
	if err != nil {
		c.warn(kind, o, "%v: it has no waypoint", err)
		return
	}
	if w == nil {
		return
	}
	fact.Waypoint = &w.address
	nsLabels, _ := c.labelsOf(o.GetNamespace())
	ingress, ok := o.GetLabels()[ingressUseWaypointLabel]
	if !ok {
		ingress = nsLabels[ingressUseWaypointLabel]
	}
	fact.IngressUseWaypoint, _ = strconv.ParseBool(ingress)
	fact.WeightedWaypoints = c.canary(kind, o, key, w)
}

func servesTraffic(key string, w *waypoint, traffic string) error {
	if w.traffic != traffic && w.traffic != "all" {
		return fmt.Errorf("the waypoint %s does not take %s traffic", key, traffic)
	}
	return nil
}

// canary returns the primary and the canary waypoint with their shares.
func (c *converter) canary(kind string, o metav1.Object, primary string, w *waypoint) []endpoints.WeightedWaypoint {
	said, annotations := o.GetLabels(), o.GetAnnotations()
	nsLabels, nsAnnotations := c.labelsOf(o.GetNamespace())
	_, direct := said[useWaypointLabel]
	if _, ok := said[canaryLabel]; !ok && !direct {
		said = nsLabels
	}
	name := said[canaryLabel]
	if name == "" || name == "none" {
		return nil
	}
	key := orDefault(said[canaryNamespaceLabel], o.GetNamespace()) + "/" + name
	text, ok := annotations[canaryWeightAnnotation]
	if !ok && !direct {
		text = nsAnnotations[canaryWeightAnnotation]
	}
	weight, err := strconv.ParseUint(orDefault(text, "0"), 10, 32)
	if err != nil || weight > 100 {
		c.warn(kind, o, "%s: %q is not a percentage: there is no canary waypoint", canaryWeightAnnotation, text)
		return nil
	}
	other, err := c.waypointNamed(key, o.GetNamespace())
	if err == nil {
		err = servesTraffic(key, other, "service")
	}
	if err == nil && key == primary {
		err = fmt.Errorf("the waypoint %s is the primary one", key)
	}
	if err != nil {
		c.warn(kind, o, "%v: there is no canary waypoint", err)
		return nil
	}
	return []endpoints.WeightedWaypoint{
		{Destination: w.address, Weight: uint32(100 - weight)},
		{Destination: other.address, Weight: uint32(weight)},
	}
}

// setWorkloadWaypoint sets the waypoint of a workload, or, if the workload is
// an instance of a waypoint, how that takes connections.
func (c *converter) setWorkloadWaypoint(kind string, o metav1.Object, w *endpoints.Workload) {
	if name := o.GetLabels()[gatewayNameLabel]; name != "" {
		if instance := c.waypoints[o.GetNamespace()+"/"+name]; instance != nil {
			w.ApplicationTunnel = instance.binding
			return
		}
	}
	key, target, direct, err := c.waypointFor(o)
	if err == nil && target != nil {
		if err = servesTraffic(key, target, "workload"); err != nil && !direct {
			return // the namespace's waypoint is for services
		}
	}
	if err != nil {
		c.warn(kind, o, "%v: it has no waypoint", err)
	} else if target != nil {
		w.Waypoint = &target.address
	}
}
