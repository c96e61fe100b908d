package eds

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/eastwest-mesh/eastwest/endpoints"
	endpointpb "github.com/eastwest-mesh/eastwest/internal/pb/endpoint/v1"
)

// full has every field set.
func full() *Assignment {
	return &Assignment{Cluster: "outbound|80||a", Localities: []Locality{
		{
			Locality: endpoints.Locality{Region: "r", Zone: "z", Subzone: "s"}, Priority: 2, Weight: 7,
			Endpoints: []Endpoint{
				{
					Address: Address{Host: "10.0.0.1", Port: 8080}, Additional: []Address{{Host: "2001:db8::1", Port: 8080}}, Hostname: "a.example",
					Health: Degraded, Weight: 3, Metadata: map[string]map[string]any{"istio": {
						"workload": "a;b", "n": 1.5, "yes": true, "none": nil, "list": []any{"x", map[string]any{"y": "z"}},
					}, "empty": {}},
				},
				{Address: Address{Pipe: "/run/a.sock"}},
				{Address: Address{Listener: "connect_originate", ID: "10.0.0.1:8080"}, Weight: 4},
				{Address: Address{Host: "example.com"}},
			},
		},
		{},
	}}
}

func TestRoundTrip(t *testing.T) {
	body, err := Encode(full())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode("outbound|80||a", body)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, full()) {
		t.Errorf("got  %+v\nwant %+v", got, full())
	}
	again, err := Encode(got)
	if err != nil || !bytes.Equal(again, body) {
		t.Errorf("encodes to %x, %v, and not to %x", again, err, body)
	}
}

// TestAgainstProtobuf compares with a message that is made by hand, so that a field swapped both ways cannot hide.
func TestAgainstProtobuf(t *testing.T) {
	a := full()
	a.Localities = a.Localities[:1]
	a.Localities[0].Endpoints = a.Localities[0].Endpoints[:1]
	a.Localities[0].Endpoints[0].Metadata = map[string]map[string]any{"istio": {"workload": "a;b"}}
	body, err := Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	socket := func(host string) *endpointpb.Address {
		return &endpointpb.Address{Address: &endpointpb.Address_SocketAddress{SocketAddress: &endpointpb.SocketAddress{
			Address: host, PortSpecifier: &endpointpb.SocketAddress_PortValue{PortValue: 8080},
		}}}
	}
	want := &endpointpb.ClusterLoadAssignment{ClusterName: "outbound|80||a", Endpoints: []*endpointpb.LocalityLbEndpoints{{
		Locality:            &endpointpb.Locality{Region: "r", Zone: "z", SubZone: "s"},
		Priority:            2,
		LoadBalancingWeight: wrapperspb.UInt32(7),
		LbEndpoints: []*endpointpb.LbEndpoint{{
			HostIdentifier: &endpointpb.LbEndpoint_Endpoint{Endpoint: &endpointpb.Endpoint{
				Address: socket("10.0.0.1"), Hostname: "a.example",
				AdditionalAddresses: []*endpointpb.Endpoint_AdditionalAddress{{Address: socket("2001:db8::1")}},
			}},
			HealthStatus:        endpointpb.HealthStatus_DEGRADED,
			LoadBalancingWeight: wrapperspb.UInt32(3),
			Metadata: &endpointpb.Metadata{FilterMetadata: map[string]*structpb.Struct{
				"istio": {Fields: map[string]*structpb.Value{"workload": structpb.NewStringValue("a;b")}},
			}},
		}},
	}}}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, wire) {
		t.Errorf("got %x, want %x", body, wire)
	}
}

