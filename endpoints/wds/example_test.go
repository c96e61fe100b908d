package wds_test

import (
	"fmt"
	"net/netip"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
)

// A control plane encodes a workload; a node proxy decodes it.
func Example() {
	sent := endpoints.Resource{Workload: &endpoints.Workload{
		UID: "east//Pod/app/a", Namespace: "app", Network: "east", Tunnel: endpoints.TunnelHBONE,
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")},
	}}
	body, err := wds.EncodeAddress(sent)
	if err != nil {
		fmt.Println(err)
		return
	}
	received, err := wds.DecodeAddress(sent.Name(), body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(received.Workload.UID, received.Workload.Tunnel, wds.Aliases(received), received.Equal(sent))
	// Output: east//Pod/app/a HBONE [east/10.1.0.10] true
}

// What cannot be used as it is meant is refused, and named.
func ExampleDecodeAddress() {
	body := []byte{0x0a, 0x06, 0x28, 0x02, 0xa2, 0x01, 0x01, 'x'} // workload x with tunnel protocol 2
	_, err := wds.DecodeAddress("x", body)
	fmt.Println(err)
	// Output: wds: resource x: workload.tunnel_protocol: LEGACY_ISTIO_MTLS is not supported
}
