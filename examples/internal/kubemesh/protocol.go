package kubemesh

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// appProtocols are the names that Istio knows; all others, also those that it
// knows for sidecars only, are unknown.
var appProtocols = map[string]endpoints.AppProtocol{
	"http":  endpoints.AppHTTP11,
	"http2": endpoints.AppHTTP2,
	"grpc":  endpoints.AppGRPC,
	"tls":   endpoints.AppTLS,
	"https": endpoints.AppTLS,
	"tcp":   endpoints.AppTCP,
}

func appProtocol(name string) endpoints.AppProtocol { return appProtocols[strings.ToLower(name)] }

// kubernetesProtocols are the standard values of a Service's appProtocol.
var kubernetesProtocols = map[string]string{
	"kubernetes.io/h2c": "http2",
	"kubernetes.io/ws":  "http",
	"kubernetes.io/wss": "https",
}

// plainTCPPorts break under protocol sniffing, so that istiod takes them for
// TCP unless something is said: SMTP, DNS, MySQL, MongoDB.
var plainTCPPorts = map[int32]bool{25: true, 53: true, 3306: true, 27017: true}

// sniffed are names that mean a protocol, though none that the workload API has.
var sniffed = map[string]bool{"udp": true, "http_proxy": true, "mongo": true, "redis": true, "mysql": true}

// servicePortProtocol reads the appProtocol of a port, or else its name up to
// the first hyphen.
func servicePortProtocol(p corev1.ServicePort) endpoints.AppProtocol {
	if p.Protocol == corev1.ProtocolUDP {
		return endpoints.AppUnknown
	}
	name := p.Name
	if p.AppProtocol != nil {
		name = *p.AppProtocol
		if standard, ok := kubernetesProtocols[name]; ok {
			name = standard
		}
	}
	name = strings.ToLower(name)
	if strings.HasPrefix(name, "grpc-web") {
		return endpoints.AppUnknown
	}
	name, _, _ = strings.Cut(name, "-")
	if known := appProtocol(name); known != endpoints.AppUnknown {
		return known
	}
	if plainTCPPorts[p.Port] && !sniffed[name] {
		return endpoints.AppTCP
	}
	return endpoints.AppUnknown
}