// field encodes a field that a newer Envoy might have.
func field(num protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

// TestUnknownIsKept puts a field that is not modelled into every message, and finds it there again.
func TestUnknownIsKept(t *testing.T) {
	body, err := Encode(full())
	if err != nil {
		t.Fatal(err)
	}
	m := new(endpointpb.ClusterLoadAssignment)
	if err := proto.Unmarshal(body, m); err != nil {
		t.Fatal(err)
	}
	messages := func(m *endpointpb.ClusterLoadAssignment) map[string]proto.Message {
		l := m.GetEndpoints()[0]
		ep := l.GetLbEndpoints()[0]
		return map[string]proto.Message{
			"assignment": m, "locality": l, "place": l.GetLocality(), "locality weight": l.GetLoadBalancingWeight(),
			"lb endpoint": ep, "endpoint": ep.GetEndpoint(), "address": ep.GetEndpoint().GetAddress(),
			"socket address": ep.GetEndpoint().GetAddress().GetSocketAddress(), "metadata": ep.GetMetadata(),
			"weight": ep.GetLoadBalancingWeight(), "pipe": l.GetLbEndpoints()[1].GetEndpoint().GetAddress().GetPipe(),
			"internal": l.GetLbEndpoints()[2].GetEndpoint().GetAddress().GetEnvoyInternalAddress(),
		}
	}
	for name, message := range messages(m) {
		message.ProtoReflect().SetUnknown(field(1000, name))
	}
	if body, err = proto.Marshal(m); err != nil {
		t.Fatal(err)
	}
	a, err := Decode(m.GetClusterName(), body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err = Encode(a); err != nil {
		t.Fatal(err)
	}
	got := new(endpointpb.ClusterLoadAssignment)
	if err := proto.Unmarshal(body, got); err != nil || !proto.Equal(got, m) {
		t.Errorf("got %v, %v, want %v", got, err, m)
	}
	for name, message := range messages(got) {
		if !bytes.Equal(message.ProtoReflect().GetUnknown(), field(1000, name)) {
			t.Errorf("%s lost its unknown field", name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	endpoint := func(e *endpointpb.LbEndpoint) *endpointpb.ClusterLoadAssignment {
		return &endpointpb.ClusterLoadAssignment{ClusterName: "a", Endpoints: []*endpointpb.LocalityLbEndpoints{{LbEndpoints: []*endpointpb.LbEndpoint{e}}}}
	}
	at := func(a *endpointpb.Address) *endpointpb.LbEndpoint {
		return &endpointpb.LbEndpoint{HostIdentifier: &endpointpb.LbEndpoint_Endpoint{Endpoint: &endpointpb.Endpoint{Address: a}}}
	}
	socket := func(s *endpointpb.SocketAddress) *endpointpb.Address {
		return &endpointpb.Address{Address: &endpointpb.Address_SocketAddress{SocketAddress: s}}
	}
	good := at(&endpointpb.Address{Address: &endpointpb.Address_Pipe{Pipe: &endpointpb.Pipe{Path: "p"}}})
	weightless := proto.Clone(good).(*endpointpb.LbEndpoint)
	weightless.LoadBalancingWeight = wrapperspb.UInt32(0)
	sick := proto.Clone(good).(*endpointpb.LbEndpoint)
	sick.HealthStatus = -1
	tests := []struct {
		name  string
		m     *endpointpb.ClusterLoadAssignment
		field string
	}{
		{"another name", &endpointpb.ClusterLoadAssignment{ClusterName: "b"}, "cluster_name"},
		{"no endpoint", endpoint(new(endpointpb.LbEndpoint)), addressField},
		{"no address", endpoint(at(nil)), addressField},
		{"no port", endpoint(at(socket(&endpointpb.SocketAddress{Address: "10.0.0.1"}))), addressField},
		{"port out of range", endpoint(at(socket(&endpointpb.SocketAddress{Address: "10.0.0.1", PortSpecifier: &endpointpb.SocketAddress_PortValue{PortValue: 1 << 16}}))), addressField},
		{"weight 0", endpoint(weightless), "load_balancing_weight"},
		{"no such health", endpoint(sick), "health_status"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body, err := proto.Marshal(test.m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Decode("a", body)
			var bad *FieldError
			if !errors.As(err, &bad) || bad.Cluster != "a" || !strings.HasSuffix(bad.Field, test.field) {
				t.Errorf("got %v, want a FieldError about %s", err, test.field)
			}
		})
	}
	if _, err := Decode("a", []byte{0xff}); !errors.Is(err, proto.Error) {
		t.Errorf("not protobuf: %v, want a %v", err, proto.Error)
	}
}

func TestEncodeRefuses(t *testing.T) {
	with := func(e Endpoint) *Assignment {
		return &Assignment{Cluster: "a", Localities: []Locality{{Endpoints: []Endpoint{e}}}}
	}
	here := Address{Host: "10.0.0.1", Port: 80}
	for name, a := range map[string]*Assignment{
		"no address":    with(Endpoint{}),
		"two addresses": with(Endpoint{Address: Address{Host: "10.0.0.1", Pipe: "p"}}),
		"bad metadata":  with(Endpoint{Address: here, Metadata: map[string]map[string]any{"istio": {"a": struct{}{}}}}),
		"not UTF-8":     with(Endpoint{Address: here, Hostname: "\xff"}),
	} {
		var bad *FieldError
		if body, err := Encode(a); !errors.As(err, &bad) || bad.Cluster != "a" {
			t.Errorf("%s: got %x, %v, want a FieldError", name, body, err)
		}
	}
}

func TestHealthNames(t *testing.T) {
	for _, h := range []Health{Unknown, Healthy, Unhealthy, Draining, Timeout, Degraded} {
		if got, want := h.String(), endpointpb.HealthStatus(h).String(); got != want {
			t.Errorf("%d is %s, want %s", h, got, want)
		}
	}
	if got := Health(math.MaxUint8).String(); got != "Health(255)" {
		t.Errorf("an unknown one is %s", got)
	}
}

// FuzzDecode: what can be decoded can be encoded, and then stays as it is.
func FuzzDecode(f *testing.F) {
	body, err := Encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	for _, test := range fromEach {
		a := NewGateways(fourNetworks(), nil).For(Client{Network: test.network, HBONE: true}).Build(target(fourNetworksPods()))
		if body, err = Encode(a); err != nil {
			f.Fatal(err)
		}
		f.Add(append(body, field(4, "policy")...))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m := new(endpointpb.ClusterLoadAssignment)
		if proto.Unmarshal(body, m) != nil {
			return
		}
		a, err := Decode(m.GetClusterName(), body)
		if err != nil {
			return
		}
		once, err := Encode(a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(a.Cluster, once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := Encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x, %v", once, twice, err)
		}
	})
}
