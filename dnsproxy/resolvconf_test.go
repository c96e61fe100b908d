package dnsproxy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

const podResolvConf = `# written by the kubelet
search ns1.svc.cluster.local svc.cluster.local. cluster.local
nameserver 10.96.0.10 ; the cluster's
nameserver fd00::10
options ndots:5 timeout:3 attempts:9 rotate use-vc edns0
sortlist 130.155.160.0/255.255.240.0
`

func TestParseResolvConf(t *testing.T) {
	type result struct {
		Servers, Search []string
		Ndots, Attempts int
		Timeout         time.Duration
		Rotate, UseTCP  bool
		Ignored         []string
	}
	tests := []struct {
		name, text string
		want       result
	}{
		{"empty", "", result{Ndots: 1, Attempts: 2, Timeout: 5 * time.Second}},
		{"pod", podResolvConf, result{
			Servers: []string{"10.96.0.10", "fd00::10"}, Search: []string{"ns1.svc.cluster.local", "svc.cluster.local", "cluster.local"},
			Ndots: 5, Attempts: 5, Timeout: 3 * time.Second, Rotate: true, UseTCP: true, Ignored: []string{"edns0", "sortlist"},
		}},
		{"the last search counts", "domain a.example\nsearch b.example c.example\nsearch .\n", result{Ndots: 1, Attempts: 2, Timeout: 5 * time.Second}},
		{"zone and line ends", "nameserver fe80::1%eth0\r\ndomain corp.example\r\n", result{
			Servers: []string{"fe80::1%eth0"}, Search: []string{"corp.example"}, Ndots: 1, Attempts: 2, Timeout: 5 * time.Second,
		}},
		{"too large numbers", "options ndots:99 timeout:9999", result{Ndots: 15, Attempts: 2, Timeout: 30 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := dnsproxy.ParseResolvConf(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			got := result{Search: c.Search, Ndots: c.Ndots, Attempts: c.Attempts, Timeout: c.Timeout, Rotate: c.Rotate, UseTCP: c.UseTCP, Ignored: c.Ignored}
			for _, a := range c.Nameservers {
				got.Servers = append(got.Servers, a.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolvConfErrors(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
	}{
		{"no address", "\nnameserver", 2},
		{"not an address", "nameserver dns.example", 1},
		{"two addresses", "nameserver 10.0.0.1 10.0.0.2", 1},
		{"not a domain", "# comment\nsearch a..b", 2},
		{"no number", "options ndots:many", 1},
		{"negative number", "options attempts:-1", 1},
		{"too long", strings.Repeat("\n", 70<<10), 64<<10 + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dnsproxy.ParseResolvConf(strings.NewReader(tt.text))
			var got *dnsproxy.ResolvConfError
			if !errors.As(err, &got) || got.Line != tt.line {
				t.Errorf("error is %v, want a *ResolvConfError of line %d", err, tt.line)
			}
		})
	}
	t.Run("a line without end", func(t *testing.T) {
		if _, err := dnsproxy.ParseResolvConf(strings.NewReader(strings.Repeat("a", 70<<10))); err == nil {
			t.Error("no error")
		}
	})
}

func TestLoadResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if _, err := dnsproxy.LoadResolvConf(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte(podResolvConf), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := dnsproxy.LoadResolvConf(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []dnsproxy.Upstream{{Address: "10.96.0.10:53", TCP: true}, {Address: "[fd00::10]:53", TCP: true}}
	if got := c.Upstreams(); !slices.Equal(got, want) {
		t.Errorf("upstreams are %v, want %v", got, want)
	}
	if err := os.WriteFile(path, []byte("nameserver nobody"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dnsproxy.LoadResolvConf(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name the file", err)
	}
}

// FuzzResolvConf: whatever parses can be used.
func FuzzResolvConf(f *testing.F) {
	f.Add(podResolvConf)
	f.Add("nameserver ::ffff:10.0.0.1\noptions ndots: timeout")
	f.Add("search \xff")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := dnsproxy.ParseResolvConf(strings.NewReader(text))
		if err != nil {
			return
		}
		if c.Ndots < 0 || c.Timeout <= 0 || c.Attempts <= 0 || len(c.Upstreams()) != len(c.Nameservers) {
			t.Errorf("%q is %+v", text, c)
		}
		names := namesOf(t, meshEntries()...)
		names.Load().Lookup(dnsproxy.View{Search: c.Search}, "api.example.com.a.b")
	})
}
