package dnsproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// nameserver is one upstream and what is known of it.
type nameserver struct {
	Upstream
	forwarder *Forwarder
	network   string // of streams: "tcp" or "tls"

	mu        sync.Mutex
	downUntil time.Time
	idle      []*idleConn
	closed    bool
}

const (
	downFor     = 10 * time.Second // how long a server that failed comes last
	idleFor     = 5 * time.Second  // how long a stream is kept for the next query
	maxIdle     = 4
	maxResponse = 4096 // over UDP; we offered less, and ask again over TCP
)

func newNameserver(u Upstream, f *Forwarder) *nameserver {
	s := &nameserver{Upstream: u, forwarder: f, network: "tcp"}
	port := "53"
	if u.TLS != nil {
		s.network, port = "tls", "853"
	}
	host, _, err := net.SplitHostPort(u.Address)
	if err != nil {
		host = strings.Trim(u.Address, "[]")
		s.Address = net.JoinHostPort(host, port)
	}
	if u.TLS != nil && u.TLS.ServerName == "" {
		s.TLS = u.TLS.Clone()
		s.TLS.ServerName = host
	}
	return s
}

// order returns the servers in the order to try them.
func (f *Forwarder) order(now time.Time) []*nameserver {
	first := 0
	if f.Rotate {
		first = int(f.turn.Add(1) % uint32(len(f.servers)))
	}
	order := slices.Concat(f.servers[first:], f.servers[:first])
	rank := make(map[*nameserver]int, len(order))
	for _, s := range order {
		if s.isDown(now) {
			rank[s] = 1
		}
	}
	slices.SortStableFunc(order, func(a, b *nameserver) int { return rank[a] - rank[b] })
	return order
}

func (s *nameserver) isDown(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.downUntil)
}

// try asks the server once, and again over TCP if the response was cut.
func (s *nameserver) try(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.forwarder.AttemptTimeout, defaultAttemptTimeout))
	defer cancel()
	resp, err := s.tryOnce(ctx, query)
	if old := (*RcodeError)(nil); errors.As(err, &old) && noEDNS(old.Rcode) && ctx.Err() == nil {
		plain := &dns.Msg{MsgHdr: query.MsgHdr, Question: query.Question}
		resp, err = s.tryOnce(ctx, plain) // it may be too old for EDNS (RFC 6891 section 7)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.downUntil = time.Now().Add(downFor)
		return nil, err
	}
	s.downUntil = time.Time{}
	return resp, nil
}

func noEDNS(rcode int) bool {
	return rcode == dns.RcodeFormatError || rcode == dns.RcodeNotImplemented
}

func (s *nameserver) tryOnce(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	if s.TLS != nil || s.TCP {
		return s.observe(ctx, s.network, query, s.overStream)
	}
	resp, err := s.observe(ctx, "udp", query, s.overUDP)
	if err == nil && resp.Truncated {
		if whole, err := s.observe(ctx, s.network, query, s.overStream); err == nil {
			return whole, nil
		}
	}
	return resp, err // cut is better than nothing: the client can ask over TCP
}

// observe runs one exchange and turns responses that are no answers into errors.
func (s *nameserver) observe(ctx context.Context, network string, query *dns.Msg,
	exchange func(context.Context, *dns.Msg) (*dns.Msg, error),
) (*dns.Msg, error) {
	start := time.Now()
	query = query.Copy()
	query.Id = dns.Id()
	resp, err := exchange(ctx, query)
	a := Attempt{Upstream: s.Address, Network: network, Duration: time.Since(start), Err: err}
	if err != nil {
		err = fmt.Errorf("%s over %s: %w", s.Address, network, err)
	} else if a.Rcode = resp.Rcode; !isAnswer(resp.Rcode) {
		err = &RcodeError{Upstream: s.Address, Rcode: resp.Rcode}
	}
	if s.forwarder.Observe != nil {
		s.forwarder.Observe(a)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// isAnswer tells what a server knows from what it could not do.
func isAnswer(rcode int) bool {
	return rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError
}

func (s *nameserver) dial(ctx context.Context, network string) (net.Conn, error) {
	dial := s.forwarder.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return dial(ctx, network, s.Address)
}

func (s *nameserver) overUDP(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	conn, err := s.dial(ctx, "udp")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer s.forwarder.note(conn, query)()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	raw, err := query.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(raw); err != nil {
		return nil, causeOf(ctx, err)
	}
	buf := make([]byte, maxResponse)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, causeOf(ctx, err)
		}
		if resp := responseTo(buf[:n], query); resp != nil {
			return resp, nil
		}
	}
}

