package xds

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
)

// Type is a type of resources that a Client keeps.
type Type struct {
	// URL is the type URL, such as "type.googleapis.com/istio.workload.Address". Required.
	URL string
	// OnDemand subscribes to nothing but what Client.Subscribe and Client.Fetch name. Otherwise
	// the client subscribes to everything.
	OnDemand bool
	// Handle takes an update and returns the resources that could not be used, by name, with
	// the reason. These are reported to the server (NACK), and sent again after a reconnect; the
	// rest of the update counts as applied. Required.
	//
	// Calls for all types of one Client come from one goroutine at a time. While Handle runs
	// nothing more is read, so that a slow handler slows the server down.
	Handle func(Update) (rejected map[string]error)
}

// Update is a change of the resources of one type. Apply the removals first.
type Update struct {
	TypeURL string
	// Removals names resources that were delivered before, and are gone.
	Removals []string
	// Upserts are new or changed resources. Their bodies must not be changed.
	Upserts []Resource
	// Stored says that the update is from the Store: it was true when it was saved.
	Stored bool
}

// Client keeps the resources of some types up to date from a server, over one delta ADS stream
// at a time.
//
// When the stream breaks, everything is kept, and the next stream asks for the difference only.
// Set the fields, then call Run. Fields must not be changed after that. Methods may be called
// concurrently, and before Run.
type Client struct {
	// Conn reaches the server, and normally is a *grpc.ClientConn that the caller owns. It
	// carries what the server wants to know who we are: transport credentials, and per-RPC
	// credentials with the bearer token and "clusterid" that istiod asks for. It should have
	// keepalive parameters, so that a dead server is noticed. Required.
	Conn grpc.ClientConnInterface
	// CallOptions apply to the stream.
	CallOptions []grpc.CallOption

	// Node says who we are. Its ID is required.
	Node Node
	// Types are the types to keep. At least one is required.
	Types []Type

	// Store keeps the resources over a restart: what is in it is delivered before the server is
	// asked. Nil keeps nothing.
	Store Store
	// SaveInterval is the least time between two saves. Default 10 s.
	SaveInterval time.Duration

	// MaxRequestBytes bounds each request. Default 4 MiB less 64 KiB: istiod takes 4 MiB.
	MaxRequestBytes int
	// MaxResponseBytes bounds each response. Default 200 MiB, as in ztunnel.
	MaxResponseBytes int

	// MinBackoff and MaxBackoff bound the pause before a reconnect, which doubles from one to
	// the other, and of which a random half is waited less. It starts anew after a stream that
	// worked for longer than MaxBackoff. Defaults 100 ms and 15 s.
	MinBackoff, MaxBackoff time.Duration

	// Logger gets connection changes and rejected resources. Nil is silent.
	Logger *slog.Logger
}

// Run keeps the client connected until the context is done or Close is called. It returns
// a *ConfigError at once if a required field is missing, and otherwise the context's cause or
// ErrClosed; never because of the server. It may be called once.
func (c *Client) Run(ctx context.Context) error { return nil }

// Close ends Run, and waits until it has returned and the last state is saved. It may be called
// several times.
func (c *Client) Close() error { return nil }

// Subscribe asks for names of a type that is OnDemand. They stay subscribed over reconnects.
// It does not wait.
func (c *Client) Subscribe(typeURL string, names ...string) error { return nil }

// Unsubscribe takes back Subscribe. Resources of these names are removed at once, by an Update,
// even if they came along with others. The server is told with the next Subscribe, because
// istiod answers a request that only unsubscribes with the removal of everything else.
func (c *Client) Unsubscribe(typeURL string, names ...string) error { return nil }

// Fetch subscribes to a name, and waits until the server has answered for it. It reports whether
// there is such a resource, by name or by alias. If the client already holds it, it returns at once.
func (c *Client) Fetch(ctx context.Context, typeURL, name string) (found bool, err error) {
	return false, nil
}

// Synced returns a channel that is closed when the first response of that type was handled and
// acknowledged. It is nil for a type that the client does not have.
func (c *Client) Synced(typeURL string) <-chan struct{} { return nil }

// Status says how the client is doing.
func (c *Client) Status() Status { return Status{} }

// Status is a snapshot of a Client.
type Status struct {
	// Connected is whether a stream is open on which the server has answered, and Since is
	// since when it is, or is not.
	Connected bool
	Since     time.Time
	// ControlPlane is what the server calls itself.
	ControlPlane string
	// Failures counts the attempts since the last stream on which the server answered. LastError
	// is why the last stream ended or could not be opened; nil if none did yet.
	Failures  int
	LastError error
	// StoreError is why the Store could not be read, or last written; nil if it could.
	StoreError error
	// Types are in the order of Client.Types.
	Types []TypeStatus
}

// TypeStatus is the part of a Status about one type.
type TypeStatus struct {
	URL      string
	OnDemand bool
	// Synced is whether the server has answered since Run; Stored is whether resources were
	// taken from the Store.
	Synced, Stored bool
	// Resources counts those held, Subscribed the names asked for.
	Resources, Subscribed int
	// Version is the server's name for its last state; LastUpdate is when it came.
	Version    string
	LastUpdate time.Time
	// Rejected counts resources that Handle has refused. LastError is the detail of the last NACK.
	Rejected  uint64
	LastError string
}
