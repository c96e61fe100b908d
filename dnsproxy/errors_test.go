package dnsproxy_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// TestErrorTexts: an error says what it is about.
func TestErrorTexts(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		err   error
		names []string
	}{
		{&dnsproxy.EntryError{Key: dnsproxy.Key{Namespace: "app", Host: "a.example.com"}, Field: "Pods[1].Name", Err: cause}, []string{"app", "a.example.com", "Pods[1].Name", "cause"}},
		{&dnsproxy.UpstreamError{Question: dns.Question{Name: "a.example.com.", Qtype: dns.TypeAAAA}, Errs: []error{cause}}, []string{"a.example.com.", "AAAA", "cause"}},
		{&dnsproxy.RcodeError{Upstream: "10.0.0.1:53", Rcode: dns.RcodeRefused}, []string{"10.0.0.1:53", "REFUSED"}},
		{&dnsproxy.ResolvConfError{Line: 7, Text: "nameserver x", Err: cause}, []string{"line 7", "nameserver x", "cause"}},
		{&dnsproxy.FileError{Path: "vips.json", Err: cause}, []string{"vips.json", "cause"}},
		{&dnsproxy.ExhaustedError{Host: "a.example.com", Prefix: netip.MustParsePrefix("240.240.0.0/16"), InUse: 3, Quarantined: 4}, []string{"a.example.com", "240.240.0.0/16", "3", "4"}},
		{&dnsproxy.TakenError{Host: "a.example.com", Owner: "b.example.com", Addr: netip.MustParseAddr("240.240.0.1")}, []string{"a.example.com", "b.example.com", "240.240.0.1"}},
	}
	for _, tt := range tests {
		for _, name := range tt.names {
			if !strings.Contains(tt.err.Error(), name) {
				t.Errorf("%T does not say %q: %v", tt.err, name, tt.err)
			}
		}
		if strings.Contains(tt.err.Error(), cause.Error()) && !errors.Is(tt.err, cause) {
			t.Errorf("%T does not unwrap to its cause", tt.err)
		}
	}
}

// TestHandlerLogs: an operator learns who was not answered, and why.
func TestHandlerLogs(t *testing.T) {
	var out bytes.Buffer
	h := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: namesOf(t)},
		Logger:   slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	serveOne(h, "udp", queryFor("a.example.com."))
	for _, want := range []string{"client=127.0.0.1:5", "question=a.example.com.", "type=A", "rcode=REFUSED", "no upstream"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log does not say %q: %s", want, out.String())
		}
	}
}
