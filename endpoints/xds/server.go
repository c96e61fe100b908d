package xds

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Source says which resources of a type a client sees.
type Source interface {
	// Collection returns the resources of a type that the client may see. Clients with equal
	// views should be given the same Collection. The context ends with the client's stream: a
	// Source that makes collections as they are needed may then release it.
	//
	// An error ends the stream; a gRPC status error reaches the client as it is, such as
	// codes.Unavailable while the Source is not ready, any other as codes.Internal. A type that
	// is not served is nil, nil: its requests are ignored, as istiod ignores them.
	Collection(ctx context.Context, client ClientInfo, typeURL string) (*Collection, error)
}

// ByType is a Source that shows the same resources to all clients. It maps type URLs.
type ByType map[string]*Collection

// Collection implements Source.
func (s ByType) Collection(_ context.Context, _ ClientInfo, typeURL string) (*Collection, error) {
	return s[typeURL], nil
}

// Server serves resources over aggregated discovery (ADS) to any number of clients: the delta
// variant, and the state-of-the-world variant that older sidecars use.
//
// Set the fields, Register it on a grpc.Server, and call Shutdown before stopping that. The
// grpc.Server's MaxRecvMsgSize bounds requests, and its keepalive settings find dead clients.
// Fields must not be changed after Register. Methods may be called concurrently.
type Server struct {
	// Source is what is served. Required.
	Source Source

	// Authenticate is called at the start of each stream with its context, which has the peer's
	// TLS state and the request's metadata. What it returns becomes ClientInfo.Peer. The stream
	// ends with codes.Unauthenticated on an error, unless it is a gRPC status error itself.
	// Required: with nil, every stream is refused. Anonymous accepts everyone.
	Authenticate func(context.Context) (any, error)

	// Authorize is called with the first request. It is where a client's claims about its node
	// are compared with who it is. The stream ends with codes.PermissionDenied on an error,
	// unless it is a gRPC status error itself. Nil allows what Authenticate accepted.
	Authorize func(ClientInfo) error

	// Identifier names this control plane to clients. Default "eastwest".
	Identifier string

	// MaxStreams bounds the streams open at once. Default 10,000.
	MaxStreams int
	// MaxTypes bounds the types that a stream may ask for. Default 16.
	MaxTypes int
	// MaxSubscriptions bounds the names that a stream may be subscribed to, per type, besides
	// the wildcard. Default 100,000.
	MaxSubscriptions int
	// MaxHeld bounds the resources that a client may say it holds from an earlier stream, per type. Until the first
	// answer they are in memory by name and version, about 150 bytes each. Default 2,000,000.
	MaxHeld int
	// MaxResponseBytes splits responses that would be larger, other than those of a single
	// resource. Default 32 MiB; ztunnel accepts 200 MiB.
	MaxResponseBytes int
	// PushDelay is how long a change waits for others to be sent with it. Default 10 ms;
	// negative means none.
	PushDelay time.Duration
	// SendTimeout ends the stream of a client that does not take a response in time. Default 1 min.
	SendTimeout time.Duration

	// Logger gets streams that come and go, and NACKs. Nil is silent.
	Logger *slog.Logger

	mu      sync.Mutex
	streams map[*stream]struct{}
	drained chan struct{} // made by Shutdown, closed when no stream is left
}

// Anonymous is an Authenticate that accepts everyone, with nil as the peer.
func Anonymous(context.Context) (any, error) { return nil, nil }

// Register makes r serve aggregated discovery. Interceptors and stats handlers see responses that go to many
// clients as *grpc.PreparedMsg.
func (s *Server) Register(r grpc.ServiceRegistrar) { r.RegisterService(serviceDesc(s), nil) }

func (s *Server) serveDelta(_ any, ss grpc.ServerStream) error {
	return s.serve(ss, deltaVariant{identifier: s.identifier()})
}

func (s *Server) serveSotw(_ any, ss grpc.ServerStream) error {
	return s.serve(ss, sotwVariant{identifier: s.identifier()})
}

