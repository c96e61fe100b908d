package dnsproxy_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// world is an in-memory network of upstream servers: what each one answers. A
// nil response is silence.
type world struct {
	mu      sync.Mutex
	asked   []string // "network address name"
	queries []*dns.Msg
	answer  func(network, address string, q *dns.Msg) *dns.Msg
	raw     func(network string, packed []byte) [][]byte // what is sent for a response; nil: itself
}

func (w *world) dial(_ context.Context, network, address string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			q, err := readQuery(network, server)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.asked = append(w.asked, fmt.Sprint(network, " ", address, " ", q.Question[0].Name))
			w.queries = append(w.queries, q)
			w.mu.Unlock()
			if resp := w.answer(network, address, q); resp != nil {
				w.send(network, server, resp)
			}
		}
	}()
	return client, nil
}

func (w *world) send(network string, conn net.Conn, resp *dns.Msg) {
	packed, err := resp.Pack()
	if err != nil {
		panic(err)
	}
	all := [][]byte{packed}
	if w.raw != nil {
		all = w.raw(network, packed)
	}
	for _, b := range all {
		if network == "tcp" {
			b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

func readQuery(network string, conn net.Conn) (*dns.Msg, error) {
	buf := make([]byte, dns.MaxMsgSize)
	n, err := 0, error(nil)
	if network == "udp" {
		n, err = conn.Read(buf)
	} else if _, err = io.ReadFull(conn, buf[:2]); err == nil {
		n, err = io.ReadFull(conn, buf[:binary.BigEndian.Uint16(buf)])
	}
	if err != nil {
		return nil, err
	}
	q := new(dns.Msg)
	return q, q.Unpack(buf[:n])
}

func (w *world) log() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// forward returns a forwarder in w to addresses.
func (w *world) forward(t *testing.T, addresses ...string) *dnsproxy.Forwarder {
	f := forwarder(t, addresses...)
	f.Dial = w.dial
	return f
}

// reply answers q with one address.
func reply(q *dns.Msg, ttl uint32, addr string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl},
		A:   net.ParseIP(addr),
	}}
	return m
}

func rcode(q *dns.Msg, rcode int) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) }

func queryFor(name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.TypeA) }

func TestForwarderFailsOver(t *testing.T) {
	tests := []struct {
		name  string
		first func(q *dns.Msg) *dns.Msg // of the first upstream
	}{
		{"silence", func(*dns.Msg) *dns.Msg { return nil }},
		{"SERVFAIL", func(q *dns.Msg) *dns.Msg { return rcode(q, dns.RcodeServerFailure) }},
		{"REFUSED", func(q *dns.Msg) *dns.Msg { return rcode(q, dns.RcodeRefused) }},
		{"another ID", func(q *dns.Msg) *dns.Msg { m := reply(q, 30, "192.0.2.66"); m.Id++; return m }},
		{"another question", func(q *dns.Msg) *dns.Msg { m := reply(q, 30, "192.0.2.66"); m.Question[0].Name = "evil."; return m }},
		{"a query", func(q *dns.Msg) *dns.Msg { m := reply(q, 30, "192.0.2.66"); m.Response = false; return m }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{answer: func(_, address string, q *dns.Msg) *dns.Msg {
					if address == "one:53" {
						return tt.first(q)
					}
					return reply(q, 30, "192.0.2.1")
				}}
				f := w.forward(t, "one", "two")
				resp, err := f.Exchange(t.Context(), queryFor("a.example.com."))
				if err != nil {
					t.Fatal(err)
				}
				if got := lines(resp.Answer); !slices.Equal(got, []string{"a.example.com. A 192.0.2.1"}) {
					t.Errorf("answers are %v", got)
				}
				if _, err := f.Exchange(t.Context(), queryFor("b.example.com.")); err != nil {
					t.Fatal(err)
				}
				if log := w.log(); log[len(log)-1] != "udp two:53 b.example.com." || slices.Contains(log, "udp one:53 b.example.com.") {
					t.Errorf("asked %v: the one that failed should come last for a while", log)
				}
			})
		})
	}
}

