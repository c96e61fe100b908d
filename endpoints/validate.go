package endpoints

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A checker notes the first thing that is wrong with a fact. Where it is in the fact is spelled out only then.
type checker struct {
	path           [2]element
	depth          int
	field, problem string
}

// An element is one step into a fact: an item of a list.
type element struct {
	field string
	index int
}

func (c *checker) enter(field string, index int) {
	c.path[c.depth] = element{field, index}
	c.depth++
}

func (c *checker) leave() { c.depth-- }

func (c *checker) fail(field, format string, args ...any) {
	if c.problem != "" {
		return
	}
	for _, e := range c.path[:c.depth] {
		c.field += e.field + "[" + strconv.Itoa(e.index) + "]."
	}
	c.field = strings.TrimSuffix(c.field+field, ".")
	c.problem = fmt.Sprintf(format, args...)
}

// err returns what is wrong as an error that names the object, or nil.
func (c *checker) err(cluster, object string) error {
	if c.problem == "" {
		return nil
	}
	return &FactError{Cluster: cluster, Object: object, Field: c.field, Problem: c.problem}
}

// text checks what goes on the wire as a string.
func (c *checker) text(field string, values ...string) {
	for _, s := range values {
		if !utf8.ValidString(s) {
			c.fail(field, "%q is not UTF-8", s)
		}
	}
}

// segment checks what becomes a part of a name between slashes.
func (c *checker) segment(field, s string) {
	c.text(field, s)
	if s == "" {
		c.fail(field, "missing")
	}
	if strings.Contains(s, "/") {
		c.fail(field, "%q contains a slash", s)
	}
}

// key checks a name of the form "namespace/name".
func (c *checker) key(field, s string) {
	c.text(field, s)
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		c.fail(field, "%q is not namespace/name", s)
	}
}

// network checks a network's ID. It may be empty, but a slash would make addresses ambiguous.
func (c *checker) network(s string) {
	c.text("Network", s)
	if strings.Contains(s, "/") {
		c.fail("Network", "%q contains a slash", s)
	}
}

func (c *checker) enum(field string, v, last uint8) {
	if v > last {
		c.fail(field, "unknown value %d", v)
	}
}

func (c *checker) addr(field string, a netip.Addr) {
	if !a.IsValid() {
		c.fail(field, "invalid address")
	}
	if a.Zone() != "" {
		c.fail(field, "%s has a zone, which means nothing on another machine", a)
	}
}

func (c *checker) addrs(field string, addrs []netip.Addr) {
	for i, a := range addrs {
		c.enter(field, i)
		c.addr("", a)
		c.leave()
	}
}

func (c *checker) networkAddresses(field string, all []NetworkAddress) {
	for i, a := range all {
		c.enter(field, i)
		c.network(a.Network)
		if !a.Prefix.IsValid() {
			c.fail("Prefix", "invalid address")
		}
		c.leave()
	}
}

func (c *checker) ports(field string, ports []Port) {
	for i, p := range ports {
		c.enter(field, i)
		if p.ServicePort == 0 {
			c.fail("ServicePort", "missing")
		}
		c.enum("AppProtocol", uint8(p.AppProtocol), uint8(AppTLS))
		c.leave()
	}
}

func (c *checker) gateway(field string, g *GatewayAddress) {
	if g == nil {
		return
	}
	byAddress := g.Address.Prefix.IsValid()
	switch {
	case g.Hostname != "" && byAddress:
		c.fail(field, "both a hostname and an address")
	case g.Hostname != "" && (g.Namespace == "" || strings.Contains(g.Namespace+g.Hostname, "/")):
		c.fail(field, "%s/%s is not namespace/hostname", g.Namespace, g.Hostname)
	case g.Hostname == "" && !byAddress:
		c.fail(field, "neither a hostname nor an address")
	case byAddress && !g.Address.IsHost():
		c.fail(field, "%s is a range", g.Address)
	case g.Port == 0:
		c.fail(field, "without a port")
	}
	c.text(field, g.Namespace, g.Hostname, g.Address.Network)
}

func (c *checker) extensions(extensions []Extension) {
	for i, e := range extensions {
		c.enter("Extensions", i)
		c.text("", e.Name, e.TypeURL)
		c.leave()
	}
}

func (c *checker) loadBalancing(l *LoadBalancing) {
	if l == nil {
		return
	}
	c.enum("LoadBalancing.Mode", uint8(l.Mode), uint8(ModePassthrough))
	c.enum("LoadBalancing.HealthPolicy", uint8(l.HealthPolicy), uint8(AllowAll))
	for i, p := range l.Preference {
		c.enter("LoadBalancing.Preference", i)
		c.enum("", uint8(p), uint8(SameNetwork))
		c.leave()
	}
}

func checkCluster(cl Cluster) error {
	var c checker
	c.segment("ID", cl.ID)
	c.network(cl.Network)
	c.text("TrustDomain", cl.TrustDomain)
	c.networkAddresses("Ranges", cl.Ranges)
	if cl.ID == gatewayUIDPrefix {
		c.fail("ID", "%q is reserved", cl.ID)
	}
	return c.err(cl.ID, "")
}

