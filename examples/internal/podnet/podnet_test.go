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
	"time"

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

func TestCutResetsAndRestores(t *testing.T) {
	underlay := open(t, podnet.Config{Name: "underlay"})
	n := open(t, podnet.Config{CIDRs: []netip.Prefix{podCIDR}, Parent: underlay})
	for name, tt := range map[string]struct {
		listen string
		cut    *podnet.Network
		flow   podnet.Flow
	}{
		"to a pod":              {"10.1.0.10:80", n, podnet.Flow{To: netip.AddrPortFrom(server, 0)}},
		"from a pod":            {"10.1.0.10:81", n, podnet.Flow{From: netip.AddrPortFrom(client, 0)}},
		"to a gateway, inside":  {"172.18.1.1:82", n, podnet.Flow{To: netip.MustParseAddrPort("172.18.1.1:82")}},
		"to a gateway, outside": {"172.18.1.1:83", underlay, podnet.Flow{To: netip.MustParseAddrPort("172.18.1.1:83")}},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, n, tt.listen)
			dialled, accepted := pair(t, n.Pod(client), l)
			restore := tt.cut.Cut(tt.flow)
			if _, err := accepted.Read(make([]byte, 1)); err == nil {
				t.Error("the server can still read")
			}
			if _, err := dialled.Read(make([]byte, 1)); err == nil {
				t.Error("the client can still read")
			}
			if _, err := n.Pod(client).DialContext(t.Context(), "tcp", tt.listen); !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("a dial while cut: %v", err)
			}
			restore()
			pair(t, n.Pod(client), l)
		})
	}
}

func TestTapSeesBothDirections(t *testing.T) {
	n := open(t, podnet.Config{})
	l := listen(t, n, "10.1.0.10:15008")
	seen := map[string]string{}
	stop := n.Tap(podnet.Flow{From: netip.AddrPortFrom(client, 0)}, func(from, to netip.AddrPort, p []byte) {
		seen[from.Addr().String()+">"+to.Addr().String()] += string(p)
	})
	dialled, accepted := pair(t, n.Pod(client), l)
	io.WriteString(dialled, "question")
	io.WriteString(accepted, "answer")
	io.ReadFull(dialled, make([]byte, len("answer")))
	stop()
	io.WriteString(dialled, "unseen")
	if seen["10.1.0.20>10.1.0.10"] != "question" || seen["10.1.0.10>10.1.0.20"] != "answer" {
		t.Errorf("the tap saw %q", seen)
	}
	if err := dialled.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(accepted); string(got) != "questionunseen" || err != nil {
		t.Errorf("the server got %q, %v", got, err)
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

func TestUDP(t *testing.T) {
	backends(t, func(t *testing.T, open func(podnet.Config) *podnet.Network) {
		underlay := open(podnet.Config{Name: "underlay"})
		n := open(podnet.Config{CIDRs: []netip.Prefix{podCIDR}, Parent: underlay, Masquerade: nodeEast})
		for addr, wantSource := range map[string]string{"10.1.0.10:53": "10.1.0.20", "172.18.1.1:53": "172.18.1.2", "[fd00::1]:53": "172.18.1.2"} {
			server, err := n.ListenPacket(t.Context(), "udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c, err := n.Pod(client).DialContext(t.Context(), "udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "question")
			buf := make([]byte, 100)
			size, from, err := server.ReadFrom(buf)
			if err != nil || string(buf[:size]) != "question" || !strings.HasPrefix(from.String(), wantSource+":") {
				t.Errorf("%s: got %q from %v, %v", addr, buf[:size], from, err)
			}
			if _, err := server.WriteTo([]byte("answer"), from); err != nil {
				t.Error(err)
			}
			if size, err = c.Read(buf); err != nil || string(buf[:size]) != "answer" || c.RemoteAddr().String() != addr {
				t.Errorf("%s: answer %q, %v", addr, buf[:size], err)
			}
			server.Close()
			c.SetReadDeadline(time.Unix(1, 0))
			var timeout net.Error
			if _, err := c.Read(buf); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("a read past its deadline: %v", err)
			}
			if _, err := c.Write(buf); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a write to a socket that is gone: %v", err)
			}
			c.Close()
		}
	})
}

func TestUDPCutDropsDatagrams(t *testing.T) {
	n := open(t, podnet.Config{})
	s, err := n.ListenPacket(t.Context(), "udp", "10.1.0.10:53")
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.Pod(client).DialContext(t.Context(), "udp", "10.1.0.10:53")
	if err != nil {
		t.Fatal(err)
	}
	restore := n.Cut(podnet.Flow{To: netip.MustParseAddrPort("10.1.0.10:53")})
	io.WriteString(c, "lost")
	restore()
	io.WriteString(c, "kept")
	buf := make([]byte, 10)
	if size, _, err := s.ReadFrom(buf); err != nil || string(buf[:size]) != "kept" {
		t.Errorf("received %q, %v", buf[:size], err)
	}
}
