package testca

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
)

func TestHandshake(t *testing.T) {
	ca, other := New("cluster.local"), New("cluster.local")
	foreign := New("other.mesh")
	web, api := ca.Issue("/ns/app/sa/web"), ca.Issue("/ns/app/sa/api")
	tests := []struct {
		name           string
		client, server *tls.Config
		want           string // part of the error of either end; "" means success
	}{
		{"both known", ca.ClientConfig(web, "/ns/app/sa/api"), ca.ServerConfig(api, "/ns/app/sa/web"), ""},
		{"any client of the trust domain", ca.ClientConfig(web, "/ns/app/sa/api"), ca.ServerConfig(api), ""},
		{"through an intermediate", ca.ClientConfig(ca.Intermediate().Intermediate().Issue("/w"), "/ns/app/sa/api"), ca.ServerConfig(api, "/w"), ""},
		{"wrong server", ca.ClientConfig(web, "/ns/app/sa/db"), ca.ServerConfig(api), "want one of"},
		{"wrong client", ca.ClientConfig(web, "/ns/app/sa/api"), ca.ServerConfig(api, "/ns/app/sa/db"), "want one of"},
		{"no client certificate", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, ca.ServerConfig(api), "didn't provide a certificate"},
		{"expired", ca.ClientConfig(ca.Expired("/ns/app/sa/web"), "/ns/app/sa/api"), ca.ServerConfig(api), "expired"},
		{"not yet valid", ca.ClientConfig(ca.IssueLeaf(Leaf{ID: "/w", NotBefore: time.Now().Add(time.Hour)}), "/ns/app/sa/api"), ca.ServerConfig(api), "not yet valid"},
		{"another root", ca.ClientConfig(other.Issue("/ns/app/sa/web"), "/ns/app/sa/api"), ca.ServerConfig(api), "unknown authority"},
		{"another trust domain", ca.ClientConfig(foreign.Issue("/ns/app/sa/web"), "/ns/app/sa/api"), ca.ServerConfig(api), "unknown authority"},
		{"a foreign ID from our own root", ca.ClientConfig(ca.Issue("spiffe://other.mesh/w"), "/ns/app/sa/api"), ca.ServerConfig(api), "want one of"},
		{"two IDs", ca.ClientConfig(ca.IssueLeaf(Leaf{ID: "/a", MoreIDs: []string{"/b"}}), "/ns/app/sa/api"), ca.ServerConfig(api), "2 URI SANs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := handshake(tt.client, tt.server)
			switch {
			case tt.want == "" && err != nil:
				t.Fatalf("handshake: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("handshake: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// handshake returns the error of the end that refused.
func handshake(client, server *tls.Config) error {
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	done := make(chan error, 1)
	go func() {
		err := tls.Server(s, server).Handshake()
		s.Close()
		done <- err
	}()
	err := tls.Client(c, client).Handshake()
	c.Close()
	if serverErr := <-done; err == nil || serverErr != nil && strings.Contains(err.Error(), "remote error") {
		return serverErr
	}
	return err
}

func TestKeyIgnoresOrder(t *testing.T) {
	ca := New("cluster.local")
	cert := ca.Issue("/w")
	if a, b := ca.Client(cert, "/a", "/b").Key(), ca.Client(cert, "/b", "/a").Key(); a != b {
		t.Errorf("keys differ by the order of peers: %q, %q", a, b)
	}
	if a, b := ca.Client(cert, "/a").Key(), ca.Client(ca.Issue("/x"), "/a").Key(); a == b {
		t.Errorf("two local identities share the key %q", a)
	}
}

func TestRetire(t *testing.T) {
	ca := New("cluster.local")
	c, drain := ca.Client(ca.Issue("/w"), "/a"), time.Now().Add(time.Hour)
	c.DrainAt(drain)
	got, cut := c.Retire(tls.ConnectionState{})
	if !got.Equal(drain) {
		t.Errorf("drain = %v, want %v", got, drain)
	}
	select {
	case <-cut:
		t.Error("cut before Revoke")
	default:
	}
	c.Revoke()
	c.Revoke()
	<-cut
}
