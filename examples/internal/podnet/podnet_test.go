package podnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	podCIDR  = netip.MustParsePrefix("10.1.0.0/24")
	client   = netip.MustParseAddr("10.1.0.20")
	server   = netip.MustParseAddr("10.1.0.10")
	nodeEast = netip.MustParseAddr("172.18.1.2")
)

// backends runs a test over every way to keep a network.
func backends(t *testing.T, test func(t *testing.T, open func(podnet.Config) *podnet.Network)) {
	for name, dir := range map[string]func(*testing.T) string{
		"memory":    func(*testing.T) string { return "" },
		"directory": func(t *testing.T) string { return t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(c podnet.Config) *podnet.Network {
				if c.Dir == "" {
					c.Dir = dir(t)
				}
				return open(t, c)
			})
		})
	}
}

func open(t *testing.T, c podnet.Config) *podnet.Network {
	t.Helper()
	n, err := podnet.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func listen(t *testing.T, n *podnet.Network, addr string) net.Listener {
	t.Helper()
	l, err := n.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pair connects a client pod to a listener.
func pair(t *testing.T, from *podnet.Pod, l net.Listener) (dialled, accepted net.Conn) {
	t.Helper()
	dialled, err := from.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

func answer(t *testing.T, l net.Listener, text string) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text)
			c.Close()
		}
	}()
}

func ask(t *testing.T, n *podnet.Network, addr string) string {
	t.Helper()
	c, err := n.Pod(client).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTwoNetworksWithTheSameAddresses(t *testing.T) {
	backends(t, func(t *testing.T, open func(podnet.Config) *podnet.Network) {
		underlay := open(podnet.Config{Name: "underlay", CIDRs: []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}})
		for _, name := range []string{"east", "west"} {
			n := open(podnet.Config{Name: name, CIDRs: []netip.Prefix{podCIDR}, Parent: underlay})
			answer(t, listen(t, n, "10.1.0.10:8080"), name)
			if name == "west" {
				answer(t, listen(t, n, "172.18.2.100:15008"), "west gateway")
			}
			defer func() {
				if got := ask(t, n, "10.1.0.10:8080"); got != name {
					t.Errorf("10.1.0.10 in %s answered %q", name, got)
				}
				if got := ask(t, n, "172.18.2.100:15008"); got != "west gateway" {
					t.Errorf("the gateway answered %q in %s", got, name)
				}
			}()
		}
	})
}

func TestAddresses(t *testing.T) {
	underlay := open(t, podnet.Config{Name: "underlay"})
	n := open(t, podnet.Config{CIDRs: []netip.Prefix{podCIDR}, Parent: underlay, Masquerade: nodeEast})
	dialled, accepted := pair(t, n.Pod(client), listen(t, n, "10.1.0.10:8080"))
	if got := dialled.RemoteAddr().String(); got != "10.1.0.10:8080" {
		t.Errorf("the client sees %s", got)
	}
	if got := accepted.LocalAddr().String(); got != "10.1.0.10:8080" {
		t.Errorf("the server is %s", got)
	}
	if got, want := accepted.RemoteAddr().String(), dialled.LocalAddr().String(); got != want || !strings.HasPrefix(got, "10.1.0.20:") {
		t.Errorf("the server sees %s, the client is %s", got, want)
	}
	dialled, accepted = pair(t, n.Pod(client), listen(t, n, "172.18.1.100:15008"))
	if !strings.HasPrefix(accepted.RemoteAddr().String(), "172.18.1.2:") || !strings.HasPrefix(dialled.LocalAddr().String(), "10.1.0.20:") {
		t.Errorf("over the underlay: %s to %s", dialled.LocalAddr(), accepted.RemoteAddr())
	}
	l, err := n.Pod(server).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !strings.HasPrefix(l.Addr().String(), "10.1.0.10:") || strings.HasSuffix(l.Addr().String(), ":0") {
		t.Errorf("port 0 gave %s", l.Addr())
	}
}

func TestHalfCloseAndRawAccess(t *testing.T) {
	n := open(t, podnet.Config{})
	dialled, accepted := pair(t, n.Pod(client), listen(t, n, "10.1.0.10:8080"))
	go func() {
		request, _ := io.ReadAll(accepted)
		accepted.Write(append([]byte("got "), request...))
		accepted.Close()
	}()
	io.WriteString(dialled, "all")
	if err := dialled.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if reply, err := io.ReadAll(dialled); string(reply) != "got all" || err != nil {
		t.Errorf("reply %q, %v", reply, err)
	}
	if _, err := dialled.(syscall.Conn).SyscallConn(); err != nil {
		t.Error(err)
	}
}

func TestCopyBetweenConns(t *testing.T) {
	n := open(t, podnet.Config{})
	a, relayIn := pair(t, n.Pod(client), listen(t, n, "10.1.0.10:1"))
	relayOut, b := pair(t, n.Pod(client), listen(t, n, "10.1.0.10:2"))
	go func() {
		io.Copy(relayOut, relayIn)
		relayOut.Close()
	}()
	go func() {
		io.WriteString(a, strings.Repeat("x", 1<<20))
		a.Close()
	}()
	if got, err := io.Copy(io.Discard, b); got != 1<<20 || err != nil {
		t.Errorf("%d bytes arrived, %v", got, err)
	}
}

