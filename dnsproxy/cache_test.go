package dnsproxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

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
