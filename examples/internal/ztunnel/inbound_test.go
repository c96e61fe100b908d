package ztunnel

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

const serverIP = "10.1.0.40"

// reviewsPod is a pod that the proxy serves and that backs reviews.
func reviewsPod(change ...func(*endpoints.Workload)) endpoints.Resource {
	return pod1("reviews", serverIP, append(change, backs(reviews, 8081))...)
}

// TestAuthority holds what a CONNECT may ask for, and the status of what it may
// not, against ztunnel's.
func TestAuthority(t *testing.T) {
	w := newWorld(t, reviewsPod(), service(reviews, "10.96.0.1", func(s *endpoints.Service) {
		s.Ports = append(s.Ports, endpoints.Port{ServicePort: 81, TargetPort: 8080}, endpoints.Port{ServicePort: 82}, endpoints.Port{ServicePort: 83, TargetPort: 15008})
	}), service("ratings.app.svc.cluster.local", "10.96.0.2"), endpoints.Resource{Service: &endpoints.Service{
		Name: "reviews", Namespace: "another", Hostname: reviews, Ports: []endpoints.Port{{ServicePort: 90, TargetPort: 8080}},
	}})
	w.app("8080", serverIP+":8080")
	w.app("8081", serverIP+":8081")
	tests := []struct {
		name, authority string
		answer          string
		status          int
	}{
		{"own address", serverIP + ":8080", "8080", 200},
		{"own address, mapped into IPv6", "[::ffff:" + serverIP + "]:8080", "8080", 200},
		{"a service, by the pod's port for it", reviews + ":80", "8081", 200},
		{"a service, by its own target port", reviews + ":81", "8080", 200},
		{"a service's port that has no target", reviews + ":82", "", 503},
		{"a service's port that leads to the proxy", reviews + ":83", "", 503},
		{"a port that the service has not", reviews + ":90", "", 503},
		{"a service that the pod does not back", "ratings.app.svc.cluster.local:80", "", 503},
		{"a service that nobody has", "nobody.example:80", "", 503},
		{"another pod's address", "10.1.0.41:8080", "", 400},
		{"a service's address", "10.96.0.1:80", "", 400},
		{"nobody listens", serverIP + ":9999", "", 503},
		{"HBONE", serverIP + ":15008", "", 503},
		{"SOCKS5", serverIP + ":15080", "", 503},
		{"DNS", serverIP + ":15053", "", 503},
		{"captured outbound", serverIP + ":15001", "", 503},
		{"captured inbound", serverIP + ":15006", "", 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := w.knock("client", serverIP, tt.authority, id("reviews"))
			if tt.status != http.StatusOK {
				if got := statusIn(err); got != tt.status {
					t.Fatalf("%v; want status %d", err, tt.status)
				}
				if e := w.event(Inbound); e.Status != tt.status || e.Err == nil || e.Authority != tt.authority || e.Peer != id("client").String() {
					t.Errorf("observed %+v", e)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got, err := readName(conn); got != tt.answer || err != nil {
				t.Errorf("%q answers, %v; want %s", got, err, tt.answer)
			}
			if got := conn.Header().Get("baggage"); !strings.HasPrefix(got, "k8s.cluster.name=east,k8s.namespace.name=app,k8s.deployment.name=reviews,") {
				t.Errorf("baggage %s", got)
			}
			if got := conn.Header().Get(hbone.HeaderBackend); got != "east//Pod/app/reviews" {
				t.Errorf("backend %s", got)
			}
			if e := w.event(Inbound); e.Status != 200 || e.Err != nil || e.Workload != "east//Pod/app/reviews" {
				t.Errorf("observed %+v", e)
			}
		})
	}
}

// TestMalformedAuthority are those that our own Transport would not send.
func TestMalformedAuthority(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.proxy.mu.Lock()
	p := w.proxy.pods["east//Pod/app/reviews"]
	w.proxy.mu.Unlock()
	for _, authority := range []string{"", serverIP, ":8080", serverIP + ":", serverIP + ":http", serverIP + ":0", serverIP + ":65536", serverIP + ":+80", "2001:db8::40:8080"} {
		if _, err := p.application(authority, addr(serverIP)); statusOf(err) != http.StatusBadRequest {
			t.Errorf("%q: %v", authority, err)
		}
	}
}

// TestStrangers are not let in at all.
func TestStrangers(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.app("app", serverIP+":8080")
	foreign, err := identity.NewCA(identity.CAConfig{TrustDomain: spiffeid.RequireTrustDomainFromString("elsewhere.example")})
	if err != nil {
		t.Fatal(err)
	}
	source, err := foreign.Source(spiffeid.RequireFromString("spiffe://elsewhere.example/ns/app/sa/client"), 0)
	if err != nil {
		t.Fatal(err)
	}
	source.SetBundle(w.ca.Bundle())
	creds, err := identity.NewClient(identity.Config{Source: source, Peers: identity.Peers{IDs: []spiffeid.ID{id("reviews")}}})
	if err != nil {
		t.Fatal(err)
	}
	transport := &hbone.Transport{DialContext: w.network.DialContext}
	defer transport.Close()
	path := hbone.Path{Hops: []hbone.Hop{{Address: serverIP + ":15008", Authority: serverIP + ":8080", TLS: creds}}}
	if _, err := transport.Dial(t.Context(), path); err == nil {
		t.Error("a member of another trust domain was let in")
	}
	if e := w.event(Inbound); e.Err == nil || e.Status != 0 || e.Workload != "east//Pod/app/reviews" {
		t.Errorf("observed %+v", e)
	}
	path.Hops[0].TLS = hbone.Plaintext{}
	if _, err := transport.Dial(t.Context(), path); err == nil {
		t.Error("plain text was let in")
	}
	if e := w.event(Inbound); e.Err == nil {
		t.Errorf("observed %+v", e)
	}
}

// TestHalfClose passes on that the client has said all, and then what is left.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, reviewsPod())
	w.app("app", serverIP+":8080")
	conn, err := w.knock("client", serverIP, serverIP+":8080", id("reviews"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "app\nping" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestDualStack serves each address of a pod; an authority must be the address
// that was dialled.
func TestDualStack(t *testing.T) {
	w := newWorld(t, pod1("reviews", serverIP, func(w *endpoints.Workload) { w.Addresses = append(w.Addresses, addr("2001:db8::40")) }))
	w.app("four", serverIP+":8080")
	w.app("six", "[2001:db8::40]:8080")
	for dialled, want := range map[string]string{serverIP: "four", "2001:db8::40": "six"} {
		conn, err := w.knock("client", dialled, net.JoinHostPort(dialled, "8080"), id("reviews"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got, err := readName(conn); got != want || err != nil {
			t.Errorf("%q answers at %s, %v", got, dialled, err)
		}
	}
	if _, err := w.knock("client", serverIP, "[2001:db8::40]:8080", id("reviews")); statusIn(err) != http.StatusBadRequest {
		t.Errorf("the other address: %v", err)
	}
}

// TestApplicationTunnel is not spoken, so nothing is sent in its place.
func TestApplicationTunnel(t *testing.T) {
	w := newWorld(t, reviewsPod(func(w *endpoints.Workload) {
		w.ApplicationTunnel = &endpoints.ApplicationTunnel{Protocol: endpoints.AppTunnelPROXY, Port: 15088}
	}))
	if _, err := w.knock("client", serverIP, serverIP+":8080", id("reviews")); statusIn(err) != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
}

func selected(name string, action wds.PolicyAction, from ...string) *wds.Authorization {
	a := &wds.Authorization{Namespace: "app", Name: name, Scope: wds.ScopeWorkload, Action: action}
	for _, account := range from {
		a.Groups = append(a.Groups, wds.Group{Rules: []wds.Rule{{Matches: []wds.Match{{
			Principals: []wds.StringMatch{{Value: strings.TrimPrefix(id(account).String(), "spiffe://")}},
		}}}}})
	}
	return a
}

func inNamespace(a *wds.Authorization) *wds.Authorization {
	a.Scope = wds.ScopeNamespace
	return a
}

func naming(policies ...string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.AuthorizationPolicies = policies }
}

// TestPolicies decides by identity, with ztunnel's status.
func TestPolicies(t *testing.T) {
	tests := []struct {
		name     string
		pod      endpoints.Resource
		policies []*wds.Authorization
		status   int
	}{
		{"none", reviewsPod(), nil, 200},
		{"allowed", reviewsPod(naming("app/p")), []*wds.Authorization{selected("p", wds.ActionAllow, "client")}, 200},
		{"another is allowed", reviewsPod(naming("app/p")), []*wds.Authorization{selected("p", wds.ActionAllow, "other")}, 401},
		{"denied", reviewsPod(naming("app/p")), []*wds.Authorization{selected("p", wds.ActionDeny, "client")}, 401},
		{"denied in the namespace", reviewsPod(), []*wds.Authorization{inNamespace(selected("p", wds.ActionDeny, "client"))}, 401},
		{"of another workload", reviewsPod(), []*wds.Authorization{selected("p", wds.ActionDeny, "client")}, 200},
		{"named, and not there", reviewsPod(naming("app/missing")), nil, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.pod)
			w.policies(tt.policies...)
			w.app("app", serverIP+":8080")
			conn, err := w.knock("client", serverIP, serverIP+":8080", id("reviews"))
			if err == nil {
				defer conn.Close()
			}
			if got := statusIn(err); got != tt.status && (err != nil || tt.status != 200) {
				t.Errorf("got %v, want status %d", err, tt.status)
			}
		})
	}
}

// TestUnknownPolicies closes everything until all policies are known; a mesh
// without any opens as soon as that is known.
func TestUnknownPolicies(t *testing.T) {
	w := newClosedWorld(t, Config{})
	w.app("app", serverIP+":8080")
	w.apply(reviewsPod())
	w.state.Complete(wds.AddressTypeURL)
	w.await(func() bool { return w.serves("reviews") })
	knock := func() error {
		conn, err := w.knock("client", serverIP, serverIP+":8080", id("reviews"))
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := knock(); statusIn(err) != http.StatusServiceUnavailable {
		t.Errorf("before any policy: %v", err)
	}
	w.policies(selected("p", wds.ActionAllow, "client"))
	if err := knock(); statusIn(err) != http.StatusServiceUnavailable || w.proxy.Ready() {
		t.Errorf("before all policies: %v, ready %t", err, w.proxy.Ready())
	}
	w.state.Complete(wds.AuthorizationTypeURL)
	if err := knock(); err != nil {
		t.Errorf("when all are known: %v", err)
	}
	w.awaitReady()
}

// TestPolicyChange ends the connections that would be refused now, and only
// those.
func TestPolicyChange(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world)
	}{
		{"a policy comes", func(w *world) { w.policies(inNamespace(selected("q", wds.ActionDeny, "client"))) }},
		{"a policy changes", func(w *world) { w.policies(selected("p", wds.ActionAllow, "other")) }},
		{"the workload names another", func(w *world) { w.apply(reviewsPod(naming("app/p", "app/deny"))) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, reviewsPod(naming("app/p")))
			w.policies(selected("p", wds.ActionAllow, "client", "other"), selected("deny", wds.ActionDeny, "client"))
			w.app("app", serverIP+":8080")
			denied, allowed := w.open("client"), w.open("other")
			tt.change(w)
			if n, err := denied.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the connection goes on, or ends as if all were well: %d, %v", n, err)
			}
			if _, err := io.WriteString(allowed, "still here\n"); err != nil {
				t.Fatal(err)
			}
			if got, err := readName(allowed); got != "still here" || err != nil {
				t.Errorf("the other connection: %q, %v", got, err)
			}
			if _, err := w.knock("client", serverIP, serverIP+":8080", id("reviews")); statusIn(err) != http.StatusUnauthorized {
				t.Errorf("a new connection: %v", err)
			}
		})
	}
}

// open connects to the application and reads its name.
func (w *world) open(account string) *hbone.Conn {
	w.Helper()
	conn, err := w.knock(account, serverIP, serverIP+":8080", id("reviews"))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	if _, err := readName(conn); err != nil {
		w.Fatal(err)
	}
	return conn
}