// serve runs one stream until it ends.
func (s *Server) serve(ss grpc.ServerStream, v variant) error {
	st := &stream{
		server:    s,
		grpc:      ss,
		variant:   v,
		prepare:   prepare(ss),
		id:        strconv.FormatUint(rand.Uint64(), 36),
		connected: time.Now(),
		asked:     make(chan struct{}, 1),
		changed:   make(chan struct{}, 1),
		ended:     make(chan struct{}),
	}
	if err := s.enter(st); err != nil {
		return err
	}
	readerDone := make(chan struct{})
	go func() {
		defer close(readerDone)
		st.run()
	}()
	go func() {
		defer s.leave(st)
		st.write()
		<-readerDone
	}()
	<-st.ended // the goroutines end when the handler has returned, if they have not
	return st.err
}

// enter admits a stream.
func (s *Server) enter(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		s.streams = make(map[*stream]struct{})
	}
	switch {
	case s.drained != nil:
		return errShutdown
	case len(s.streams) >= s.maxStreams():
		return status.Error(codes.ResourceExhausted, "too many streams")
	}
	s.streams[st] = struct{}{}
	return nil
}

// leave forgets a stream whose goroutines have ended.
func (s *Server) leave(st *stream) {
	st.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	if s.drained != nil && len(s.streams) == 0 {
		close(s.drained)
	}
}

var errShutdown = status.Error(codes.Unavailable, "the server is shutting down")

// Shutdown ends all streams with codes.Unavailable, refuses new ones, and waits until the last
// has ended or the context is done. It may be called several times.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.drained == nil {
		s.drained = make(chan struct{})
		if len(s.streams) == 0 {
			close(s.drained)
		}
	}
	drained := s.drained
	for st := range s.streams {
		st.end(errShutdown)
	}
	s.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Clients lists the streams that are open, the oldest first.
func (s *Server) Clients() []ClientStatus {
	s.mu.Lock()
	streams := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	var all []ClientStatus
	for _, st := range streams {
		if status, open := st.snapshot(); open {
			all = append(all, status)
		}
	}
	slices.SortFunc(all, func(a, b ClientStatus) int { return a.Connected.Compare(b.Connected) })
	return all
}

// ClientStatus describes one open stream.
type ClientStatus struct {
	ClientInfo
	Connected time.Time
	// Delta is false for a state-of-the-world stream.
	Delta bool
	Types []StreamType
}

// StreamType describes one type on one open stream.
type StreamType struct {
	TypeURL string
	// Wildcard is whether the client gets all resources.
	Wildcard bool
	// Subscribed counts the names that the client asked for.
	Subscribed int
	// Responses, Resources and Removals count what was sent.
	Responses, Resources, Removals uint64
	// Sent and Acked are the nonces of the last response, and of the last one that was accepted.
	Sent, Acked string
	// Rejected counts NACKs; LastError is the detail of the last one.
	Rejected  uint64
	LastError string
}

// sent counts a response.
func (t *StreamType) sent(nonce string, upserts, removals int) {
	t.Sent = nonce
	t.Responses++
	t.Resources += uint64(upserts)
	t.Removals += uint64(removals)
}

func (s *Server) identifier() string         { return cmp.Or(s.Identifier, "eastwest") }
func (s *Server) maxStreams() int            { return cmp.Or(s.MaxStreams, 10_000) }
func (s *Server) maxTypes() int              { return cmp.Or(s.MaxTypes, 16) }
func (s *Server) maxSubscriptions() int      { return cmp.Or(s.MaxSubscriptions, 100_000) }
func (s *Server) maxHeld() int               { return cmp.Or(s.MaxHeld, 2_000_000) }
func (s *Server) maxResponseBytes() int      { return cmp.Or(s.MaxResponseBytes, 32<<20) }
func (s *Server) pushDelay() time.Duration   { return cmp.Or(s.PushDelay, 10*time.Millisecond) }
func (s *Server) sendTimeout() time.Duration { return cmp.Or(s.SendTimeout, time.Minute) }

func (s *Server) logger() *slog.Logger {
	return cmp.Or(s.Logger, slog.New(slog.DiscardHandler))
}