func checkService(cluster string, s *Service) error {
	if s == nil {
		return &FactError{Cluster: cluster, Object: "Service", Problem: "nil"}
	}
	var c checker
	c.segment("Namespace", s.Namespace)
	c.segment("Hostname", s.Hostname)
	c.text("Name", s.Name)
	c.networkAddresses("Addresses", s.Addresses)
	c.ports("Ports", s.Ports)
	c.enum("IPFamilies", uint8(s.IPFamilies), uint8(DualStack))
	c.enum("Visibility", uint8(s.Visibility), uint8(VisibleNamespace))
	c.enum("Scope", uint8(s.Scope), uint8(ScopeGlobal))
	c.text("SubjectAltNames", s.SubjectAltNames...)
	if cluster != "" && slices.Contains(s.Refused, cluster) {
		c.fail("Refused", "the cluster that tells of it cannot refuse it")
	}
	c.loadBalancing(s.LoadBalancing)
	c.gateway("Waypoint", s.Waypoint)
	for i := range s.WeightedWaypoints {
		c.enter("WeightedWaypoints", i)
		c.gateway("Destination", &s.WeightedWaypoints[i].Destination)
		c.leave()
	}
	c.extensions(s.Extensions)
	return c.err(cluster, "Service "+s.Key())
}

func checkWorkload(cluster string, w *Workload) error {
	if w == nil {
		return &FactError{Cluster: cluster, Object: "Workload", Problem: "nil"}
	}
	var c checker
	c.uid(cluster, w.UID)
	if w.Cluster != "" && w.Cluster != cluster {
		c.fail("Cluster", "%q is not the cluster that tells of it", w.Cluster)
	}
	c.network(w.Network)
	c.text("", w.Name, w.Namespace, w.Hostname, w.TrustDomain, w.ServiceAccount, w.Node, w.WorkloadName,
		w.CanonicalName, w.CanonicalRevision, w.Locality.Region, w.Locality.Zone, w.Locality.Subzone)
	for _, part := range []string{w.Locality.Region, w.Locality.Zone} {
		if strings.Contains(part, "/") {
			c.fail("Locality", "%q contains a slash", part)
		}
	}
	c.addrs("Addresses", w.Addresses)
	c.memberships(w.Services)
	c.enum("Tunnel", uint8(w.Tunnel), uint8(TunnelHBONE))
	c.enum("NetworkMode", uint8(w.NetworkMode), uint8(HostNetwork))
	c.enum("Health", uint8(w.Health), uint8(Unhealthy))
	c.enum("Type", uint8(w.Type), uint8(Job))
	if w.ApplicationTunnel != nil {
		c.enum("ApplicationTunnel.Protocol", uint8(w.ApplicationTunnel.Protocol), uint8(AppTunnelPROXY))
	}
	c.gateway("Waypoint", w.Waypoint)
	c.gateway("NetworkGateway", w.NetworkGateway)
	for i, p := range w.AuthorizationPolicies {
		c.enter("AuthorizationPolicies", i)
		c.key("", p)
		c.leave()
	}
	c.extensions(w.Extensions)
	return c.err(cluster, "Workload "+w.UID)
}

// uid keeps each cluster to names of its own, so that none can take another's, nor one that a view makes up.
func (c *checker) uid(cluster, uid string) {
	c.text("UID", uid)
	rest, ok := strings.CutPrefix(uid, cluster+"/")
	if !ok || !strings.Contains(rest, "/") {
		c.fail("UID", "does not begin with the cluster's ID and have two slashes, as %q does", cluster+"//Pod/namespace/name")
	}
	if strings.HasPrefix(rest, horizonUIDPart+"/") {
		c.fail("UID", "%q is reserved", horizonUIDPart)
	}
}

func (c *checker) memberships(services []ServicePorts) {
	for i, s := range services {
		c.enter("Services", i)
		c.key("Service", s.Service)
		c.ports("Ports", s.Ports)
		c.leave()
	}
	if dup, ok := duplicate(services); ok {
		c.fail("Services", "%s is there twice", dup)
	}
}

func checkGateway(cluster string, g *Gateway) error {
	if g == nil {
		return &FactError{Cluster: cluster, Object: "Gateway", Problem: "nil"}
	}
	var c checker
	c.segment("Namespace", g.Namespace)
	c.segment("Name", g.Name)
	c.network(g.Network)
	c.text("ServiceAccount", g.ServiceAccount)
	c.addrs("Addresses", g.Addresses)
	for i, h := range g.Hostnames {
		c.enter("Hostnames", i)
		c.segment("", h)
		c.leave()
	}
	if len(g.Addresses)+len(g.Hostnames) == 0 {
		c.fail("Addresses", "neither an address nor a hostname")
	}
	switch {
	case g.NoHBONE && g.HBONEPort != 0:
		c.fail("HBONEPort", "%d, and none with NoHBONE", g.HBONEPort)
	case g.NoHBONE && g.SNIPort == 0:
		c.fail("SNIPort", "missing, and without HBONE nobody is served")
	}
	c.enum("Health", uint8(g.Health), uint8(Unhealthy))
	return c.err(cluster, "Gateway "+g.Key())
}

// duplicate returns a service that is named twice.
func duplicate(services []ServicePorts) (string, bool) {
	if !slices.IsSortedFunc(services, compareServicePorts) {
		services = slices.Clone(services)
		slices.SortFunc(services, compareServicePorts)
	}
	for i := 1; i < len(services); i++ {
		if services[i].Service == services[i-1].Service {
			return services[i].Service, true
		}
	}
	return "", false
}

func compareServicePorts(a, b ServicePorts) int { return strings.Compare(a.Service, b.Service) }
