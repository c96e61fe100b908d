package xds

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
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
}

// Anonymous is an Authenticate that accepts everyone, with nil as the peer.
func Anonymous(context.Context) (any, error) { return nil, nil }

// Register makes r serve aggregated discovery.
func (s *Server) Register(r grpc.ServiceRegistrar) {}

// Shutdown ends all streams with codes.Unavailable, refuses new ones, and waits until the last
// has ended or the context is done. It may be called several times.
func (s *Server) Shutdown(ctx context.Context) error { return nil }

// Clients lists the streams that are open, the oldest first.
func (s *Server) Clients() []ClientStatus { return nil }

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