func TestDialErrors(t *testing.T) {
	backends(t, func(t *testing.T, open func(podnet.Config) *podnet.Network) {
		n := open(podnet.Config{CIDRs: []netip.Prefix{podCIDR}})
		l := listen(t, n, "10.1.0.10:8080")
		gone := listen(t, n, "10.1.0.11:8080")
		gone.Close()
		cut := n.Cut(podnet.Flow{To: netip.MustParseAddrPort("10.1.0.10:8080")})
		defer cut()
		for name, tt := range map[string]struct {
			network, addr string
			want          error
		}{
			"no listener":       {"tcp", "10.1.0.10:9", syscall.ECONNREFUSED},
			"listener gone":     {"tcp", gone.Addr().String(), syscall.ECONNREFUSED},
			"udp, no listener":  {"udp", "10.1.0.10:53", syscall.ECONNREFUSED},
			"other network":     {"tcp", "192.0.2.1:80", syscall.ENETUNREACH},
			"cut":               {"tcp", l.Addr().String(), syscall.EHOSTUNREACH},
			"a name":            {"tcp", "reviews:80", &net.AddrError{}},
			"wrong family":      {"tcp6", "10.1.0.10:8080", &net.AddrError{}},
			"unknown transport": {"sctp", "10.1.0.10:8080", net.UnknownNetworkError("sctp")},
		} {
			_, err := n.Pod(client).DialContext(t.Context(), tt.network, tt.addr)
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || op.Addr.String() != tt.addr {
				t.Errorf("%s: %v is not a *net.OpError of the address", name, err)
			}
			if address := new(net.AddrError); errors.As(tt.want, &address) {
				if !errors.As(err, &address) {
					t.Errorf("%s: %v, want an *net.AddrError", name, err)
				}
			} else if !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
	})
}

func TestListenErrors(t *testing.T) {
	backends(t, func(t *testing.T, open func(podnet.Config) *podnet.Network) {
		n := open(podnet.Config{CIDRs: []netip.Prefix{podCIDR}})
		l := listen(t, n, "10.1.0.10:8080")
		for addr, want := range map[string]error{"10.1.0.10:8080": syscall.EADDRINUSE, "192.0.2.1:80": syscall.EADDRNOTAVAIL} {
			if _, err := n.Listen(t.Context(), "tcp", addr); !errors.Is(err, want) {
				t.Errorf("listening on %s: %v, want %v", addr, err, want)
			}
		}
		if _, err := n.Listen(t.Context(), "udp", "10.1.0.10:1"); !errors.Is(err, net.UnknownNetworkError("udp")) {
			t.Errorf("Listen for udp: %v", err)
		}
		l.Close()
		if err := l.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept of a closed listener: %v", err)
		}
		listen(t, n, "10.1.0.10:8080")
	})
}

func TestDialHonoursContext(t *testing.T) {
	n := open(t, podnet.Config{})
	l := listen(t, n, "10.1.0.10:8080")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.DialContext(ctx, "tcp", l.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled dial: %v", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	n, err := podnet.New(podnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, n, "10.1.0.10:8080")
	dialled, _ := pair(t, n.Pod(client), l)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := dialled.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	if _, err := n.Listen(t.Context(), "tcp", "10.1.0.10:8080"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close: %v", err)
	}
}

func TestReadFromAnotherConn(t *testing.T) {
	n := open(t, podnet.Config{Name: "east"})
	a, from := pair(t, n.Pod(client), listen(t, n, "10.1.0.10:1"))
	to, b := pair(t, n.Pod(client), listen(t, n, "10.1.0.10:2"))
	io.WriteString(a, "payload")
	a.Close()
	if size, err := to.(io.ReaderFrom).ReadFrom(from); size != 7 || err != nil {
		t.Errorf("%d bytes, %v", size, err)
	}
	to.Close()
	if got, err := io.ReadAll(b); string(got) != "payload" || err != nil {
		t.Errorf("received %q, %v", got, err)
	}
	if n.Name() != "east" || n.Pod(client).IP() != client {
		t.Errorf("%s, %s", n.Name(), n.Pod(client).IP())
	}
}

// Closing a listener resets what it has not accepted, and waits for no client
// that says nothing.
func TestCloseWithPendingConnections(t *testing.T) {
	n := open(t, podnet.Config{})
	l := listen(t, n, "10.1.0.10:8080")
	waiting, err := n.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a connection that was never accepted ends with %v", err)
	}
	waiting.Close()
}

func TestBadConfig(t *testing.T) {
	parent := open(t, podnet.Config{})
	for name, c := range map[string]podnet.Config{
		"a parent without CIDRs": {Parent: parent},
		"an invalid CIDR":        {CIDRs: []netip.Prefix{{}}},
		"a file for a directory": {Dir: "podnet_test.go"},
	} {
		if _, err := podnet.New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
