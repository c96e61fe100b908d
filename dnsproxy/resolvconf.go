package dnsproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// ResolvConf is what a resolv.conf says, see resolv.conf(5).
type ResolvConf struct {
	Nameservers []netip.Addr
	Search      []string      // without trailing dots
	Ndots       int           // 1 when not given
	Timeout     time.Duration // of one attempt; 5 s when not given
	Attempts    int           // 2 when not given
	Rotate      bool
	UseTCP      bool     // option use-vc
	Ignored     []string // keywords and options that mean nothing to us
}

// ResolvConfError says what is wrong with a resolv.conf.
type ResolvConfError struct {
	Line int // from 1
	Text string
	Err  error
}

func (e *ResolvConfError) Error() string {
	return fmt.Sprintf("resolv.conf line %d (%q): %v", e.Line, e.Text, e.Err)
}

// Unwrap returns what is wrong with the line.
func (e *ResolvConfError) Unwrap() error { return e.Err }

const (
	maxResolvConf = 64 << 10
	maxNdots      = 15 // as in glibc
	maxTimeout    = 30
	maxAttempts   = 5
)

// LoadResolvConf reads the resolv.conf at path, such as /etc/resolv.conf.
func LoadResolvConf(path string) (ResolvConf, error) {
	f, err := os.Open(path)
	if err != nil {
		return ResolvConf{}, fmt.Errorf("dnsproxy: %w", err)
	}
	defer f.Close()
	c, err := ParseResolvConf(f)
	if err != nil {
		return ResolvConf{}, fmt.Errorf("dnsproxy: %s: %w", path, err)
	}
	return c, nil
}

// ParseResolvConf reads a resolv.conf of at most 64 KiB. Errors of its content
// are [*ResolvConfError]s, joined.
func ParseResolvConf(r io.Reader) (ResolvConf, error) {
	c := ResolvConf{Ndots: 1, Timeout: 5 * time.Second, Attempts: 2}
	var errs []error
	in := bufio.NewScanner(io.LimitReader(r, maxResolvConf+1))
	in.Buffer(nil, maxResolvConf)
	read := 0
	for line := 1; in.Scan(); line++ {
		text := in.Text()
		if read += len(text) + 1; read > maxResolvConf {
			return ResolvConf{}, &ResolvConfError{Line: line, Err: errors.New("the file has more than 64 KiB")}
		}
		if err := c.parseLine(text); err != nil {
			errs = append(errs, &ResolvConfError{Line: line, Text: text, Err: err})
		}
	}
	if err := errors.Join(append(errs, in.Err())...); err != nil {
		return ResolvConf{}, err
	}
	return c, nil
}

func (c *ResolvConf) parseLine(text string) error {
	text, _, _ = strings.Cut(text, "#")
	text, _, _ = strings.Cut(text, ";")
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return nil
	}
	switch args := fields[1:]; fields[0] {
	case "nameserver":
		return c.parseNameserver(args)
	case "search", "domain": // the last of them counts
		return c.parseSearch(args)
	case "options":
		for _, o := range args {
			if err := c.parseOption(o); err != nil {
				return err
			}
		}
	default:
		c.Ignored = append(c.Ignored, fields[0])
	}
	return nil
}

func (c *ResolvConf) parseNameserver(args []string) error {
	if len(args) != 1 {
		return errors.New("nameserver has one address")
	}
	a, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	c.Nameservers = append(c.Nameservers, a)
	return nil
}

func (c *ResolvConf) parseSearch(args []string) error {
	c.Search = nil
	for _, domain := range args {
		if domain = canonical(domain); domain == "" {
			continue // the root: names as they are
		}
		if err := checkName(domain); err != nil {
			return err
		}
		c.Search = append(c.Search, domain)
	}
	return nil
}

func (c *ResolvConf) parseOption(option string) error {
	name, value, _ := strings.Cut(option, ":")
	var err error
	switch name {
	case "ndots":
		c.Ndots, err = parseCapped(value, 0, maxNdots)
	case "timeout":
		var s int
		s, err = parseCapped(value, 1, maxTimeout)
		c.Timeout = time.Duration(s) * time.Second
	case "attempts":
		c.Attempts, err = parseCapped(value, 1, maxAttempts)
	case "rotate":
		c.Rotate = true
	case "use-vc":
		c.UseTCP = true
	default:
		c.Ignored = append(c.Ignored, option)
	}
	if err != nil {
		return fmt.Errorf("option %s: %w", name, err)
	}
	return nil
}

// parseCapped reads a number and, as glibc does, takes too large ones for the largest.
func parseCapped(text string, least, most int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, err
	}
	return min(max(int(n), least), most), nil
}

// Upstreams returns the name servers for a [Forwarder].
func (c ResolvConf) Upstreams() []Upstream {
	var out []Upstream
	for _, a := range c.Nameservers {
		out = append(out, Upstream{Address: net.JoinHostPort(a.String(), "53"), TCP: c.UseTCP})
	}
	return out
}
