package dnsproxy

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// ResolvConf is what a resolv.conf says.
type ResolvConf struct {
	Nameservers []netip.Addr
	Search      []string
	Ndots       int           // 1 when not given
	Timeout     time.Duration // of one attempt; 5 s when not given
	Attempts    int           // 2 when not given
	Rotate      bool
	UseTCP      bool
	Ignored     []string // lines and options that mean nothing to us
}

// ResolvConfError says what is wrong with a resolv.conf.
type ResolvConfError struct {
	Line int // from 1
	Text string
	Err  error
}

func (e *ResolvConfError) Error() string {
	return fmt.Sprintf("dnsproxy: resolv.conf line %d (%q): %v", e.Line, e.Text, e.Err)
}

func (e *ResolvConfError) Unwrap() error { return e.Err }

// ParseResolvConf reads a resolv.conf, at most 64 KiB.
func ParseResolvConf(r io.Reader) (ResolvConf, error) { return ResolvConf{}, nil }

// LoadResolvConf reads the resolv.conf at path.
func LoadResolvConf(path string) (ResolvConf, error) { return ResolvConf{}, nil }

// Upstreams returns the name servers as upstreams, on port 53.
func (c ResolvConf) Upstreams() []Upstream { return nil }
