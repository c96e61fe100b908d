package ztunnel

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Headers of a CONNECT that ztunnel knows. They inform; nothing is decided by
// them, because the client can write what it likes.
const (
	baggageHeader          = "Baggage"
	forwardedHeader        = "Forwarded"
	traceparentHeader      = "Traceparent"
	forwardedNetworkHeader = "X-Forwarded-Network"
)

// baggage describes a workload as ztunnel does: this order, no spaces, no
// percent-encoding, empty members left out.
func baggage(w *endpoints.Workload) string {
	var members []string
	add := func(key, value string) {
		if value != "" && !strings.ContainsFunc(value, unfit) {
			members = append(members, key+"="+value)
		}
	}
	add("k8s.cluster.name", w.Cluster)
	add("k8s.namespace.name", w.Namespace)
	add("k8s."+strings.ToLower(w.Type.String())+".name", w.WorkloadName)
	add("service.name", w.CanonicalName)
	add("service.version", w.CanonicalRevision)
	add("cloud.region", w.Locality.Region)
	add("cloud.availability_zone", w.Locality.Zone)
	return strings.Join(members, ",")
}

// unfit characters would end a member, or make a header that cannot be sent.
func unfit(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(",;=", c) }

// tunnelHeader goes with a CONNECT that many connections of a pod share.
func tunnelHeader(source *endpoints.Workload) http.Header {
	return http.Header{baggageHeader: {baggage(source)}}
}

// streamHeader goes with the CONNECT of one connection.
func streamHeader(source *endpoints.Workload, client net.Addr, service *endpoints.ServiceEntry) http.Header {
	return http.Header{
		baggageHeader:     {baggage(source)},
		forwardedHeader:   {forwarded(client, service)},
		traceparentHeader: {traceparent()},
	}
}

// forwarded says who connects, and to which service if that is known, as
// ztunnel does: the host is not quoted, so one that would have to be is left
// out.
func forwarded(client net.Addr, service *endpoints.ServiceEntry) string {
	value := `for="` + client.String() + `"`
	if service != nil && !strings.ContainsFunc(service.Hostname, func(c rune) bool { return unfit(c) || c == '"' }) {
		value += ";host=" + service.Hostname
	}
	return value
}

// traceparent begins a W3C trace that is not sampled, as ztunnel does.
func traceparent() string {
	var id [24]byte
	rand.Read(id[:])
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-00"
}
