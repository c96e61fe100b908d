package ztunnel

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// serves reports whether the proxy serves a pod of namespace app now.
func (w *world) serves(name string) bool {
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	p := w.proxy.pods["east//Pod/app/"+name]
	return p != nil && p.ready.Load()
}

// listens reports whether anybody listens at an address.
func (w *world) listens(address string) bool {
	conn, err := w.network.DialContext(w.ctx, "tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// TestServed are the pods that are ours to serve.
func TestServed(t *testing.T) {
	tests := []struct {
		name   string
		pod    endpoints.Resource
		served bool
	}{
		{"ours", pod1("p", serverIP), true},
		{"of another node", pod2("p", serverIP), false},
		{"of another cluster", pod1("p", serverIP, func(w *endpoints.Workload) { w.Cluster = "west" }), false},
		{"not enrolled", pod1("p", serverIP, func(w *endpoints.Workload) { w.Tunnel = endpoints.TunnelNone }), false},
		{"speaks HBONE by itself", pod1("p", serverIP, func(w *endpoints.Workload) { w.NativeTunnel = true }), false},
		{"on the network of its node", pod1("p", serverIP, func(w *endpoints.Workload) { w.NetworkMode = endpoints.HostNetwork }), false},
		{"without an address yet", pod1("p", serverIP, func(w *endpoints.Workload) { w.Addresses = nil }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.pod)
			if got := w.serves("p"); got != tt.served {
				t.Errorf("served: %t", got)
			}
			for _, port := range []string{"15008", "15080", "15053"} {
				if got := w.listens(net.JoinHostPort(serverIP, port)); got != tt.served {
					t.Errorf("somebody listens on port %s: %t", port, got)
				}
			}
		})
	}
}

func TestComesAndGoes(t *testing.T) {
	w := newWorld(t)
	w.app("app", serverIP+":8080")
	if w.listens(serverIP + ":15008") {
		t.Fatal("served before it was there")
	}
	w.apply(reviewsPod())
	w.awaitReady()
	conn := w.open("client")
	w.remove("east//Pod/app/reviews")
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("its connections go on: %v", err)
	}
	w.await(func() bool { return !w.listens(serverIP + ":15008") })
	w.apply(reviewsPod())
	w.awaitReady()
	w.open("client")
}

func TestChangesAddress(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.apply(pod1("reviews", "10.1.0.41"))
	w.awaitReady()
	w.app("app", "10.1.0.41:8080")
	if w.listens(serverIP + ":15008") {
		t.Error("the old address is still served")
	}
	conn, err := w.knock("client", "10.1.0.41", "10.1.0.41:8080", id("reviews"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestChangesIdentity(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.app("app", serverIP+":8080")
	conn := w.open("client")
	w.apply(reviewsPod(func(w *endpoints.Workload) { w.ServiceAccount = "promoted" }))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("connections of the old identity go on: %v", err)
	}
	w.awaitReady()
	after, err := w.knock("client", serverIP, serverIP+":8080", id("promoted"))
	if err != nil {
		t.Fatal(err)
	}
	after.Close()
}

// TestTakesOver gives a pod the address of one that goes with the same update.
func TestTakesOver(t *testing.T) {
	w := newWorld(t, pod1("old", serverIP))
	w.send(addressUpdate(w, []string{"east//Pod/app/old"}, pod1("new", serverIP)))
	w.awaitReady()
	if !w.serves("new") || w.serves("old") {
		t.Error("the new pod is not served in place of the old one")
	}
}

// TestUnrelatedChange leaves connections alone.
func TestUnrelatedChange(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.app("app", serverIP+":8080")
	conn := w.open("client")
	w.apply(reviewsPod(func(w *endpoints.Workload) { w.CanonicalRevision = "v2" }), pod2("other", "10.1.0.50"))
	w.awaitReady()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := readName(conn); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestCertificateLate waits for one pod's certificate while all else goes on:
// other pods are served, and policies are enforced.
func TestCertificateLate(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.app("app", serverIP+":8080")
	conn := w.open("client")
	back := w.certs.leave(id("late"))
	w.apply(pod1("late", "10.1.0.41"), pod1("next", "10.1.0.42"))
	w.await(func() bool { return w.serves("next") })
	if w.serves("late") || w.proxy.Ready() {
		t.Error("a pod is served without a certificate")
	}
	w.policies(inNamespace(selected("q", wds.ActionDeny, "client")))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a policy waits for the certificate: %v", err)
	}
	back()
	w.awaitReady()
}

// TestGoneWhileWaiting gives up a pod whose certificate never comes.
func TestGoneWhileWaiting(t *testing.T) {
	w := newWorld(t)
	back := w.certs.leave(id("late"))
	defer back()
	w.apply(pod1("late", "10.1.0.41"))
	w.await(func() bool {
		w.proxy.mu.Lock()
		defer w.proxy.mu.Unlock()
		return len(w.proxy.pods) == 1
	})
	w.remove("east//Pod/app/late")
	w.awaitReady()
}

// TestPortTaken serves a pod once somebody else has left its port.
func TestPortTaken(t *testing.T) {
	w := newWorld(t)
	squatter := w.listen(serverIP + ":15053")
	w.apply(reviewsPod(), client())
	w.await(func() bool { return w.serves("client") })
	if w.serves("reviews") {
		t.Fatal("served without its port")
	}
	squatter.Close()
	w.awaitReady()
}

// TestNotKnown opens nothing as long as some addresses may be missing: they
// would be taken for the outside, and reached in plain text.
func TestNotKnown(t *testing.T) {
	w := newClosedWorld(t, Config{})
	w.policies()
	w.state.Complete(wds.AuthorizationTypeURL)
	w.apply(client())
	if w.proxy.Ready() || w.serves("client") || w.proxy.names.Load() != nil {
		t.Error("it serves what it does not know")
	}
	w.state.Complete(wds.AddressTypeURL)
	w.awaitReady()
	if !w.serves("client") {
		t.Error("it does not serve what it knows")
	}
}

func TestCloseTunnels(t *testing.T) {
	w := newWorld(t, client(), pod2("reviews", "10.1.0.10"))
	w.peer("reviews", "10.1.0.10:15008", "reviews", http.StatusOK)
	handshakes := func() uint64 { return w.proxy.Tunnels()[0].Handshakes }
	for range 3 {
		w.mustAsk("10.1.0.10:8080")
	}
	if got := handshakes(); got != 1 {
		t.Errorf("%d handshakes for three connections", got)
	}
	conn, err := w.dialFrom(clientIP, "10.1.0.10:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := readName(conn); err != nil {
		t.Fatal(err)
	}
	if err := w.proxy.CloseTunnels(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("its connections: %v", err)
	}
	w.mustAsk("10.1.0.10:8080")
	if got := handshakes(); got != 1 {
		t.Errorf("%d handshakes afterwards", got)
	}
}

// TestEnds closes the connections of both directions.
func TestEnds(t *testing.T) {
	w := newWorld(t, client(), reviewsPod())
	w.app("app", serverIP+":8080")
	conn, err := w.dialFrom(clientIP, serverIP+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := readName(conn); err != nil {
		t.Fatal(err)
	}
	w.remove("east//Pod/app/client", "east//Pod/app/reviews")
	w.awaitReady()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	if n := len(w.proxy.Tunnels()); n != 0 {
		t.Errorf("tunnels at %d depths are left", n)
	}
}