// TestForwarderTimeout is that of the agent's tests: SERVFAIL within the timeout.
func TestForwarderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(string, string, *dns.Msg) *dns.Msg { return nil }}
		f := w.forward(t, "silent")
		f.Timeout = 200 * time.Millisecond
		start := time.Now()
		_, err := f.Exchange(t.Context(), queryFor("a.example.com."))
		if took := time.Since(start); took != f.Timeout {
			t.Errorf("took %v, want %v", took, f.Timeout)
		}
		var upstream *dnsproxy.UpstreamError
		if !errors.As(err, &upstream) || !errors.Is(err, context.DeadlineExceeded) || upstream.Question.Name != "a.example.com." {
			t.Errorf("error is %v, want an *UpstreamError that is context.DeadlineExceeded", err)
		}
		if !strings.Contains(err.Error(), "silent:53 over udp") {
			t.Errorf("error %q does not name the upstream", err)
		}
	})
}

func TestForwarderErrors(t *testing.T) {
	t.Run("no upstream", func(t *testing.T) {
		f := forwarder(t)
		if _, err := f.Exchange(t.Context(), queryFor("a.example.com.")); !errors.Is(err, dnsproxy.ErrNoUpstream) {
			t.Errorf("error is %v, want ErrNoUpstream", err)
		}
	})
	t.Run("all say SERVFAIL", func(t *testing.T) {
		w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return rcode(q, dns.RcodeServerFailure) }}
		_, err := w.forward(t, "one", "two").Exchange(t.Context(), queryFor("a.example.com."))
		var code *dnsproxy.RcodeError
		if !errors.As(err, &code) || code.Rcode != dns.RcodeServerFailure || code.Upstream != "one:53" {
			t.Errorf("error is %v, want an *RcodeError of one", err)
		}
	})
	t.Run("refused connections", func(t *testing.T) {
		f := forwarder(t, "one")
		refused := &net.OpError{Op: "dial", Net: "udp", Err: errors.New("refused")}
		f.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, refused }
		if _, err := f.Exchange(t.Context(), queryFor("a.example.com.")); !errors.Is(err, refused) {
			t.Errorf("error is %v, want %v", err, refused)
		}
	})
	t.Run("the caller goes away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{answer: func(string, string, *dns.Msg) *dns.Msg { return nil }}
			cause := errors.New("client gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			if _, err := w.forward(t, "silent").Exchange(ctx, queryFor("a.example.com.")); !errors.Is(err, cause) {
				t.Errorf("error is %v, want the cause of the context", err)
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{answer: func(string, string, *dns.Msg) *dns.Msg { return nil }}
			f := w.forward(t, "silent")
			time.AfterFunc(time.Second, func() { f.Close() })
			for range 2 { // while it waits, and afterwards
				if _, err := f.Exchange(t.Context(), queryFor("a.example.com.")); !errors.Is(err, net.ErrClosed) {
					t.Errorf("error is %v, want net.ErrClosed", err)
				}
			}
		})
	})
	t.Run("too many at one time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{answer: func(string, string, *dns.Msg) *dns.Msg { return nil }}
			f := w.forward(t, "silent")
			f.MaxInFlight = 1
			go f.Exchange(t.Context(), queryFor("a.example.com."))
			synctest.Wait()
			if _, err := f.Exchange(t.Context(), queryFor("b.example.com.")); !errors.Is(err, dnsproxy.ErrOverloaded) {
				t.Errorf("error is %v, want ErrOverloaded", err)
			}
			f.Close()
		})
	})
	t.Run("no question", func(t *testing.T) {
		if _, err := forwarder(t, "one").Exchange(t.Context(), new(dns.Msg)); err == nil {
			t.Error("no error")
		}
	})
}

