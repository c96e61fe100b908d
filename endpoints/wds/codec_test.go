package wds_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	securitypb "github.com/eastwest-mesh/eastwest/internal/pb/security/v1"
	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// filler fills every field of a model value with something that the wire can carry.
type filler struct{ rng *rand.Rand }

// fill also leaves fields empty, one in four.
func (f filler) fill(v reflect.Value) {
	if f.special(v) {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", "a", "ns/host", strings.Repeat("long-", 40)}[f.rng.IntN(4)])
	case reflect.Bool:
		v.SetBool(f.rng.IntN(2) == 0)
	case reflect.Uint8:
		v.SetUint(f.rng.Uint64N(2)) // all enums have two values
	case reflect.Uint16, reflect.Uint32:
		v.SetUint([]uint64{0, 1, 127, 128, 65535}[f.rng.IntN(5)])
	case reflect.Pointer:
		if f.rng.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
	case reflect.Slice:
		if n := f.rng.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				f.fill(v.Index(i))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	default:
		panic("no rule for " + v.Type().String())
	}
}

// special knows the types that are more than their fields.
func (f filler) special(v reflect.Value) bool {
	addr := func() netip.Addr {
		return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:10.0.0.1")}[f.rng.IntN(3)]
	}
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = addr()
	case *netip.Prefix:
		a := addr()
		*p = netip.PrefixFrom(a, f.rng.IntN(a.BitLen()+1))
	case *time.Time, *endpoints.Scope: // not on the wire
	case *[]byte:
		if f.rng.IntN(2) == 0 {
			*p = protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 7) // as an unknown field is
		}
	case *[]endpoints.ServicePorts:
		for _, key := range []string{"a/x", "a/y", "b/z"}[:f.rng.IntN(4)] {
			s := endpoints.ServicePorts{Service: key}
			f.fill(reflect.ValueOf(&s.Ports).Elem())
			*p = append(*p, s)
		}
	case *endpoints.GatewayAddress:
		*p = endpoints.GatewayAddress{Namespace: "a", Hostname: "gw", Port: uint16(f.rng.IntN(65536))}
		if f.rng.IntN(2) == 0 {
			p.Namespace, p.Hostname, p.Address = "", "", endpoints.HostAddress("n1", addr())
		}
	case *wds.StringMatch:
		*p = []wds.StringMatch{{Kind: wds.MatchExact, Value: "a"}, {Kind: wds.MatchPrefix}, {Kind: wds.MatchSuffix, Value: "b"}, {Kind: wds.MatchPresence}}[f.rng.IntN(4)]
	default:
		return false
	}
	return true
}

func comparers() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

// TestAgainstProtobuf encodes random resources: the protobuf library must read all of it, write it to the
// same bytes, and we must read the same again.
func TestAgainstProtobuf(t *testing.T) {
	f := filler{rand.New(rand.NewPCG(1, 1))}
	for range 600 {
		var r endpoints.Resource
		if f.rng.IntN(2) == 0 {
			r.Service = new(endpoints.Service)
			f.fill(reflect.ValueOf(r.Service).Elem())
			r.Service.Namespace, r.Service.Hostname = "ns", "host"
			r.Service.Instance, r.Service.Refused = false, nil // not on the wire
		} else {
			r.Workload = new(endpoints.Workload)
			f.fill(reflect.ValueOf(r.Workload).Elem())
			r.Workload.UID = "east//Pod/ns/name"
		}
		body, err := wds.EncodeAddress(r)
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, body, new(workloadpb.Address))
		back, err := wds.DecodeAddress(r.Name(), body)
		if err != nil {
			t.Fatalf("%v\n%+v", err, r)
		}
		if !back.Equal(r) {
			t.Fatalf("-sent +received\n%s", cmp.Diff(r, back, comparers()))
		}
		if r.Workload != nil {
			checkWorkloadAlone(t, r.Workload)
		}
	}
}

func checkWorkloadAlone(t *testing.T, w *endpoints.Workload) {
	t.Helper()
	body, err := wds.EncodeWorkload(w)
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, body, new(workloadpb.Workload))
	if back, err := wds.DecodeWorkload(w.UID, body); err != nil || !back.Equal(w) {
		t.Fatalf("%v, -sent +received\n%s", err, cmp.Diff(w, back, comparers()))
	}
}

