package podnet_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

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

func TestPodListensByPortAlone(t *testing.T) {
	n := open(t, podnet.Config{})
	c, err := n.Pod(server).ListenPacket(t.Context(), "udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.LocalAddr().String(); got != "10.1.0.10:53" {
		t.Errorf("listens on %s", got)
	}
	if _, err := c.WriteTo(make([]byte, 70000), c.LocalAddr()); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("a datagram that is too large: %v", err)
	}
}