// overStream asks on an idle connection if there is one, else on a new one. An
// idle one may have been closed by the server in the meantime.
func (s *nameserver) overStream(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	raw, err := query.Pack()
	if err != nil {
		return nil, err
	}
	if conn := s.takeIdle(); conn != nil {
		if resp, err := s.onStream(ctx, conn, raw, query); err == nil || ctx.Err() != nil {
			return resp, err
		}
	}
	conn, err := s.dial(ctx, "tcp")
	if err != nil {
		return nil, err
	}
	if s.TLS != nil {
		conn = tls.Client(conn, s.TLS) // the handshake is part of the first write
	}
	return s.onStream(ctx, conn, raw, query)
}

func (s *nameserver) onStream(ctx context.Context, conn net.Conn, raw []byte, query *dns.Msg) (_ *dns.Msg, err error) {
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	defer s.forwarder.note(conn, query)()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeFramed(conn, raw); err != nil {
		return nil, causeOf(ctx, err)
	}
	answer, err := readFramed(conn, dns.MaxMsgSize)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	resp := responseTo(answer, query)
	if resp == nil {
		return nil, errors.New("the response is not to our question")
	}
	if stop() {
		s.putIdle(conn)
	} else {
		conn.Close()
	}
	return resp, nil
}

// causeOf prefers to say why the context ended to the error that came of it.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// responseTo reads raw as the response to query, or returns nil when it is not:
// another one may still come (RFC 5452 section 9.1).
func responseTo(raw []byte, query *dns.Msg) *dns.Msg {
	resp := new(dns.Msg)
	err := resp.Unpack(raw)
	if resp.Id != query.Id || !resp.Response || resp.Opcode != query.Opcode {
		return nil
	}
	if err != nil && len(resp.Question) == 1 {
		// Longer than our buffer, or broken: have it again over TCP.
		resp.Truncated, resp.Answer, resp.Ns, resp.Extra = true, nil, nil, nil
	}
	if len(resp.Question) == 0 && noEDNS(resp.Rcode) {
		return resp
	}
	if len(resp.Question) != 1 {
		return nil
	}
	got, want := resp.Question[0], query.Question[0]
	if got.Qtype != want.Qtype || got.Qclass != want.Qclass || !strings.EqualFold(got.Name, want.Name) {
		return nil
	}
	return resp
}

// note remembers that query is on its way on conn, until the result is called.
func (f *Forwarder) note(conn net.Conn, query *dns.Msg) (forget func()) {
	key := sentKey{conn.LocalAddr().String(), query.Id}
	f.sent.Store(key, struct{}{})
	return func() { f.sent.Delete(key) }
}

// idleConn is a stream that waits for its next query.
type idleConn struct {
	net.Conn
	expire *time.Timer
}

func (s *nameserver) putIdle(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) >= maxIdle {
		conn.Close()
		return
	}
	conn.SetDeadline(time.Time{})
	s.idle = append(s.idle, &idleConn{conn, time.AfterFunc(idleFor, func() { conn.Close() })})
}

func (s *nameserver) takeIdle() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		last := len(s.idle) - 1
		c := s.idle[last]
		s.idle = s.idle[:last]
		if c.expire.Stop() {
			return c.Conn
		}
	}
	return nil
}

func (s *nameserver) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.idle {
		if c.expire.Stop() {
			c.Close()
		}
	}
	s.idle = nil
}
