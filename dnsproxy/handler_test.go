package dnsproxy_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// exchangeFunc is an Exchanger.
type exchangeFunc func(context.Context, *dns.Msg) (*dns.Msg, error)

func (f exchangeFunc) Exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) { return f(ctx, q) }

// serveOne hands q to h as if it came over network.
func serveOne(h *dnsproxy.Handler, network string, q *dns.Msg) *dns.Msg {
	w := &recorder{remote: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5}}
	if network == "tcp" {
		w.remote = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5}
	}
	h.ServeDNS(w, q)
	return w.msg
}

func TestHandlerRefuses(t *testing.T) {
	synced := &dnsproxy.Resolver{Names: namesOf(t)}
	broken := exchangeFunc(func(context.Context, *dns.Msg) (*dns.Msg, error) { return nil, errors.New("broken") })
	question := func(edit func(*dns.Msg)) *dns.Msg {
		q := queryFor("a.example.com.")
		edit(q)
		return q
	}
	tests := []struct {
		name    string
		handler *dnsproxy.Handler
		query   *dns.Msg
		rcode   int
	}{
		{"another opcode", &dnsproxy.Handler{}, question(func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"no question", &dnsproxy.Handler{}, question(func(q *dns.Msg) { q.Question = nil }), dns.RcodeFormatError},
		{"two questions", &dnsproxy.Handler{}, question(func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }), dns.RcodeFormatError},
		{"EDNS version 1", &dnsproxy.Handler{}, question(func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		{"zone transfer", &dnsproxy.Handler{}, question(func(q *dns.Msg) { q.Question[0].Qtype = dns.TypeAXFR }), dns.RcodeRefused},
		{"type OPT", &dnsproxy.Handler{}, question(func(q *dns.Msg) { q.Question[0].Qtype = dns.TypeOPT }), dns.RcodeFormatError},
		{"no upstream", &dnsproxy.Handler{Resolver: synced}, queryFor("a.example.com."), dns.RcodeRefused},
		{"no upstream configured", &dnsproxy.Handler{Resolver: synced, Upstream: forwarder(t)}, queryFor("a.example.com."), dns.RcodeRefused},
		{"nothing at all", &dnsproxy.Handler{}, queryFor("a.example.com."), dns.RcodeRefused},
		{"no table yet", &dnsproxy.Handler{Resolver: &dnsproxy.Resolver{Names: new(dnsproxy.Names)}, Upstream: broken}, queryFor("a.example.com."), dns.RcodeServerFailure},
		{"upstream fails", &dnsproxy.Handler{Resolver: synced, Upstream: broken}, queryFor("a.example.com."), dns.RcodeServerFailure},
		{"unknown client", &dnsproxy.Handler{Resolver: synced, ViewOf: func(net.Addr) (dnsproxy.View, error) {
			return dnsproxy.View{}, errors.New("who?")
		}}, queryFor("a.example.com."), dns.RcodeServerFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen []dnsproxy.Exchange
			tt.handler.Observe = func(x dnsproxy.Exchange) { seen = append(seen, x) }
			resp := serveOne(tt.handler, "udp", tt.query)
			if resp.Rcode != tt.rcode || resp.Id != tt.query.Id || !resp.Response {
				t.Errorf("response is %v, want %s", resp, dns.RcodeToString[tt.rcode])
			}
			if len(seen) != 1 || seen[0].Rcode != tt.rcode || seen[0].Network != "udp" {
				t.Errorf("observed %+v", seen)
			}
		})
	}
}

func TestForwardBeforeSync(t *testing.T) {
	names := new(dnsproxy.Names)
	upstream := exchangeFunc(func(_ context.Context, q *dns.Msg) (*dns.Msg, error) { return reply(q, 30, "192.0.2.1"), nil })
	h := &dnsproxy.Handler{Resolver: &dnsproxy.Resolver{Names: names}, Upstream: upstream, ForwardBeforeSync: true}
	if got := lines(serveOne(h, "udp", queryFor("api.example.com.")).Answer); !slices.Equal(got, []string{"api.example.com. A 192.0.2.1"}) {
		t.Errorf("before: %v", got)
	}
	names.Store(namesOf(t, meshEntries()...).Load())
	if got := lines(serveOne(h, "udp", queryFor("api.example.com.")).Answer); !slices.Equal(got, []string{"api.example.com. A 240.240.1.1"}) {
		t.Errorf("after: %v", got)
	}
}

func TestResponseSize(t *testing.T) {
	var all []string
	for i := range 250 {
		all = append(all, net.IPv4(10, 0, 0, byte(i)).String())
	}
	resolver := &dnsproxy.Resolver{Names: namesOf(t, dnsproxy.Entry{Host: "many.example.com", Addresses: addrs(all...)})}
	tests := []struct {
		name    string
		network string
		max     int    // of the handler
		offer   uint16 // of the client
		size    int
		cut     bool
	}{
		{"UDP without EDNS", "udp", 0, 0, 512, true},
		{"UDP, small offer", "udp", 0, 100, 512, true},
		{"UDP, 1232", "udp", 0, 1232, 1232, true},
		{"UDP, large offer", "udp", 0, 8192, 8192, false},
		{"UDP, large offer, bounded", "udp", 1400, 8192, 1400, true},
		{"UDP, bounded to nothing", "udp", 1, 8192, 512, true},
		{"TCP without EDNS", "tcp", 0, 0, 65535, false},
		{"TCP, small offer", "tcp", 0, 512, 65535, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := queryFor("many.example.com.")
			if tt.offer != 0 {
				q.SetEdns0(tt.offer, true)
			}
			resp := serveOne(&dnsproxy.Handler{Resolver: resolver, MaxUDPSize: tt.max}, tt.network, q)
			packed, err := resp.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if len(packed) > tt.size || resp.Truncated != tt.cut {
				t.Errorf("%d bytes, truncated %v, want at most %d, %v", len(packed), resp.Truncated, tt.size, tt.cut)
			}
			if tt.cut && len(packed) < tt.size-30 {
				t.Errorf("%d bytes, of %d: there was room for more", len(packed), tt.size)
			}
			opt := resp.IsEdns0()
			if (opt != nil) != (tt.offer != 0) || opt != nil && !opt.Do() {
				t.Errorf("OPT is %v", opt)
			}
		})
	}
}

