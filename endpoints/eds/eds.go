package eds

import (
	"net/netip"
	"strconv"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// TypeURL is the type of an encoded Assignment.
const TypeURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

// ClusterName returns the name that Istio gives a client's cluster of a service's port: "outbound|80||host".
// The subset may be empty.
func ClusterName(hostname string, port uint16, subset string) string {
	return "outbound|" + strconv.Itoa(int(port)) + "|" + subset + "|" + hostname
}

// SNIClusterName returns the name of a gateway's cluster to which it passes TLS through by SNI, which is also
// the server name that clients send: "outbound_.80_._.host". The subset may be empty.
func SNIClusterName(hostname string, port uint16, subset string) string {
	return "outbound_." + strconv.Itoa(int(port)) + "_." + subset + "_." + hostname
}

// An Assignment is the endpoints of one of Envoy's clusters, its ClusterLoadAssignment.
type Assignment struct {
	Cluster    string
	Localities []Locality
	Unknown    []byte // fields that are not modelled, encoded; kept as they are. So below.
}

// A Locality is the endpoints in one place and of one priority.
type Locality struct {
	endpoints.Locality
	Priority  uint32 // 0 is used first. Envoy wants them to be without a gap.
	Weight    uint32 // the sum of the endpoints' weights; 0: not set
	Endpoints []Endpoint
	Unknown   []byte
}

// An Endpoint is one choice of the balancer.
type Endpoint struct {
	Address    Address
	Additional []Address // further addresses of the same endpoint, for Happy Eyeballs (RFC 8305)
	Hostname   string    // for rewriting the Host header and for health checks
	Health     Health
	Weight     uint32 // 0: not set, which Envoy takes for 1

	// Metadata is what filters and transport sockets of the proxy match on, by filter and key. Values are those
	// of JSON: nil, bool, float64, string, []any, map[string]any.
	Metadata map[string]map[string]any
	Unknown  []byte
}

// The filters that Istio's metadata is for.
const (
	metadataIstio       = "istio"
	metadataTransport   = "envoy.transport_socket_match"
	metadataOriginalDst = "envoy.filters.listener.original_dst"
)

// MutualTLS reports whether the proxy is told to speak Istio's mutual TLS to the endpoint.
func (e *Endpoint) MutualTLS() bool { return e.Metadata[metadataTransport]["tlsMode"] == "istio" }

// Tunnel reports whether the proxy is told to reach the endpoint by HBONE.
func (e *Endpoint) Tunnel() bool { return e.Metadata[metadataTransport]["tunnel"] == "http" }

// An Address is an address in one of Envoy's three forms: Host and Port, Pipe, or Listener and ID.
type Address struct {
	Host string // an IP address, or a name where Envoy resolves
	Port uint16

	Pipe string // path of a Unix domain socket

	Listener string // an internal listener of the proxy itself
	ID       string // tells endpoints that are reached through the same listener apart
}

// addrPort returns the socket address of an IP address.
func addrPort(addr netip.Addr, port uint16) Address { return Address{Host: addr.String(), Port: port} }

// String returns "host:port", "unix:path" or "listener/id".
func (a Address) String() string {
	switch {
	case a.Listener != "":
		return a.Listener + "/" + a.ID
	case a.Pipe != "":
		return "unix:" + a.Pipe
	}
	return joinHostPort(a.Host, a.Port)
}

// Health is Envoy's health status. The numbers are those of its API.
type Health uint8

// The states of health. Unknown counts as healthy.
const (
	Unknown Health = iota
	Healthy
	Unhealthy
	Draining
	Timeout
	Degraded
)

// String returns UNKNOWN, HEALTHY, UNHEALTHY, DRAINING, TIMEOUT or DEGRADED.
func (h Health) String() string {
	names := [...]string{"UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"}
	if int(h) < len(names) {
		return names[h]
	}
	return "Health(" + strconv.Itoa(int(h)) + ")"
}

// A FieldError says which field of an assignment cannot be decoded or encoded, and why.
type FieldError struct {
	Cluster string // the assignment's name; empty if it has none
	Field   string // as in Envoy's .proto, e.g. "lb_endpoints.endpoint.address"; empty: the whole
	Problem string
	Err     error // what the protobuf library said, if it did
}

// Error returns "eds: cluster outbound|80||a: lb_endpoints.endpoint.address: is not set".
func (e *FieldError) Error() string {
	s := "eds: cluster " + e.Cluster
	for _, part := range []string{e.Field, e.Problem} {
		if part != "" {
			s += ": " + part
		}
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the error of the protobuf library, if any.
func (e *FieldError) Unwrap() error { return e.Err }
