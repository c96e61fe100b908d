package dnsproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Upstream is a DNS server to ask.
type Upstream struct {
	// Address is host:port, or a host with port 53.
	Address string
	// TCP asks over TCP only.
	TCP bool
	// TLS, if set, asks over TLS (RFC 7858), by default on port 853. Without a
	// ServerName the certificate has to be for the host of Address.
	TLS *tls.Config
}

// Forwarder asks upstream servers and remembers their answers. Questions that
// are the same and come at the same time are asked once. It is safe for
// concurrent use; its fields must not be changed after its first use. The zero
// value has no upstreams and fails at once. It must be closed.
//
// Over UDP every try has a socket, a port and an ID of its own, and the question
// is spelled as the client did (0x20); a truncated response is asked for again
// over TCP. Servers that fail come last for a while.
type Forwarder struct {
	// Upstreams, in order of preference.
	Upstreams []Upstream

	// Rotate begins with another upstream every time.
	Rotate bool

	// Timeout of a whole exchange over all upstreams. Zero means 5 s.
	Timeout time.Duration

	// AttemptTimeout of one try at one upstream. Zero means 2 s.
	AttemptTimeout time.Duration

	// Attempts is how often the list of upstreams is gone through. Zero means 2.
	Attempts int

	// MaxInFlight bounds the exchanges at one time; further questions fail at once.
	// Zero means 512. Where servers of several pods share a forwarder, give each
	// a smaller MaxQueries, so that no pod can take all.
	MaxInFlight int

	// Cache is what is remembered.
	Cache CacheConfig

	// Dial opens sockets to upstreams, for "udp" and "tcp"; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Observe, if set, is called after every try at an upstream.
	Observe func(Attempt)

	// Logger gets what goes wrong; nil is silent.
	Logger *slog.Logger

	once    sync.Once
	ctx     context.Context // ends with Close
	cancel  context.CancelCauseFunc
	servers []*nameserver
	cache   *cache

	mu      sync.Mutex
	flights map[cacheKey]*flight
	running sync.WaitGroup
	turn    atomic.Uint32
	sent    sync.Map // sentKey -> struct{}: what is on its way upstream
}

var _ Exchanger = (*Forwarder)(nil)

// Attempt is one try at one upstream.
type Attempt struct {
	Upstream string
	Network  string // "udp", "tcp" or "tls"
	Rcode    int    // when Err is nil
	Duration time.Duration
	Err      error
}

// Errors of a [Forwarder] and of a [Handler]; test with errors.Is.
var (
	ErrNoUpstream = errors.New("dnsproxy: no upstream server is configured")
	ErrOverloaded = errors.New("dnsproxy: too many upstream exchanges at one time")
	ErrLoop       = errors.New("dnsproxy: an upstream leads back to this resolver")
)

var errQuestions = errors.New("dnsproxy: a query has one question")

// UpstreamError says that no upstream gave an answer; Errs has an error for
// every try, and a [*RcodeError] where the server said no.
type UpstreamError struct {
	Question dns.Question
	Errs     []error
}

func (e *UpstreamError) Error() string {
	return fmt.Sprintf("dnsproxy: no upstream answers %s %s: %v",
		e.Question.Name, dns.Type(e.Question.Qtype), errors.Join(e.Errs...))
}

// Unwrap returns the errors of the tries.
func (e *UpstreamError) Unwrap() []error { return e.Errs }

// RcodeError is a response that is no answer, such as SERVFAIL: another server may do better.
type RcodeError struct {
	Upstream string
	Rcode    int
}

func (e *RcodeError) Error() string {
	return fmt.Sprintf("%s says %s", e.Upstream, dns.RcodeToString[e.Rcode])
}

const (
	defaultAttemptTimeout = 2 * time.Second
	defaultAttempts       = 2
	defaultMaxInFlight    = 512

	// staleAfter is how long a client waits for a fresh answer when there is a
	// stale one, the client response timer of RFC 8767 section 5.
	staleAfter = 1800 * time.Millisecond
)

func (f *Forwarder) init() {
	f.once.Do(func() {
		f.ctx, f.cancel = context.WithCancelCause(context.Background())
		f.flights = make(map[cacheKey]*flight)
		f.cache = newCache(f.Cache)
		for _, u := range f.Upstreams {
			f.servers = append(f.servers, newNameserver(u, f))
		}
	})
}