func TestAuthorizationAgainstProtobuf(t *testing.T) {
	f := filler{rand.New(rand.NewPCG(2, 2))}
	for range 400 {
		a := new(wds.Authorization)
		f.fill(reflect.ValueOf(a).Elem())
		a.Namespace, a.Name = "ns", "policy"
		body, err := wds.EncodeAuthorization(a)
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, body, new(securitypb.Authorization))
		back, err := wds.DecodeAuthorization(a.ResourceName(), body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, back, comparers()); diff != "" {
			t.Fatalf("-sent +received\n%s", diff)
		}
	}
}

// sameBytes fails unless the protobuf library writes what it reads from body to the same bytes.
func sameBytes(t *testing.T, body []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(body, m); err != nil {
		t.Fatal(err)
	}
	lib, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, lib) {
		t.Fatalf("the library encodes %v\n to %x\nnot %x", m, lib, body)
	}
}

func TestDecodeRefuses(t *testing.T) {
	workload := func(w *workloadpb.Workload) *workloadpb.Address {
		w.Uid = "x"
		return &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}
	}
	service := func(s *workloadpb.Service) *workloadpb.Address {
		s.Namespace, s.Hostname = "ns", "host"
		return &workloadpb.Address{Type: &workloadpb.Address_Service{Service: s}}
	}
	gateway := func(g *workloadpb.GatewayAddress) *workloadpb.Address {
		return workload(&workloadpb.Workload{NetworkGateway: g})
	}
	tests := []struct {
		name, as string
		message  *workloadpb.Address
		field    string
		problem  string
	}{
		{"nothing", "x", &workloadpb.Address{}, "", "neither"},
		{"no name", "", &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: &workloadpb.Workload{}}}, "", "no full name"},
		{"no namespace", "/host", &workloadpb.Address{Type: &workloadpb.Address_Service{Service: &workloadpb.Service{Hostname: "host"}}}, "", "no full name"},
		{"other name", "y", workload(&workloadpb.Workload{}), "", `its name is "x"`},
		{"legacy tunnel", "x", workload(&workloadpb.Workload{TunnelProtocol: workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS}), "workload.tunnel_protocol", "LEGACY_ISTIO_MTLS"},
		{"unknown tunnel", "x", workload(&workloadpb.Workload{TunnelProtocol: 9}), "workload.tunnel_protocol", "unknown value 9"},
		{"unknown status", "x", workload(&workloadpb.Workload{Status: 2}), "workload.status", "unknown value 2"},
		{"negative type", "x", workload(&workloadpb.Workload{WorkloadType: -1}), "workload.workload_type", "unknown value -1"},
		{"short address", "x", workload(&workloadpb.Workload{Addresses: [][]byte{{1, 2, 3, 4, 5}}}), "workload.addresses", "5 bytes"},
		{"empty gateway", "x", gateway(&workloadpb.GatewayAddress{}), "workload.network_gateway", "neither"},
		{"gateway port", "x", gateway(&workloadpb.GatewayAddress{HboneMtlsPort: 70000}), "workload.network_gateway", "70000 is not a port"},
		{"gateway range", "x", gateway(&workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{
			Address: &workloadpb.NetworkAddress{Address: []byte{10, 0, 0, 0}, Length: new(uint32(8))}}}), "workload.network_gateway", "not a single address"},
		{"gateway without a name", "x", gateway(&workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Hostname{}}), "workload.network_gateway", "empty"},
		{"membership port", "x", workload(&workloadpb.Workload{Services: map[string]*workloadpb.PortList{"a/b": {Ports: []*workloadpb.Port{{TargetPort: 1 << 16}}}}}),
			"workload.services", "65536 is not a port"},
		{"service address", "ns/host", service(&workloadpb.Service{Addresses: []*workloadpb.NetworkAddress{{}}}), "service.addresses", "0 bytes"},
		{"prefix length", "ns/host", service(&workloadpb.Service{Addresses: []*workloadpb.NetworkAddress{{Address: []byte{10, 0, 0, 0}, Length: new(uint32(33))}}}),
			"service.addresses", "length 33"},
		{"huge prefix length", "ns/host", service(&workloadpb.Service{Addresses: []*workloadpb.NetworkAddress{{Address: []byte{10, 0, 0, 0}, Length: new(uint32(1 << 31))}}}),
			"service.addresses", "length"},
		{"mode", "ns/host", service(&workloadpb.Service{LoadBalancing: &workloadpb.LoadBalancing{Mode: 7}}), "service.load_balancing.mode", "unknown value 7"},
		{"visibility", "ns/host", service(&workloadpb.Service{Visibility: 3}), "service.visibility", "unknown value 3"},
		{"weighted waypoint", "ns/host", service(&workloadpb.Service{WeightedWaypoints: []*workloadpb.WeightedWaypoint{{Weight: 1}}}), "service.weighted_waypoints", "no destination"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, err := proto.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			_, err = wds.DecodeAddress(tt.as, body)
			refused(t, err, tt.as, tt.field, tt.problem)
		})
	}
	t.Run("not protobuf", func(t *testing.T) {
		_, err := wds.DecodeAddress("x", []byte{0xff})
		refused(t, err, "x", "", "proto")
		if e := new(wds.FieldError); !errors.As(err, &e) || e.Unwrap() == nil {
			t.Errorf("%v does not unwrap to what the library said", err)
		}
	})
}

