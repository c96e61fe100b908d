package authz

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// peerAuth writes a PeerAuthentication; ports are "80=STRICT" and the like.
func peerAuth(namespace, name, mode string, selector bool, ports ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: %s, namespace: %s, creationTimestamp: '2026-01-01T00:00:00Z'}\nspec:\n  mtls: {mode: %s}\n", name, namespace, mode)
	if selector {
		b.WriteString("  selector: {matchLabels: {app: web}}\n")
	}
	if len(ports) > 0 {
		b.WriteString("  portLevelMtls:\n")
		for _, p := range ports {
			port, mode, _ := strings.Cut(p, "=")
			fmt.Fprintf(&b, "    %s: {mode: %s}\n", port, mode)
		}
	}
	return b.String()
}

// TestPeerAuthentication asks whether the converted policies let plaintext in
// on port 80 and on port 90 of a workload app=web in namespace app. Peers with
// an identity are always let in.
func TestPeerAuthentication(t *testing.T) {
	mesh := func(mode string) string { return peerAuth("istio-system", "default", mode, false) }
	ns := func(mode string) string { return peerAuth("app", "default", mode, false) }
	workload := func(mode string, ports ...string) string { return peerAuth("app", "web", mode, true, ports...) }
	tests := []struct {
		name     string
		yaml     string
		on80     bool
		on90     bool
		policies string
	}{
		{"none", "", true, true, ""},
		{"mesh STRICT", mesh("STRICT"), false, false, "istio-system/istio_converted_static_strict"},
		{"mesh PERMISSIVE", mesh("PERMISSIVE"), true, true, ""},
		{"mesh UNSET", mesh("UNSET"), true, true, ""},
		{"namespace STRICT", ns("STRICT"), false, false, "istio-system/istio_converted_static_strict"},
		{"namespace over mesh", mesh("STRICT") + ns("PERMISSIVE"), true, true, ""},
		{"namespace UNSET inherits", mesh("STRICT") + ns("UNSET"), false, false, "istio-system/istio_converted_static_strict"},
		{"workload STRICT", workload("STRICT"), false, false, "istio-system/istio_converted_static_strict"},
		{"workload over namespace", ns("STRICT") + workload("DISABLE"), true, true, ""},
		{"workload UNSET inherits", ns("STRICT") + workload("UNSET"), false, false, "istio-system/istio_converted_static_strict"},
		{"STRICT but a port", workload("STRICT", "80=PERMISSIVE"), true, false, "app/converted_peer_authentication_web"},
		{"STRICT but a DISABLE port", workload("STRICT", "80=DISABLE"), true, false, "app/converted_peer_authentication_web"},
		{"STRICT but two ports", workload("STRICT", "80=PERMISSIVE", "90=DISABLE"), true, true, "app/converted_peer_authentication_web"},
		{"STRICT with a STRICT port", workload("STRICT", "80=STRICT"), false, false, "istio-system/istio_converted_static_strict"},
		{"STRICT with mixed ports", workload("STRICT", "80=STRICT", "90=PERMISSIVE"), false, true, "app/converted_peer_authentication_web"},
		{"PERMISSIVE but a port", workload("PERMISSIVE", "80=STRICT"), false, true, "app/converted_peer_authentication_web"},
		{"DISABLE but a port", workload("DISABLE", "80=STRICT"), false, true, "app/converted_peer_authentication_web"},
		{"PERMISSIVE but two ports", workload("PERMISSIVE", "80=STRICT", "90=STRICT"), false, false, "app/converted_peer_authentication_web"},
		{"PERMISSIVE with a PERMISSIVE port", workload("PERMISSIVE", "80=PERMISSIVE"), true, true, ""},
		{"UNSET with a STRICT port", workload("UNSET", "80=STRICT"), false, true, "app/converted_peer_authentication_web"},
		{"mesh STRICT, a port PERMISSIVE", mesh("STRICT") + workload("UNSET", "80=PERMISSIVE"), true, false, "app/converted_peer_authentication_web"},
		{"mesh STRICT, a port DISABLE", mesh("STRICT") + workload("UNSET", "80=DISABLE"), true, false, "app/converted_peer_authentication_web"},
		{"mesh STRICT, namespace UNSET, a port PERMISSIVE", mesh("STRICT") + ns("UNSET") + workload("UNSET", "80=PERMISSIVE"), true, false, "app/converted_peer_authentication_web"},
		{"namespace STRICT, a port PERMISSIVE", ns("STRICT") + workload("UNSET", "80=PERMISSIVE"), true, false, "app/converted_peer_authentication_web"},
		{"namespace PERMISSIVE in a STRICT mesh, a port STRICT", mesh("STRICT") + ns("PERMISSIVE") + workload("UNSET", "80=STRICT"), false, true, "app/converted_peer_authentication_web"},
		// istiod leaves the STRICT port out here, and names a policy that it does not send.
		{"workload PERMISSIVE in a STRICT mesh, a port STRICT", mesh("STRICT") + workload("PERMISSIVE", "80=STRICT"), false, true, "app/converted_peer_authentication_web"},
		{"a port UNSET", workload("STRICT", "80=UNSET"), false, false, "istio-system/istio_converted_static_strict"},
		{"the oldest wins", strings.Replace(ns("PERMISSIVE"), "2026", "2025", 1) + peerAuth("app", "a", "STRICT", false), true, true, ""},
		{"the oldest workload's wins", workload("STRICT") + strings.Replace(peerAuth("app", "z", "PERMISSIVE", true), "2026", "2025", 1), true, true, ""},
		{"another workload's", strings.Replace(workload("STRICT"), "app: web", "app: other", 1), true, true, ""},
		{"another namespace's", peerAuth("other", "default", "STRICT", false), true, true, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := convert(t, tc.yaml)
			s := mustCompile(t, c.Policies...)
			r := Request{Namespace: "app", Policies: c.PoliciesFor("app", map[string]string{"app": "web"}), Source: netip.MustParseAddrPort("10.0.0.1:1")}
			if got := strings.Join(r.Policies, " "); got != tc.policies {
				t.Errorf("policies %q, want %q", got, tc.policies)
			}
			for port, want := range map[uint16]bool{80: tc.on80, 90: tc.on90} {
				r.Destination = netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), port)
				r.Peer = spiffeid.ID{}
				if d := s.Check(r); d.Allowed != want {
					t.Errorf("plaintext to port %d: %v", port, d.Verdict)
				}
				r.Peer = spiffeid.RequireFromString("spiffe://td/ns/a/sa/b")
				if d := s.Check(r); !d.Allowed {
					t.Errorf("mTLS to port %d: %v", port, d.Verdict)
				}
			}
		})
	}
}

func TestPeerAuthenticationWarnings(t *testing.T) {
	c := convert(t, peerAuth("istio-system", "a", "STRICT", true)+peerAuth("app", "b", "STRICT", false)+peerAuth("app", "c", "PERMISSIVE", false))
	if len(c.Warnings) != 2 {
		t.Errorf("got %v", c.Warnings)
	}
}

func TestSelectorsOfTheRootNamespace(t *testing.T) {
	c := convert(t, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {selector: {matchLabels: {app: web}}}\n")
	for _, tc := range []struct {
		labels map[string]string
		want   int
	}{{map[string]string{"app": "web", "x": "y"}, 1}, {map[string]string{"app": "db"}, 0}, {nil, 0}} {
		if got := c.PoliciesFor("any", tc.labels); len(got) != tc.want {
			t.Errorf("%v: %v", tc.labels, got)
		}
	}
}
