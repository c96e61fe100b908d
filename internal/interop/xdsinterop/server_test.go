package xdsinterop

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"istio.io/istio/pkg/adsc"
	"istio.io/istio/pkg/backoff"
	"istio.io/istio/pkg/workloadapi"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/eds"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// serve starts our server, and returns how Istio's client reaches it, and a way to end all streams.
func serve(t *testing.T, source xds.ByType) (dial grpc.DialOption, server *xds.Server, cut func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server = &xds.Server{Source: source, Authenticate: xds.Anonymous, PushDelay: -1}
	g := grpc.NewServer()
	server.Register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(listener)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		g.Stop()
		<-done
	})
	var mu sync.Mutex
	var conns []net.Conn
	dial = grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := listener.DialContext(ctx)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
		return c, err
	})
	return dial, server, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
	}
}

// news is what Istio's client tells its handlers.
type news struct {
	name   string
	entity proto.Message // nil: removed
}

// follow runs Istio's delta client with a wildcard watch.
func follow[T proto.Message](t *testing.T, dial grpc.DialOption, reject func(name string) error) <-chan news {
	t.Helper()
	got := make(chan news, 1000)
	handler := adsc.Register(func(ctx adsc.HandlerContext, name, _ string, entity T, event adsc.Event) {
		if reject != nil {
			if err := reject(name); err != nil {
				ctx.Reject(err)
			}
		}
		if event == adsc.EventDelete {
			got <- news{name, nil}
		} else {
			got <- news{name, entity}
		}
	})
	config := &adsc.DeltaADSConfig{Config: adsc.Config{
		ClientName: "test", Namespace: "app", Workload: "client", IP: "10.0.0.9",
		GrpcOpts: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), dial},
	}}
	client := adsc.NewDeltaWithBackoffPolicy("passthrough:///eastwest", config, backoff.NewExponentialBackOff(backoff.DefaultOption()),
		handler, adsc.Watch[T]("*"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		client.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return got
}

func next(t *testing.T, from <-chan news) news {
	t.Helper()
	select {
	case n := <-from:
		return n
	case <-time.After(patience):
		t.Fatal("nothing came")
		return news{}
	}
}

func workload(name, addr string) endpoints.Resource {
	return endpoints.Resource{Workload: &endpoints.Workload{
		UID: "east//Pod/app/" + name, Name: name, Namespace: "app", Cluster: "east", Network: "east", Tunnel: endpoints.TunnelHBONE,
		Addresses: []netip.Addr{netip.MustParseAddr(addr)},
		Services:  []endpoints.ServicePorts{{Service: "app/web.example", Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
	}}
}

func encoded(t *testing.T, r endpoints.Resource) xds.Resource {
	t.Helper()
	body, err := wds.EncodeAddress(r)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Resource{Name: r.Name(), Version: wds.Version(body), Body: body, Aliases: wds.Aliases(r)}
}

// same reports whether Istio's message is what our bytes say.
func same(t *testing.T, got proto.Message, body []byte) bool {
	t.Helper()
	want := got.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(body, want); err != nil {
		t.Fatal(err)
	}
	return proto.Equal(got, want)
}

func TestIstioFollowsServer(t *testing.T) {
	c := new(xds.Collection)
	first := encoded(t, workload("a", "10.0.0.1"))
	c.Update([]xds.Resource{first}, nil)
	dial, server, cut := serve(t, xds.ByType{wds.AddressTypeURL: c})
	got := follow[*workloadapi.Address](t, dial, nil)
	if n := next(t, got); n.name != first.Name || !same(t, n.entity, first.Body) {
		t.Errorf("got %s: %v", n.name, n.entity)
	}
	second := encoded(t, workload("b", "10.0.0.2"))
	c.Update([]xds.Resource{second}, nil)
	if n := next(t, got); n.name != second.Name || !same(t, n.entity, second.Body) {
		t.Errorf("got %s: %v", n.name, n.entity)
	}
	c.Update(nil, []string{first.Name})
	if n := next(t, got); n.name != first.Name || n.entity != nil {
		t.Errorf("got %s: %v, want it removed", n.name, n.entity)
	}
	cut()
	if n := next(t, got); n.name != second.Name { // Istio's client lists no versions
		t.Errorf("after the cut came %s", n.name)
	}
	if st := server.Clients(); len(st) != 1 || st[0].Types[0].Rejected != 0 {
		t.Errorf("clients %+v", st)
	}
}

func TestIstioRefusesPart(t *testing.T) {
	c := new(xds.Collection)
	a, b := encoded(t, workload("a", "10.0.0.1")), encoded(t, workload("b", "10.0.0.2"))
	c.Update([]xds.Resource{a, b}, nil)
	dial, server, _ := serve(t, xds.ByType{wds.AddressTypeURL: c})
	got := follow[*workloadapi.Address](t, dial, func(name string) error {
		if name == b.Name {
			return net.ErrClosed
		}
		return nil
	})
	next(t, got)
	next(t, got)
	timeout := time.After(patience)
	for {
		if st := server.Clients(); len(st) == 1 && st[0].Types[0].Rejected == 1 && st[0].Types[0].LastError == net.ErrClosed.Error() {
			break
		}
		select {
		case <-timeout:
			t.Fatalf("clients %+v, want one NACK", server.Clients())
		case <-time.After(time.Millisecond):
		}
	}
	changed := encoded(t, workload("a", "10.0.0.3"))
	c.Update([]xds.Resource{changed}, nil)
	if n := next(t, got); n.name != a.Name || !same(t, n.entity, changed.Body) {
		t.Errorf("got %s: %v", n.name, n.entity)
	}
}

func TestIstioReadsAssignments(t *testing.T) {
	a := eds.NewGateways([]eds.Gateway{{Network: "west", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, SNIPort: 15443}}, nil).
		For(eds.Client{Network: "west", Cluster: "west"}).
		Build(eds.Target{
			Service: &endpoints.Service{Hostname: "web.example", Scope: endpoints.ScopeGlobal, Ports: []endpoints.Port{{ServicePort: 80}}}, Port: 80,
			Endpoints: func(yield func(endpoints.Endpoint) bool) {
				w := workload("a", "10.0.0.1").Workload
				yield(endpoints.Endpoint{Workload: w, Ports: w.Services[0].Ports})
			},
		})
	body, err := eds.Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	c := new(xds.Collection)
	c.Update([]xds.Resource{{Name: a.Cluster, Body: body}}, nil)
	dial, _, _ := serve(t, xds.ByType{eds.TypeURL: c})
	n := next(t, follow[*endpointv3.ClusterLoadAssignment](t, dial, nil))
	cla := n.entity.(*endpointv3.ClusterLoadAssignment)
	if n.name != a.Cluster || !same(t, cla, body) || len(cla.GetEndpoints()) != 1 {
		t.Errorf("got %s: %v", n.name, cla)
	}
	if err := cla.ValidateAll(); err != nil {
		t.Error(err)
	}
}