func refused(t *testing.T, err error, resource, field, problem string) {
	t.Helper()
	e := new(wds.FieldError)
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *FieldError", err)
	}
	if e.Resource != resource || e.Field != field || !strings.Contains(e.Error(), problem) {
		t.Errorf("got %q of resource %q, field %q; want field %q and %q", e, e.Resource, e.Field, field, problem)
	}
}

// TestAuthorizationRefuses: what we do not understand in a rule cannot be enforced.
func TestAuthorizationRefuses(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	match := func(m *securitypb.Match) *securitypb.Authorization {
		return &securitypb.Authorization{Groups: []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{m}}}}}}
	}
	strange := new(securitypb.Match)
	strange.ProtoReflect().SetUnknown(unknown)
	strangeExtension := &workloadpb.Extension{Name: "x"}
	strangeExtension.ProtoReflect().SetUnknown(unknown)
	strangeGroup := new(securitypb.Group)
	strangeGroup.ProtoReflect().SetUnknown(unknown)
	tests := []struct {
		name    string
		message *securitypb.Authorization
		field   string
		problem string
	}{
		{"action", &securitypb.Authorization{Action: 2}, "action", "unknown value 2"},
		{"scope", &securitypb.Authorization{Scope: 3}, "scope", "unknown value 3"},
		{"condition", match(strange), "groups.rules.matches", "unknown field 99"},
		{"extension of a condition", match(&securitypb.Match{Extensions: []*workloadpb.Extension{strangeExtension}}), "extensions", "unknown field 99"},
		{"group", &securitypb.Authorization{Groups: []*securitypb.Group{strangeGroup}}, "groups", "unknown field 99"},
		{"string match", match(&securitypb.Match{Principals: []*securitypb.StringMatch{{}}}), "principals", "no kind"},
		{"port", match(&securitypb.Match{DestinationPorts: []uint32{1 << 16}}), "destination_ports", "65536"},
		{"address", match(&securitypb.Match{SourceIps: []*securitypb.Address{{Address: []byte{1}}}}), "source_ips", "1 bytes"},
		{"length", match(&securitypb.Match{SourceIps: []*securitypb.Address{{Address: []byte{1, 2, 3, 4}, Length: 40}}}), "source_ips", "length 40"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.message.Namespace, tt.message.Name = "ns", "p"
			body, err := proto.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			_, err = wds.DecodeAuthorization("ns/p", body)
			refused(t, err, "ns/p", tt.field, tt.problem)
		})
	}
}

// TestUnknownIsKept: fields of a newer peer survive, at the top and in messages that are there once.
func TestUnknownIsKept(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	w := &workloadpb.Workload{Uid: "x", Locality: &workloadpb.Locality{Region: "r"}, Capacity: wrapperspb.UInt32(3),
		Waypoint: &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Hostname{Hostname: &workloadpb.NamespacedHostname{Namespace: "a", Hostname: "b"}}}}
	for _, m := range []proto.Message{w, w.Locality, w.Waypoint, w.Capacity} {
		m.ProtoReflect().SetUnknown(unknown)
	}
	sent := &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}
	body, err := proto.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	r, err := wds.DecodeAddress("x", body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err = wds.EncodeAddress(r); err != nil {
		t.Fatal(err)
	}
	back := new(workloadpb.Address)
	if err := proto.Unmarshal(body, back); err != nil || !proto.Equal(sent, back) {
		t.Errorf("sent %v\ngot back %v, %v", sent, back, err)
	}
}

