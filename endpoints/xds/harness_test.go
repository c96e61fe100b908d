package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	fruit = "type.googleapis.com/test.Fruit"
	nuts  = "type.googleapis.com/test.Nut"
)

// patience bounds waits for something that must happen. It is not a measurement.
const patience = time.Minute

// network is a gRPC server on an in-memory listener, whose connections can be cut.
type network struct {
	t        *testing.T
	listener *bufconn.Listener
	server   *grpc.Server

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

// serve starts a gRPC server with what register registers.
func serve(t *testing.T, register func(*grpc.Server), options ...grpc.ServerOption) *network {
	t.Helper()
	n := &network{t: t, listener: bufconn.Listen(1 << 16), server: grpc.NewServer(options...), conns: map[net.Conn]struct{}{}}
	register(n.server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.server.Serve(n.listener)
	}()
	t.Cleanup(func() {
		n.server.Stop()
		<-done
	})
	return n
}

// serveXDS starts s, which is shut down at the end of the test.
func serveXDS(t *testing.T, s *Server, options ...grpc.ServerOption) *network {
	t.Helper()
	if s.Authenticate == nil {
		s.Authenticate = Anonymous
	}
	n := serve(t, func(g *grpc.Server) { s.Register(g) }, options...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return n
}

// dial returns a connection to the network.
func (n *network) dial() *grpc.ClientConn {
	n.t.Helper()
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return n.connect(ctx) }))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (n *network) connect(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, fmt.Errorf("the link is cut")
	}
	c, err := n.listener.DialContext(ctx)
	if err == nil {
		n.conns[c] = struct{}{}
	}
	return c, err
}

// cut breaks all connections, and refuses new ones until heal.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for c := range n.conns {
		_ = c.Close()
	}
	clear(n.conns)
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}

// basket is what a Handle has been given: the state of a type as "name=body".
type basket struct {
	mu      sync.Mutex
	changed chan struct{}
	items   map[string]string
	log     []string
	refuse  func(Resource) error
}

func newBasket() *basket { return &basket{changed: make(chan struct{}), items: map[string]string{}} }

func (b *basket) handle(u Update) map[string]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	rejected := map[string]error{}
	for _, name := range u.Removals {
		if _, ok := b.items[name]; !ok {
			rejected[name] = fmt.Errorf("removed, but was never here")
		}
		delete(b.items, name)
		b.log = append(b.log, "-"+name)
	}
	for _, r := range u.Upserts {
		if b.refuse != nil {
			if err := b.refuse(r); err != nil {
				rejected[r.Name] = err
				continue
			}
		}
		b.items[r.Name] = string(r.Body)
		b.log = append(b.log, "+"+r.Name+"="+string(r.Body))
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return rejected
}

// state returns the items as one line, sorted, and a channel that is closed at the next change.
func (b *basket) state() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return joined(b.items), b.changed
}

// takeLog returns what came since the last call, in order.
func (b *basket) takeLog() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	log := strings.Join(b.log, " ")
	b.log = nil
	return log
}

// await waits until the items are want.
func (b *basket) await(t *testing.T, want string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		got, changed := b.state()
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("holds %q, want %q", got, want)
		}
	}
}

func joined(items map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(items)) {
		parts = append(parts, name+"="+items[name])
	}
	return strings.Join(parts, " ")
}

// item is a resource with a body.
func item(name, body string) Resource { return Resource{Name: name, Body: []byte(body)} }

// items makes resources of "name=body" words.
func items(words string) []Resource {
	var all []Resource
	for word := range strings.FieldsSeq(words) {
		name, body, _ := strings.Cut(word, "=")
		all = append(all, item(name, body))
	}
	return all
}

// start runs the client until the end of the test.
func start(t *testing.T, c *Client) {
	t.Helper()
	if c.Node.ID == "" {
		c.Node.ID = "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local"
	}
	if c.MinBackoff == 0 {
		c.MinBackoff, c.MaxBackoff = time.Millisecond, 20*time.Millisecond
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = c.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v, want %v", err, ErrClosed)
		}
	})
}

// await waits until c is closed.
func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
	}
}

// rawClient speaks the delta protocol by hand.
type rawClient struct {
	t      *testing.T
	stream grpc.ClientStream
}

func (n *network) openRaw() *rawClient {
	n.t.Helper()
	return openRawOn(n.t, n.dial())
}

