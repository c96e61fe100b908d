package dnsproxy_test

import (
	"context"
	"errors"
	"fmt"
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
