package hbone

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

var authorities = []struct {
	authority string
	ok        bool
}{
	{"10.1.0.10:8080", true},
	{"[2001:db8::10]:8080", true},
	{"[::ffff:10.1.0.10]:1", true},
	{"reviews.app.svc.cluster.local:80", true},
	{"Reviews.App:65535", true},
	{"*.example.com:443", true},
	{"under_score:80", true},
	{"", false},
	{":", false},
	{"reviews", false},
	{"reviews:", false},
	{":80", false},
	{"reviews:http", false},
	{"reviews:0", false},
	{"reviews:-1", false},
	{"reviews:+80", false},
	{"reviews:65536", false},
	{"reviews:80:80", false},
	{"2001:db8::10:8080", false},
	{"[2001:db8::10]", false},
	{"[2001:db8::10", false},
	{"[10.1.0.10]:80", false},
	{"[reviews]:80", false},
	{"[fe80::1%eth0]:80", false},
	{"user@reviews:80", false},
	{"https://reviews:80", false},
	{"reviews:80/", false},
	{"a/b:80", false},
	{" reviews:80", false},
	{"reviews :80", false},
	{"a\r\nb:80", false},
	{"b\u00fccher:80", false},
	{"a%20b:80", false},
	{strings.Repeat("a", 256) + ":80", false},
}

func TestCheckAuthority(t *testing.T) {
	for _, tt := range authorities {
		if err := checkAuthority(tt.authority); (err == nil) != tt.ok {
			t.Errorf("%q: %v, want it to be accepted: %v", tt.authority, err, tt.ok)
		}
	}
}

// FuzzAuthority: what is accepted means the same to other parsers, and can be
// put together again from its parts.
func FuzzAuthority(f *testing.F) {
	for _, tt := range authorities {
		f.Add(tt.authority)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		if checkAuthority(authority) != nil {
			return
		}
		host, port, err := net.SplitHostPort(authority)
		if err != nil || net.JoinHostPort(host, port) != authority {
			t.Fatalf("%q splits into %q and %q, %v", authority, host, port, err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			t.Errorf("%q: port %q", authority, port)
		}
		u, err := url.Parse("//" + authority + "/path")
		if err != nil || u.Host != authority || u.Hostname() != host || u.Port() != port || u.User != nil || u.Path != "/path" {
			t.Errorf("%q is %+v to a URL, %v", authority, u, err)
		}
		if ap, err := netip.ParseAddrPort(authority); err == nil && ap.Addr() != netip.MustParseAddr(host) {
			t.Errorf("%q is %v", authority, ap)
		}
	})
}