// TestHarmlessEnums: values of a newer peer that only describe are kept.
func TestHarmlessEnums(t *testing.T) {
	body, err := proto.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Service{Service: &workloadpb.Service{
		Namespace: "ns", Hostname: "host", IpFamilies: 9, Ports: []*workloadpb.Port{{ServicePort: 80, AppProtocol: 44}},
		LoadBalancing: &workloadpb.LoadBalancing{RoutingPreference: []workloadpb.LoadBalancing_Scope{7}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := wds.DecodeAddress("ns/host", body)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Service.Ports[0].AppProtocol.String(); got != "AppProtocol(44)" {
		t.Errorf("app protocol %s", got)
	}
	if again, err := wds.EncodeAddress(r); err != nil || !bytes.Equal(again, body) {
		t.Errorf("encoded to %x, %v; want %x", again, err, body)
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := []struct {
		name     string
		resource endpoints.Resource
		field    string
		problem  string
	}{
		{"nothing", endpoints.Resource{}, "", "neither"},
		{"both", endpoints.Resource{Service: &endpoints.Service{}, Workload: &endpoints.Workload{}}, "", "both"},
		{"text", endpoints.Resource{Workload: &endpoints.Workload{UID: "x", Node: "\xff"}}, "workload.node", "UTF-8"},
		{"address", endpoints.Resource{Workload: &endpoints.Workload{UID: "x", Addresses: make([]netip.Addr, 1)}}, "workload.addresses", "invalid"},
		{"gateway", endpoints.Resource{Workload: &endpoints.Workload{UID: "x", Waypoint: &endpoints.GatewayAddress{}}}, "workload.waypoint", "neither"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wds.EncodeAddress(tt.resource)
			refused(t, err, tt.resource.Name(), tt.field, tt.problem)
		})
	}
}

func TestAliases(t *testing.T) {
	service := &endpoints.Service{Namespace: "a", Hostname: "b", Addresses: []endpoints.NetworkAddress{
		endpoints.HostAddress("n1", netip.MustParseAddr("10.0.0.1")),
		{Network: "", Prefix: netip.MustParsePrefix("10.8.0.0/16")},
	}}
	workload := &endpoints.Workload{UID: "x", Network: "n2", Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	if got, want := wds.Aliases(endpoints.Resource{Service: service}), []string{"n1/10.0.0.1", "/10.8.0.0/16"}; !slices.Equal(got, want) {
		t.Errorf("service: %v, want %v", got, want)
	}
	if got, want := wds.Aliases(endpoints.Resource{Workload: workload}), []string{"n2/2001:db8::1"}; !slices.Equal(got, want) {
		t.Errorf("workload: %v, want %v", got, want)
	}
}

// TestVersionIsStable pins the hash: peers compare versions across restarts.
func TestVersionIsStable(t *testing.T) {
	if got, want := wds.Version([]byte("eastwest")), "2dabcbd4b02dc8cb"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestDecodeOddNames: the workloads that stand for the network without a name, or for a place whose subzone is not
// known, have names that begin or end with a slash.
func TestDecodeOddNames(t *testing.T) {
	for _, uid := range []string{"/SplitHorizonWorkload/ns/gw/1.2.3.4/app/web", "west/SplitHorizonWorkload/ns/gw/1.2.3.4/app/web/west/r1/z1/"} {
		body, err := wds.EncodeAddress(endpoints.Resource{Workload: &endpoints.Workload{UID: uid}})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := wds.DecodeAddress(uid, body); err != nil || r.Name() != uid {
			t.Errorf("got %q, %v; want %q", r.Name(), err, uid)
		}
	}
}

// strange sets a field that we do not know, of a value that tells messages apart.
func strange(n uint64, messages ...proto.Message) {
	for _, m := range messages {
		m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), n))
		n++
	}
}

// TestUnknownInListsIsKept: so do those of elements of lists and maps, and of what is in them.
func TestUnknownInListsIsKept(t *testing.T) {
	host := func(name string) *workloadpb.NamespacedHostname {
		return &workloadpb.NamespacedHostname{Namespace: "ns", Hostname: name}
	}
	named := func(h *workloadpb.NamespacedHostname) *workloadpb.GatewayAddress {
		return &workloadpb.GatewayAddress{HboneMtlsPort: 15008, Destination: &workloadpb.GatewayAddress_Hostname{Hostname: h}}
	}
	port := func(p uint32) *workloadpb.Port { return &workloadpb.Port{ServicePort: p, TargetPort: p} }
	address := func(last byte) *workloadpb.NetworkAddress {
		return &workloadpb.NetworkAddress{Network: "n", Address: []byte{10, 0, 0, last}}
	}
	extension := func(value byte) *workloadpb.Extension {
		return &workloadpb.Extension{Name: "x", Config: &anypb.Any{TypeUrl: "t", Value: []byte{value}}}
	}
	s := &workloadpb.Service{Namespace: "ns", Hostname: "host", Waypoint: named(host("w")),
		Ports: []*workloadpb.Port{port(80), port(81), port(80)}, Addresses: []*workloadpb.NetworkAddress{address(1), address(2)},
		Extensions:        []*workloadpb.Extension{extension(1), extension(2)},
		WeightedWaypoints: []*workloadpb.WeightedWaypoint{{Destination: named(host("a")), Weight: 1}, {Destination: named(host("b")), Weight: 2}}}
	strange(1, s, s.Ports[1], s.Ports[2], s.Addresses[1], s.Extensions[0], s.Extensions[1].Config, s.Waypoint.GetHostname(),
		s.WeightedWaypoints[0], s.WeightedWaypoints[1].Destination, s.WeightedWaypoints[1].Destination.GetHostname())
	w := &workloadpb.Workload{Uid: "x", Services: map[string]*workloadpb.PortList{
		"ns/a": {Ports: []*workloadpb.Port{port(80)}}, "ns/b": {Ports: []*workloadpb.Port{port(80)}},
	}, NetworkGateway: &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{Address: address(3)}},
		Extensions: []*workloadpb.Extension{extension(1)}}
	strange(1, w, w.Services["ns/a"].Ports[0], w.Services["ns/b"].Ports[0], w.Services["ns/b"], w.NetworkGateway.GetAddress(), w.Extensions[0])
	a := &securitypb.Authorization{Namespace: "ns", Name: "p", Extensions: []*workloadpb.Extension{extension(1), extension(2)}}
	strange(1, a.Extensions[1], a)

	readdress := func(name string) func([]byte) ([]byte, error) {
		return func(body []byte) ([]byte, error) {
			r, err := wds.DecodeAddress(name, body)
			if err != nil {
				return nil, err
			}
			return wds.EncodeAddress(r)
		}
	}
	policy := func(body []byte) ([]byte, error) {
		a, err := wds.DecodeAuthorization("ns/p", body)
		if err != nil {
			return nil, err
		}
		return wds.EncodeAuthorization(a)
	}
	for _, tt := range []struct {
		sent proto.Message
		pass func([]byte) ([]byte, error)
	}{
		{&workloadpb.Address{Type: &workloadpb.Address_Service{Service: s}}, readdress("ns/host")},
		{&workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}, readdress("x")},
		{a, policy},
	} {
		body, err := proto.Marshal(tt.sent)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tt.pass(body)
		if err != nil {
			t.Fatal(err)
		}
		back := tt.sent.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(again, back); err != nil || !proto.Equal(tt.sent, back) {
			t.Errorf("sent %v\ngot back %v, %v", tt.sent, back, err)
		}
	}
}

// TestUnknownFollowsItsElement: who changes a list changes nothing about the elements that stay.
func TestUnknownFollowsItsElement(t *testing.T) {
	s := &workloadpb.Service{Namespace: "ns", Hostname: "host", Ports: []*workloadpb.Port{{ServicePort: 80}, {ServicePort: 81}, {ServicePort: 82}}}
	strange(1, s.Ports[0], s.Ports[1])
	body, err := proto.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Service{Service: s}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := wds.DecodeAddress("ns/host", body)
	if err != nil {
		t.Fatal(err)
	}
	changed := *r.Service
	changed.Ports = []endpoints.Port{changed.Ports[2], changed.Ports[1]}
	if body, err = wds.EncodeAddress(endpoints.Resource{Service: &changed}); err != nil {
		t.Fatal(err)
	}
	back := new(workloadpb.Address)
	if err := proto.Unmarshal(body, back); err != nil {
		t.Fatal(err)
	}
	want := []*workloadpb.Port{s.Ports[2], s.Ports[1]}
	if got := back.GetService().GetPorts(); len(got) != 2 || !proto.Equal(got[0], want[0]) || !proto.Equal(got[1], want[1]) {
		t.Errorf("got ports %v, want %v", got, want)
	}
}