// TestSpoofedResponses: forgeries before the answer do not count.
func TestSpoofedResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			answer: func(_, _ string, q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") },
			raw: func(_ string, packed []byte) [][]byte {
				forged := slices.Clone(packed)
				forged[0]++ // another ID
				return [][]byte{{1, 2, 3}, forged, packed}
			},
		}
		resp, err := w.forward(t, "one").Exchange(t.Context(), queryFor("a.example.com."))
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(resp.Answer); !slices.Equal(got, []string{"a.example.com. A 192.0.2.1"}) {
			t.Errorf("answers are %v", got)
		}
	})
}

func TestTruncatedUpstream(t *testing.T) {
	tests := []struct {
		name string
		tcp  bool // works
		want int
		cut  bool
	}{
		{"TCP works", true, 64, false},
		{"TCP does not", false, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{answer: func(network, _ string, q *dns.Msg) *dns.Msg {
					m := new(dns.Msg).SetReply(q)
					if network == "udp" {
						m.Truncated = true
						return m
					}
					if !tt.tcp {
						return nil
					}
					m.Answer = giant()
					return m
				}}
				resp, err := w.forward(t, "one").Exchange(t.Context(), queryFor("giant."))
				if err != nil {
					t.Fatal(err)
				}
				if len(resp.Answer) != tt.want || resp.Truncated != tt.cut {
					t.Errorf("%d answers, truncated %v, want %d, %v", len(resp.Answer), resp.Truncated, tt.want, tt.cut)
				}
			})
		})
	}
}

// TestWithoutEDNS: a server that is older than EDNS is asked without it.
func TestWithoutEDNS(t *testing.T) {
	w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg {
		if q.IsEdns0() != nil {
			m := rcode(q, dns.RcodeFormatError)
			m.Question = nil
			return m
		}
		return reply(q, 30, "192.0.2.1")
	}}
	resp, err := w.forward(t, "old").Exchange(t.Context(), queryFor("a.example.com."))
	if err != nil || len(resp.Answer) != 1 {
		t.Errorf("%v, %v, want an answer", resp, err)
	}
}

// TestQuerySafety: what goes upstream has an ID of its own, the client's
// spelling, and only what holds from end to end.
func TestQuerySafety(t *testing.T) {
	w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }}
	f := w.forward(t, "one")
	ids := map[uint16]bool{}
	for i := range 8 {
		q := queryFor(fmt.Sprintf("wWw%d.ExAmPle.cOm.", i))
		q.Id = 7
		q.SetEdns0(4096, true)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}}
		resp, err := f.Exchange(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Id != 7 || resp.Question[0] != q.Question[0] || resp.Answer[0].Header().Name != q.Question[0].Name {
			t.Errorf("response is not to the question: %v", resp)
		}
		sent := w.queries[i]
		ids[sent.Id] = true
		if sent.Question[0] != q.Question[0] {
			t.Errorf("asked %v, want the client's spelling %v", sent.Question[0], q.Question[0])
		}
		opt := sent.IsEdns0()
		if opt == nil || !opt.Do() || opt.UDPSize() != 1232 || len(opt.Option) != 0 {
			t.Errorf("OPT is %v, want DO, 1232 bytes, and no options of the client", opt)
		}
	}
	if len(ids) < 2 {
		t.Errorf("all queries have the ID %v", ids)
	}
}

// TestQueryHeader: of the client's header only what is part of a question goes
// upstream. The rest could make the servers refuse a query that others wait for.
func TestQueryHeader(t *testing.T) {
	w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }}
	f := w.forward(t, "one")
	q := queryFor("a.example.")
	q.MsgHdr = dns.MsgHdr{Id: 7, RecursionDesired: true, CheckingDisabled: true, AuthenticatedData: true,
		Authoritative: true, Truncated: true, RecursionAvailable: true, Zero: true, Rcode: dns.RcodeRefused}
	if _, err := f.Exchange(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	got := w.queries[0].MsgHdr
	want := dns.MsgHdr{Id: got.Id, RecursionDesired: true, CheckingDisabled: true, AuthenticatedData: true}
	if got != want {
		t.Errorf("sent %+v, want %+v", got, want)
	}
}