// Exchange answers query from memory or by asking. It implements [Exchanger].
// Errors are [ErrNoUpstream], [ErrOverloaded], a [*UpstreamError], net.ErrClosed,
// or the cause of ctx.
func (f *Forwarder) Exchange(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	f.init()
	if len(query.Question) != 1 {
		return nil, errQuestions
	}
	key := keyOf(query)
	remembered, state := f.cache.get(key, time.Now())
	if state == cacheFresh {
		return adapt(remembered, query), nil
	}
	if len(f.servers) == 0 {
		return nil, ErrNoUpstream
	}
	fl, err := f.join(key, query)
	if err != nil {
		return orStale(remembered, query, err)
	}
	var stale <-chan time.Time
	if state == cacheStale {
		t := time.NewTimer(staleAfter)
		defer t.Stop()
		stale = t.C
	}
	select {
	case <-fl.done:
		if fl.err != nil {
			return orStale(remembered, query, fl.err)
		}
		return adapt(fl.msg.Copy(), query), nil
	case <-stale:
		return orStale(remembered, query, nil)
	case <-ctx.Done():
		return orStale(remembered, query, context.Cause(ctx))
	}
}

// orStale answers with what was remembered, if anything was, instead of err.
func orStale(remembered, query *dns.Msg, err error) (*dns.Msg, error) {
	if remembered == nil {
		return nil, err
	}
	return adapt(remembered, query), nil
}

// adapt makes resp, which is the caller's own, a response to query: its ID, and its
// spelling of the name, which clients may use to tell forgeries (0x20).
func adapt(resp, query *dns.Msg) *dns.Msg {
	asked := query.Question[0].Name
	for _, rr := range resp.Answer {
		if h := rr.Header(); len(h.Name) == len(asked) && dns.CanonicalName(h.Name) == dns.CanonicalName(asked) {
			h.Name = asked
		}
	}
	resp.Id = query.Id
	resp.Question = query.Question
	resp.RecursionDesired = query.RecursionDesired
	resp.CheckingDisabled = query.CheckingDisabled
	return resp
}

// flight is one exchange that any number of callers wait for.
type flight struct {
	done chan struct{} // closed when msg or err is there
	msg  *dns.Msg      // shared: not to be modified
	err  error
}

// join returns the flight for key, which it starts if there is none. A flight
// does not end with the caller that started it.
func (f *Forwarder) join(key cacheKey, query *dns.Msg) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.flights[key]; ok {
		return fl, nil
	}
	if f.ctx.Err() != nil {
		return nil, context.Cause(f.ctx)
	}
	if len(f.flights) >= cmp.Or(f.MaxInFlight, defaultMaxInFlight) {
		return nil, ErrOverloaded
	}
	fl := &flight{done: make(chan struct{})}
	f.flights[key] = fl
	query = outgoing(query)
	f.running.Go(func() {
		fl.msg, fl.err = f.ask(query)
		if fl.err != nil {
			f.cache.failed(key, time.Now())
		} else {
			f.cache.put(key, fl.msg, time.Now())
		}
		f.mu.Lock()
		delete(f.flights, key)
		f.mu.Unlock()
		close(fl.done)
	})
	return fl, nil
}

// outgoing is the query that goes upstream: the question and the flags that are
// part of it. What EDNS says holds from hop to hop, except for DO.
func outgoing(query *dns.Msg) *dns.Msg {
	out := &dns.Msg{Question: query.Question, MsgHdr: dns.MsgHdr{
		Opcode:            query.Opcode,
		RecursionDesired:  query.RecursionDesired,
		AuthenticatedData: query.AuthenticatedData,
		CheckingDisabled:  query.CheckingDisabled,
	}}
	opt := query.IsEdns0()
	return out.SetEdns0(ednsSize, opt != nil && opt.Do())
}

// ask tries the upstreams until one answers.
func (f *Forwarder) ask(query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(f.ctx, cmp.Or(f.Timeout, defaultTimeout))
	defer cancel()
	failed := &UpstreamError{Question: query.Question[0]}
	for range max(1, cmp.Or(f.Attempts, defaultAttempts)) {
		for _, s := range f.order(time.Now()) {
			resp, err := s.try(ctx, query)
			if err == nil {
				return resp, nil
			}
			if errors.Is(f.ctx.Err(), context.Canceled) {
				return nil, context.Cause(f.ctx)
			}
			failed.Errs = append(failed.Errs, err)
			if ctx.Err() != nil {
				return nil, failed
			}
		}
	}
	return nil, failed
}

// Close ends all exchanges with net.ErrClosed, closes idle connections, and
// waits for the goroutines of the forwarder.
func (f *Forwarder) Close() error {
	f.init()
	f.mu.Lock()
	f.cancel(net.ErrClosed)
	f.mu.Unlock()
	f.running.Wait()
	for _, s := range f.servers {
		s.closeIdle()
	}
	return nil
}

// sentKey identifies a query of ours on the wire.
type sentKey struct {
	from string
	id   uint16
}

// Sent says whether a query with this ID from this address is one that the
// forwarder has sent upstream and that came back: a loop.
func (f *Forwarder) Sent(from net.Addr, id uint16) bool {
	if from == nil {
		return false
	}
	_, ok := f.sent.Load(sentKey{from.String(), id})
	return ok
}
