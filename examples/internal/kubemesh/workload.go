package kubemesh

import (
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// addWorkload keeps a workload, unless another has its UID.
func (c *converter) addWorkload(kind string, o metav1.Object, w *endpoints.Workload) {
	if c.uids[w.UID] {
		c.warn(kind, o, "has the address %s twice", strings.Join(addressesOf(w), ", "))
		return
	}
	c.uids[w.UID] = true
	w.Cluster = c.config.Cluster
	w.TrustDomain = c.trustDomain
	c.facts.Workloads = append(c.facts.Workloads, w)
}

func addressesOf(w *endpoints.Workload) []string {
	if w.Hostname != "" {
		return []string{w.Hostname}
	}
	var out []string
	for _, a := range w.Addresses {
		out = append(out, a.String())
	}
	return out
}

// setAddress sets what is either an address or a name to resolve.
func setAddress(w *endpoints.Workload, address string) {
	if ip, err := netip.ParseAddr(address); err == nil {
		w.Addresses = []netip.Addr{ip}
	} else {
		w.Hostname = address
	}
}

// membership lists the services that a workload backs, with the ports that
// port finds; a port that the workload does not have is left out.
func membership(services []*service, port func(s *service, i int) (uint16, bool)) []endpoints.ServicePorts {
	var out []endpoints.ServicePorts
	for _, s := range withImported(services) {
		ports := endpoints.ServicePorts{Service: s.fact.Key()}
		for i, p := range s.fact.Ports {
			if target, ok := port(s, i); ok {
				// The protocol is the service's to tell.
				ports.Ports = append(ports.Ports, endpoints.Port{ServicePort: p.ServicePort, TargetPort: target})
			}
		}
		out = append(out, ports)
	}
	slices.SortFunc(out, func(a, b endpoints.ServicePorts) int { return strings.Compare(a.Service, b.Service) })
	return out
}

// withImported adds what services are exported as.
func withImported(services []*service) []*service {
	all := slices.Clone(services)
	for _, s := range services {
		if s.imported != nil {
			all = append(all, s.imported)
		}
	}
	return all
}

const (
	redirectionAnnotation = "ambient.istio.io/redirection"
	tunnelLabel           = "networking.istio.io/tunnel"
	tlsModeLabel          = "security.istio.io/tlsMode"
)

// setTunnel says how the workload can be reached besides plain TCP.
func (c *converter) setTunnel(kind string, o metav1.Object, w *endpoints.Workload, labels, annotations map[string]string) {
	if annotations[redirectionAnnotation] == "enabled" {
		w.Tunnel = endpoints.TunnelHBONE
	}
	if slices.Contains(strings.Split(labels[tunnelLabel], ","), "http") {
		w.Tunnel, w.NativeTunnel = endpoints.TunnelHBONE, true
	}
	if labels[tlsModeLabel] == "istio" && w.Tunnel == endpoints.TunnelNone {
		c.warn(kind, o, "is a sidecar: its legacy mTLS is not spoken, so it is reached in plain text")
	}
}

// setCanonical names the workload as Istio's telemetry does.
func setCanonical(w *endpoints.Workload, workloadName string, labels map[string]string) {
	w.Type = endpoints.Pod // istiod says so for all
	w.WorkloadName = workloadName
	w.CanonicalName = firstLabel(labels, workloadName, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
	w.CanonicalRevision = firstLabel(labels, "latest", "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
}

func firstLabel(labels map[string]string, def string, keys ...string) string {
	for _, key := range keys {
		if value, ok := labels[key]; ok {
			return value
		}
	}
	return def
}
