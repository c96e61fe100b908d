package xds

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	// All calls of one Client come from one goroutine. While Handle runs nothing more is read,
	// so that a slow handler slows the server down. It may call Subscribe and Unsubscribe.
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
	// keepalive parameters, so that a dead server is noticed, and a backoff of its own that is
	// shorter than MaxBackoff: gRPC's default is up to two minutes. Required.
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

	once     sync.Once
	caches   []*cache // in the order of Types
	byURL    map[string]*cache
	events   chan event    // from link to apply
	dropped  chan struct{} // some cache has names that were unsubscribed
	dirty    chan struct{} // something is to be saved
	finished chan struct{} // closed when Run has returned

	mu     sync.Mutex // guards the caches, too
	cancel context.CancelCauseFunc
	closed bool
	conv   *conversation // the stream that is open, if one is
	status Status        // without Types
}

// Run keeps the client connected until the context is done or Close is called. It returns
// a *ConfigError at once if a field is missing or wrong, and otherwise the context's cause or
// ErrClosed; never because of the server. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	ctx, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer close(c.finished)
	c.restore(ctx)
	applied := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { c.link(ctx) })
	wg.Go(func() { c.saveChanges(ctx, applied) })
	c.apply(ctx)
	close(applied)
	wg.Wait()
	return context.Cause(ctx)
}

// begin checks the configuration, and marks the client as running. The context that it returns
// ends with Close, too.
func (c *Client) begin(ctx context.Context) (context.Context, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrClosed
	case c.cancel != nil:
		return nil, &ConfigError{Field: "Client", Reason: "Run was called before"}
	}
	ctx, c.cancel = context.WithCancelCause(ctx)
	return ctx, nil
}

func (c *Client) check() error {
	if c.Conn == nil {
		return &ConfigError{Field: "Conn", Reason: "is required"}
	}
	if c.Node.ID == "" {
		return &ConfigError{Field: "Node.ID", Reason: "is required"}
	}
	if _, err := nodeToProto(c.Node); err != nil {
		return &ConfigError{Field: "Node.Metadata", Reason: err.Error()}
	}
	if len(c.Types) == 0 {
		return &ConfigError{Field: "Types", Reason: "is empty"}
	}
	for i, t := range c.Types {
		field := fmt.Sprintf("Types[%d]", i)
		switch {
		case t.URL == "":
			return &ConfigError{Field: field + ".URL", Reason: "is required"}
		case t.Handle == nil:
			return &ConfigError{Field: field + ".Handle", Reason: "is required"}
		case slices.ContainsFunc(c.Types[:i], func(other Type) bool { return other.URL == t.URL }):
			return &ConfigError{Field: field + ".URL", Reason: "is there twice: " + t.URL}
		}
	}
	return nil
}

// init makes the state, at the first call of any method.
func (c *Client) init() {
	c.once.Do(func() {
		c.finished = make(chan struct{})
		c.events = make(chan event)
		c.dropped = make(chan struct{}, 1)
		c.dirty = make(chan struct{}, 1)
		c.byURL = make(map[string]*cache, len(c.Types))
		for _, t := range c.Types {
			k := newCache(t)
			c.caches = append(c.caches, k)
			c.byURL[t.URL] = k
		}
		c.status.Since = time.Now()
	})
}

// Close ends Run, and waits until it has returned and the last state is saved. It may be called
// several times, but not by a Handle.
func (c *Client) Close() error {
	c.init()
	c.mu.Lock()
	if c.cancel == nil && !c.closed {
		close(c.finished) // Run was never called
	}
	c.closed = true
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(ErrClosed)
	}
	<-c.finished
	return nil
}

// Synced returns a channel that is closed when a response of that type was handled without
// rejecting anything, and acknowledged. It is nil for a type that the client does not have.
func (c *Client) Synced(typeURL string) <-chan struct{} {
	c.init()
	if k := c.byURL[typeURL]; k != nil {
		return k.synced
	}
	return nil
}

// Status says how the client is doing.
func (c *Client) Status() Status {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.status
	st.Types = make([]TypeStatus, len(c.caches))
	for i, k := range c.caches {
		st.Types[i] = k.snapshot()
	}
	return st
}

// Status is a snapshot of a Client.
type Status struct {
	// Connected is whether a stream is open on which the server has answered, and Since is
	// since when it is, or is not.
	Connected bool
	Since     time.Time
	// ControlPlane is what the server calls itself.
	ControlPlane string
	// Failures counts the streams that ended or could not be opened since the server last
	// answered. LastError is why the last of them did; nil if none did yet.
	Failures  int
	LastError error
	// StoreError is why the Store could not be read, or last written; nil if it could.
	StoreError error
	// Types are in the order of Client.Types.
	Types []TypeStatus
}

// Synced reports whether every type that is not OnDemand is synced. Once true
// it stays so: a client that loses its server keeps what it has.
func (s Status) Synced() bool {
	return !slices.ContainsFunc(s.Types, func(t TypeStatus) bool { return !t.OnDemand && !t.Synced })
}

// TypeStatus is the part of a Status about one type.
type TypeStatus struct {
	URL      string
	OnDemand bool
	// Synced is whether Client.Synced is closed; Stored is whether resources were
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

func (c *Client) maxRequestBytes() int        { return cmp.Or(c.MaxRequestBytes, 4<<20-64<<10) }
func (c *Client) maxResponseBytes() int       { return cmp.Or(c.MaxResponseBytes, 200<<20) }
func (c *Client) minBackoff() time.Duration   { return cmp.Or(c.MinBackoff, 100*time.Millisecond) }
func (c *Client) maxBackoff() time.Duration   { return cmp.Or(c.MaxBackoff, 15*time.Second) }
func (c *Client) saveInterval() time.Duration { return cmp.Or(c.SaveInterval, 10*time.Second) }

func (c *Client) logger() *slog.Logger {
	return cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
}