func openRawOn(t *testing.T, conn *grpc.ClientConn) *rawClient {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := conn.NewStream(ctx, &deltaStreamDesc, deltaMethod)
	if err != nil {
		t.Fatal(err)
	}
	return &rawClient{t: t, stream: stream}
}

func (r *rawClient) send(req *discoverypb.DeltaDiscoveryRequest) {
	r.t.Helper()
	if err := r.stream.SendMsg(req); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

// open sends a first request, with a node.
func (r *rawClient) open(req *discoverypb.DeltaDiscoveryRequest) {
	r.t.Helper()
	req.Node = &discoverypb.Node{Id: "ztunnel~10.0.0.1~z.ns~ns.svc.cluster.local"}
	r.send(req)
}

func (r *rawClient) receive() *discoverypb.DeltaDiscoveryResponse {
	r.t.Helper()
	resp := new(discoverypb.DeltaDiscoveryResponse)
	if err := r.stream.RecvMsg(resp); err != nil {
		r.t.Fatalf("receive: %v", err)
	}
	return resp
}

// want receives a response and compares it with "name=body" words, "-name" for the removed.
func (r *rawClient) want(words string) *discoverypb.DeltaDiscoveryResponse {
	r.t.Helper()
	resp := r.receive()
	if got := summary(resp); got != words {
		r.t.Fatalf("got response %q, want %q", got, words)
	}
	return resp
}

func summary(resp *discoverypb.DeltaDiscoveryResponse) string {
	var parts []string
	for _, r := range resp.GetResources() {
		parts = append(parts, r.GetName()+"="+string(r.GetResource().GetValue()))
	}
	for _, name := range resp.GetRemovedResources() {
		parts = append(parts, "-"+name)
	}
	return strings.Join(parts, " ")
}

func (r *rawClient) ack(resp *discoverypb.DeltaDiscoveryResponse) {
	r.t.Helper()
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()})
}

// rawServer speaks the delta protocol by hand: each stream is given to the test.
type rawServer struct {
	t       *testing.T
	streams chan *rawStream
}

type rawStream struct {
	t    *testing.T
	grpc grpc.ServerStream
	end  chan error
}

func serveRaw(t *testing.T) (*rawServer, *network) {
	s := &rawServer{t: t, streams: make(chan *rawStream)}
	n := serve(t, func(g *grpc.Server) {
		g.RegisterService(&grpc.ServiceDesc{
			ServiceName: serviceName,
			HandlerType: (*any)(nil),
			Streams:     []grpc.StreamDesc{{StreamName: deltaName, Handler: s.handle, ServerStreams: true, ClientStreams: true}},
		}, nil)
	})
	return s, n
}

func (s *rawServer) handle(_ any, ss grpc.ServerStream) error {
	st := &rawStream{t: s.t, grpc: ss, end: make(chan error, 1)}
	select {
	case s.streams <- st:
	case <-ss.Context().Done():
		return nil
	}
	select {
	case err := <-st.end:
		return err
	case <-ss.Context().Done():
		return nil
	}
}

func (s *rawServer) accept() *rawStream {
	s.t.Helper()
	select {
	case st := <-s.streams:
		return st
	case <-time.After(patience):
		s.t.Fatal("no stream was opened")
		return nil
	}
}

func (s *rawStream) receive() *discoverypb.DeltaDiscoveryRequest {
	s.t.Helper()
	req := new(discoverypb.DeltaDiscoveryRequest)
	if err := s.grpc.RecvMsg(req); err != nil {
		s.t.Fatalf("receive: %v", err)
	}
	return req
}

func (s *rawStream) send(resp *discoverypb.DeltaDiscoveryResponse) {
	s.t.Helper()
	if err := s.grpc.SendMsg(resp); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// respond sends "name=body" words, with each body as the version, too, and receives the answer.
func (s *rawStream) respond(typeURL, nonce, words string, removed ...string) *discoverypb.DeltaDiscoveryRequest {
	s.t.Helper()
	d := delta{removals: removed}
	for _, r := range items(words) {
		r.Version = string(r.Body)
		d.upserts = append(d.upserts, &r)
	}
	resp := d.encode(typeURL, true)
	resp.Nonce = nonce
	s.send(resp)
	req := s.receive()
	if req.GetResponseNonce() != nonce || req.GetTypeUrl() != typeURL {
		s.t.Fatalf("got answer %v, want one to nonce %s", req, nonce)
	}
	return req
}