func TestSingleflight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg {
			asked.Add(1)
			time.Sleep(time.Second)
			return reply(q, 30, "192.0.2.1")
		}}
		f := w.forward(t, "slow")
		var clients sync.WaitGroup
		for i := range 100 {
			clients.Go(func() {
				name := []string{"a.example.com.", "A.Example.COM."}[i%2]
				q := queryFor(name)
				resp, err := f.Exchange(t.Context(), q)
				if err != nil {
					t.Error(err)
					return
				}
				if resp.Id != q.Id || resp.Question[0].Name != name || resp.Answer[0].Header().Name != name {
					t.Errorf("response is not to the question %s: %v", name, resp)
				}
				resp.Answer[0].Header().Name = "mine." // the response belongs to the caller
			})
		}
		clients.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("the upstream was asked %d times, want once", n)
		}
	})
}

func TestCache(t *testing.T) {
	soa := func(m *dns.Msg, ttl, minttl uint32) *dns.Msg {
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns:  "ns.example.com.", Mbox: "root.example.com.", Minttl: minttl,
		}}
		return m
	}
	tests := []struct {
		name   string
		config dnsproxy.CacheConfig
		answer func(q *dns.Msg) *dns.Msg
		lasts  time.Duration // zero: not remembered
		ttl    uint32        // one second later
	}{
		{"answer", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }, 30 * time.Second, 29},
		{"TTL 0", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return reply(q, 0, "192.0.2.1") }, 0, 0},
		{"long TTL", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return reply(q, 1<<20, "192.0.2.1") }, time.Hour, 3599},
		{"least TTL", dnsproxy.CacheConfig{MinTTL: 10 * time.Second}, func(q *dns.Msg) *dns.Msg { return reply(q, 1, "192.0.2.1") }, 10 * time.Second, 9},
		{"largest TTL", dnsproxy.CacheConfig{MaxTTL: 10 * time.Second}, func(q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }, 10 * time.Second, 9},
		{"disabled", dnsproxy.CacheConfig{Disabled: true}, func(q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }, 0, 0},
		{"NXDOMAIN", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return soa(rcode(q, dns.RcodeNameError), 30, 20) }, 20 * time.Second, 0},
		{"NODATA", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return soa(rcode(q, dns.RcodeSuccess), 15, 20) }, 15 * time.Second, 0},
		{"NXDOMAIN without SOA", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return rcode(q, dns.RcodeNameError) }, 0, 0},
		{"NODATA without SOA", dnsproxy.CacheConfig{}, func(q *dns.Msg) *dns.Msg { return rcode(q, dns.RcodeSuccess) }, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return tt.answer(q) }}
				f := w.forward(t, "one")
				f.Cache = tt.config
				exchange := func() *dns.Msg {
					resp, err := f.Exchange(t.Context(), queryFor("a.example.com."))
					if err != nil {
						t.Fatal(err)
					}
					return resp
				}
				first := exchange()
				if tt.lasts == 0 {
					if exchange(); len(w.log()) != 2 {
						t.Errorf("the upstream was asked %d times, want 2", len(w.log()))
					}
					return
				}
				time.Sleep(time.Second)
				second := exchange()
				if second.Rcode != first.Rcode || !cmp.Equal(lines(second.Answer), lines(first.Answer)) {
					t.Errorf("remembered %v of %v", second, first)
				}
				if tt.ttl != 0 && second.Answer[0].Header().Ttl != tt.ttl {
					t.Errorf("TTL is %d after a second, want %d", second.Answer[0].Header().Ttl, tt.ttl)
				}
				time.Sleep(tt.lasts - time.Second - time.Millisecond)
				if exchange(); len(w.log()) != 1 {
					t.Errorf("the upstream was asked %d times before the end, want once", len(w.log()))
				}
				time.Sleep(time.Millisecond)
				if exchange(); len(w.log()) != 2 {
					t.Errorf("the upstream was asked %d times after the end, want twice", len(w.log()))
				}
			})
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }}
	f := w.forward(t, "one")
	f.Cache.Size = 2
	for _, name := range []string{"a.", "b.", "a.", "c.", "a.", "b."} { // b is forgotten for c
		if _, err := f.Exchange(t.Context(), queryFor(name)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"udp one:53 a.", "udp one:53 b.", "udp one:53 c.", "udp one:53 b."}
	if diff := cmp.Diff(want, w.log()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// TestServeStale: RFC 8767.
func TestServeStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, slow := true, time.Duration(0)
		w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg {
			if !up {
				return rcode(q, dns.RcodeServerFailure)
			}
			time.Sleep(slow)
			return reply(q, 10, "192.0.2.1")
		}}
		f := w.forward(t, "one")
		f.Attempts = 1
		exchange := func(wantTTL uint32, wantAsked int) {
			t.Helper()
			resp, err := f.Exchange(t.Context(), queryFor("a.example.com."))
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Answer[0].Header().Ttl; got != wantTTL {
				t.Errorf("TTL is %d, want %d", got, wantTTL)
			}
			synctest.Wait()
			if got := len(w.log()); got != wantAsked {
				t.Errorf("the upstream was asked %d times, want %d", got, wantAsked)
			}
		}
		exchange(10, 1)
		up = false
		time.Sleep(time.Minute)
		exchange(30, 2) // stale: the upstream fails
		exchange(30, 2) // and is left alone for a while
		time.Sleep(time.Minute)
		up, slow = true, 1900*time.Millisecond
		start := time.Now()
		exchange(30, 3) // stale: the upstream is too slow
		if took := time.Since(start); took != 1800*time.Millisecond {
			t.Errorf("a stale answer took %v, want 1.8 s", took)
		}
		time.Sleep(time.Second)
		exchange(10, 3) // but has answered now
		up = false
		time.Sleep(25 * time.Hour)
		if _, err := f.Exchange(t.Context(), queryFor("a.example.com.")); err == nil {
			t.Error("an answer of yesterday was used")
		}
	})
}

