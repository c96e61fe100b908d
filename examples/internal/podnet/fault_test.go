package podnet_test

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

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