// TestExtendedErrors: a client with EDNS learns why (RFC 8914).
func TestExtendedErrors(t *testing.T) {
	synced := &dnsproxy.Resolver{Names: namesOf(t)}
	failing := func(err error) *dnsproxy.Handler {
		return &dnsproxy.Handler{Resolver: synced, Upstream: exchangeFunc(func(context.Context, *dns.Msg) (*dns.Msg, error) { return nil, err })}
	}
	tests := []struct {
		name    string
		handler *dnsproxy.Handler
		code    uint16
	}{
		{"no upstream", &dnsproxy.Handler{Resolver: synced}, dns.ExtendedErrorCodeNotAuthoritative},
		{"no table", &dnsproxy.Handler{Resolver: new(dnsproxy.Resolver)}, dns.ExtendedErrorCodeNotReady},
		{"timeout", failing(context.DeadlineExceeded), dns.ExtendedErrorCodeNoReachableAuthority},
		{"network", failing(&dnsproxy.UpstreamError{Errs: []error{errors.New("refused")}}), dns.ExtendedErrorCodeNetworkError},
		{"overloaded", failing(dnsproxy.ErrOverloaded), dns.ExtendedErrorCodeProhibited},
		{"anything", failing(errors.New("broken")), dns.ExtendedErrorCodeOther},
		{"the upstream's own", &dnsproxy.Handler{Upstream: exchangeFunc(func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
			m := rcode(q, dns.RcodeNameError)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "00"}}
			return m, nil
		})}, dns.ExtendedErrorCodeBlocked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := queryFor("a.example.com.")
			q.SetEdns0(1232, false)
			opt := serveOne(tt.handler, "udp", q).IsEdns0()
			if opt == nil || len(opt.Option) != 1 {
				t.Fatalf("OPT is %v, want one option", opt)
			}
			if ede, ok := opt.Option[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != tt.code || ede.ExtraText != "" {
				t.Errorf("option is %v, want the code %d and no text", opt.Option[0], tt.code)
			}
			if plain := serveOne(tt.handler, "udp", queryFor("a.example.com.")); plain.IsEdns0() != nil {
				t.Errorf("a client without EDNS got %v", plain.IsEdns0())
			}
		})
	}
}

// TestObserve: what a program counts.
func TestObserve(t *testing.T) {
	var got []dnsproxy.Exchange
	h := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: namesOf(t, meshEntries()...)},
		View:     dnsproxy.View{Namespace: "app"},
		Upstream: exchangeFunc(func(_ context.Context, q *dns.Msg) (*dns.Msg, error) { return rcode(q, dns.RcodeNameError), nil }),
		Observe:  func(x dnsproxy.Exchange) { got = append(got, x) },
	}
	serveOne(h, "udp", queryFor("reviews."))
	serveOne(h, "tcp", queryFor("nobody."))
	if len(got) != 2 {
		t.Fatalf("observed %d exchanges, want 2", len(got))
	}
	if x := got[0]; x.Source != dnsproxy.FromTable || x.Network != "udp" || x.Rcode != dns.RcodeSuccess || x.View.Namespace != "app" || x.Question.Name != "reviews." {
		t.Errorf("observed %+v", x)
	}
	if x := got[1]; x.Source != dnsproxy.FromUpstream || x.Network != "tcp" || x.Rcode != dns.RcodeNameError {
		t.Errorf("observed %+v", x)
	}
}

// TestLoop: a forwarder that has its own server as an upstream does not go round in circles.
func TestLoop(t *testing.T) {
	pc, l := listen(t)
	f := &dnsproxy.Forwarder{Upstreams: []dnsproxy.Upstream{{Address: l.Addr().String()}}, Attempts: 1}
	var mu sync.Mutex
	var errs []error
	h := &dnsproxy.Handler{Resolver: &dnsproxy.Resolver{Names: namesOf(t)}, Upstream: f, Observe: func(x dnsproxy.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, x.Err)
	}}
	s := &dnsproxy.Server{Handler: h, MaxQueries: 2}
	go s.ServePacket(pc)
	go s.Serve(l)
	defer s.Close()
	defer f.Close()
	resp := ask(t, "udp", l.Addr().String(), "a.example.com.", dns.TypeA)
	if resp.Rcode != dns.RcodeServerFailure {
		t.Errorf("response is %v, want SERVFAIL", resp)
	}
	s.Close()
	if len(errs) != 2 || !errors.Is(errs[0], dnsproxy.ErrLoop) {
		t.Errorf("errors are %v, want ErrLoop, and that of the upstream", errs)
	}
}