func TestRotate(t *testing.T) {
	w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }}
	f := w.forward(t, "one", "two")
	f.Rotate = true
	for i := range 4 {
		if _, err := f.Exchange(t.Context(), queryFor(fmt.Sprintf("%d.", i))); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"udp two:53 0.", "udp one:53 1.", "udp two:53 2.", "udp one:53 3."}
	if diff := cmp.Diff(want, w.log()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// TestStreamsAreKept: queries over TCP use a connection again, and a new one when
// the server has closed it.
func TestStreamsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(_, _ string, q *dns.Msg) *dns.Msg { return reply(q, 30, "192.0.2.1") }}
		var dials []net.Conn
		f := &dnsproxy.Forwarder{
			Upstreams: []dnsproxy.Upstream{{Address: "one", TCP: true}},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := w.dial(ctx, network, address)
				dials = append(dials, c)
				return c, err
			},
		}
		defer f.Close()
		steps := []struct {
			name  string
			do    func()
			dials int
		}{
			{"first", func() {}, 1},
			{"second", func() {}, 1},
			{"closed by the server", func() { dials[0].Close() }, 2},
			{"idle for long", func() { time.Sleep(time.Minute) }, 3},
		}
		for _, s := range steps {
			s.do()
			if _, err := f.Exchange(t.Context(), queryFor(strings.ReplaceAll(s.name, " ", "-")+".")); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if len(dials) != s.dials {
				t.Errorf("%s: %d connections, want %d", s.name, len(dials), s.dials)
			}
		}
	})
}
