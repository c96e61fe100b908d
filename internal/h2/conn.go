package h2

import (
	"bytes"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Conn is one end of an HTTP/2 connection. Its methods may be called
// concurrently.
//
// It has one goroutine, which reads while no stream does that itself; another one writes
// while the connection beneath is full. Frames are sent by whoever has something to send.
type Conn struct {
	cfg    Config
	tr     transport
	client bool
	handle func(*Stream) // servers
	log    *slog.Logger
	notify func() // see NotifyAvailable

	in       reader
	turn     turn // to run it
	inflow   connInflow
	recent   directory
	received atomic.Bool   // something came since the keepalive looked
	slots    atomic.Uint64 // what Slots returns, free ones in the upper half
	done     chan struct{}
	born     time.Time

	mu         sync.Mutex // guards what follows; never held together with a Stream.recv.mu
	err        error      // why the connection ended
	reading    bool       // the reader goroutine runs
	exited     sync.Cond  // the reader or a flusher has ended
	out        outbox
	hpack      *hpack.Encoder
	hpackOut   bytes.Buffer
	peer       peerSettings
	window     int64 // what we may send on all streams together
	sentBytes  int64 // of DATA
	creditedAt int64 // sentBytes when the peer's window of the connection was last topped up
	talks      bool  // in the time before that, we sent not much less than we received: more is likely to follow soon
	updates    int   // WINDOW_UPDATE frames that the peer may send unbudgeted
	resets     int   // RST_STREAM frames that the peer may send unbudgeted
	streams    map[uint32]*Stream
	slotFreed  sync.Cond // Open may go on
	drained    sync.Cond // the last stream has gone
	nextID     uint32    // clients: of the next stream
	lastID     uint32    // servers: of the last stream that the peer opened
	handlers   int       // servers: running ones
	forgotten  recentIDs // streams that we ended before the peer did: frames may still come

	answers        answerClock
	gotSettings    bool
	settingsAcked  bool
	handshakeTimer *time.Timer
	lingering      bool          // the reader goes on until the peer closes, so that nothing of what we sent is lost
	patience       time.Duration // how long it does
	transportShut  bool
	graceTimer     *time.Timer

	draining   bool        // we sent a GOAWAY or shall open nothing more
	sentGoAway uint32      // servers: its last stream id
	peerGoAway *goAway     // the last one that the peer sent
	pings      pingTracker // outstanding ones
	keepalive  *time.Timer
	pingSent   bool // by the keepalive; nothing came since
	quietTicks int  // intervals in which nothing came
}

const (
	maxStreamID     = math.MaxInt32 // RFC 9113 §5.1.1
	headerTableSize = 4096          // RFC 9113 §6.5.2, never changed by us
)

// NewClient starts a client on nc, which it owns from then on. If nc is a
// [*TLSConn] whose handshake is not complete, NewClient completes it.
// It does not wait for the peer's SETTINGS.
func NewClient(nc net.Conn, cfg Config) (*Conn, error) {
	return newConn(nc, cfg, nil)
}

// NewServer starts a server on nc, which it owns from then on; as for TLS, see
// [NewClient]. Each CONNECT is given to handle in a goroutine of its own. The
// stream is unanswered: handle must Accept or Reject it; if it returns without,
// the answer is status 500. An accepted stream outlives handle.
func NewServer(nc net.Conn, cfg Config, handle func(*Stream)) (*Conn, error) {
	return newConn(nc, cfg, handle)
}

func newConn(nc net.Conn, cfg Config, handle func(*Stream)) (*Conn, error) {
	tr, err := newTransport(nc, cfg.handshakeTimeout())
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := makeConn(tr, cfg, handle)
	c.start()
	go c.readLoop()
	return c, nil
}

func makeConn(tr transport, cfg Config, handle func(*Stream)) *Conn {
	c := &Conn{
		cfg:        cfg,
		tr:         tr,
		client:     handle == nil,
		handle:     handle,
		log:        cfg.Logger,
		done:       make(chan struct{}),
		born:       time.Now(),
		peer:       defaultPeerSettings(),
		window:     initialWindow,
		streams:    make(map[uint32]*Stream),
		nextID:     1,
		sentGoAway: maxStreamID,
		reading:    true,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.exited.L, c.slotFreed.L, c.drained.L = &c.mu, &c.mu, &c.mu
	c.hpack = hpack.NewEncoder(&c.hpackOut)
	c.inflow = connInflow{memory: cfg.Memory, limit: int64(cfg.connWindow()), window: initialWindow}
	c.recount()
	c.in.init(c)
	c.turn.init(tr.interrupt)
	if !tr.stoppable {
		c.turn.fix()
	}
	tr.out.hold(c.in.pause)
	return c
}

// start sends the connection preface (RFC 9113 §3.4).
func (c *Conn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client {
		b := c.out.queued.bytes()
		*b = append(*b, http2.ClientPreface...)
	}
	c.appendSettings(localSettings(&c.cfg, c.client))
	c.out.barrier()
	if c.cfg.pingInterval() > 0 {
		c.inflow.roundTripBegins() // else none is measured
	}
	c.handshakeTimer = time.AfterFunc(c.cfg.handshakeTimeout(), func() {
		c.fail(&ConnError{
			Code:   http2.ErrCodeSettingsTimeout,
			Reason: "no SETTINGS, or no acknowledgement of ours, from the peer within " + c.cfg.handshakeTimeout().String(),
			Err:    syscall.ETIMEDOUT,
		})
	})
	c.startKeepalive()
	c.flush(false)
}

// NotifyAvailable sets a function that is called when Available may have grown, the
// peer began to drain the connection, or the connection ended; not when a
// stream ends of which Config.StreamEnded hears. It is for clients; set it before the first stream is
// opened. If any of it was before that, f is called at once. f is called without locks
// held; it must not block, and must not call Close, CloseWithError or Shutdown.
func (c *Conn) NotifyAvailable(f func()) {
	c.mu.Lock()
	c.notify = f
	missed := c.gotSettings || c.leaving()
	c.mu.Unlock()
	if missed && f != nil {
		f()
	}
}

// available calls the hook. c.mu is not held.
func (c *Conn) available() {
	c.mu.Lock()
	f := c.notify
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// Available returns how many streams may be opened now: none if the connection
// is draining or has ended. It does not wait for anything.
func (c *Conn) Available() int {
	free, _ := c.Slots()
	return free
}

// Streams returns how many streams are open. It does not wait for anything.
func (c *Conn) Streams() int {
	_, open := c.Slots()
	return open
}

// Slots returns what Available and Streams do, of the same moment.
func (c *Conn) Slots() (free, open int) {
	slots := c.slots.Load()
	return int(slots >> 32), int(uint32(slots))
}

// recount renews what Slots returns, whenever any of it has changed. c.mu is held.
func (c *Conn) recount() {
	c.slots.Store(uint64(c.freeSlots())<<32 | uint64(len(c.streams)))
}

// freeSlots returns how many streams may be opened now. c.mu is held.
func (c *Conn) freeSlots() int {
	if c.leaving() || !c.client {
		return 0
	}
	ids := (maxStreamID-int64(c.nextID))/2 + 1
	return int(max(0, min(c.peer.maxStreams-int64(len(c.streams)), ids)))
}

// Settled reports whether the peer's first SETTINGS came: before, Available is a guess (RFC 9113 §6.5.2).
func (c *Conn) Settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gotSettings
}

// Draining reports whether the connection takes no further streams, ever: either
// side began to drain it, its stream ids are used up, or it has ended.
func (c *Conn) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving() || c.nextID > maxStreamID
}

// leaving reports whether the connection has ended or is going to. c.mu is held.
func (c *Conn) leaving() bool {
	return c.err != nil || c.out.err != nil || c.draining || c.peerGoAway != nil
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended; nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// LocalAddr returns the local address of the connection beneath.
func (c *Conn) LocalAddr() net.Addr { return c.tr.LocalAddr() }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.tr.RemoteAddr() }
