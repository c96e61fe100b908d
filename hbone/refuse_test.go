package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// refusals collects what servers report.
type refusals struct {
	mu  sync.Mutex
	all []*hbone.RefusedError
}

func (r *refusals) add(err *hbone.RefusedError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err)
}

func (r *refusals) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, err := range r.all {
		b.WriteString(err.Error() + "\n")
	}
	return b.String()
}

// TestPeersAreVerifiedOnEveryHop breaks the identity of one end of one hop at
// a time: the dial fails on that hop, and a server that refused says so.
func TestPeersAreVerifiedOnEveryHop(t *testing.T) {
	foreign := testca.New("other.mesh")
	imposter := testca.New("cluster.local") // same name, another root
	type setup struct {
		client *testca.Credentials
		server *testca.Credentials
	}
	tests := []struct {
		name    string
		change  func(w *world, s *setup, server string)
		refused string // what the refusing end says
		remote  bool   // the server refuses
	}{
		{"wrong server", func(w *world, s *setup, server string) {
			s.server = w.ca.Server(w.ca.Issue("/ns/app/sa/other"), webID)
		}, "want one of", false},
		{"server of another trust domain", func(w *world, s *setup, server string) {
			s.server = foreign.Server(foreign.Issue(server))
		}, "unknown authority", false},
		{"server of another root", func(w *world, s *setup, server string) {
			s.server = imposter.Server(imposter.Issue(server))
		}, "unknown authority", false},
		{"expired server", func(w *world, s *setup, server string) {
			s.server = w.ca.Server(w.ca.Expired(server), webID)
		}, "expired", false},
		{"wrong client", func(w *world, s *setup, server string) {
			s.client = w.ca.Client(w.ca.Issue("/ns/app/sa/other"), server)
		}, "want one of", true},
		{"client of another trust domain", func(w *world, s *setup, server string) {
			s.client = w.ca.Client(foreign.Issue(webID), server)
		}, "unknown authority", true},
		{"expired client", func(w *world, s *setup, server string) {
			s.client = w.ca.Client(w.ca.Expired(webID), server)
		}, "expired", true},
		{"client without certificate", func(w *world, s *setup, server string) {
			s.client = w.ca.Client(tls.Certificate{}, server)
		}, "didn't provide a certificate", true},
	}
	for hop, server := range []string{gatewayID, podID} {
		for _, tt := range tests {
			t.Run([]string{"outer ", "inner "}[hop]+tt.name, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					path := w.twoHops(reviews)
					servers := []*testca.Credentials{
						w.ca.Server(w.ca.Issue(gatewayID), webID), w.ca.Server(w.ca.Issue(podID), webID),
					}
					s := setup{client: w.client(server), server: servers[hop]}
					tt.change(w, &s, server)
					path.Hops[hop].TLS, servers[hop] = s.client, s.server
					said := new(refusals)
					g := &gateway{host: w.net.Host("gateway"), backends: map[string][]string{reviews: {podAddr}}}
					w.serve(gatewayAddr, &hbone.Server{TLS: servers[0], Handler: g.forward, Refused: said.add})
					w.serve(podAddr, &hbone.Server{TLS: servers[1], Handler: echo, Refused: said.add})

					_, err := w.transport().Dial(context.Background(), path)
					he := wantHop(t, err, hop, hbone.PhaseTLS)
					if he.Remote() != tt.remote || he.Retryable() {
						t.Errorf("%v: remote %v, retryable %v; want %v, false", err, he.Remote(), he.Retryable(), tt.remote)
					}
					synctest.Wait()
					verdict := err.Error()
					if tt.remote {
						verdict = said.String()
					}
					if !strings.Contains(verdict, tt.refused) {
						t.Errorf("the refusing end says %q, want %q in it", verdict, tt.refused)
					}
				})
			})
		}
	}
}

func TestStatus(t *testing.T) {
	tests := []struct {
		name      string
		handler   func(*hbone.Request)
		want      int
		retryable bool
	}{
		{"no handler", nil, http.StatusNotFound, false},
		{"bad authority", func(r *hbone.Request) { _ = r.Reject(http.StatusBadRequest) }, http.StatusBadRequest, false},
		{"denied by policy", func(r *hbone.Request) { _ = r.Reject(http.StatusUnauthorized) }, http.StatusUnauthorized, false},
		{"unreachable", func(r *hbone.Request) { _ = r.Reject(http.StatusServiceUnavailable) }, http.StatusServiceUnavailable, true},
		{"unanswered", func(*hbone.Request) {}, http.StatusInternalServerError, false},
		{"no success but 200", func(r *hbone.Request) {
			if r.Reject(http.StatusNoContent) == nil {
				panic("rejected with a success")
			}
			_ = r.Reject(http.StatusTeapot)
		}, http.StatusTeapot, false},
	}
	for hops := 1; hops <= 2; hops++ {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					w.pod(podAddr, tt.handler)
					w.gateway(map[string][]string{reviews: {podAddr}})
					path := w.oneHop()
					if hops == 2 {
						path = w.twoHops(reviews)
					}
					tr := w.transport()
					_, err := tr.Dial(context.Background(), path)
					he := wantHop(t, err, hops-1, hbone.PhaseConnect)
					var status *hbone.StatusError
					if !errors.As(err, &status) || status.Status != tt.want {
						t.Fatalf("error = %v, want status %d", err, tt.want)
					}
					if !he.Remote() || he.Retryable() != tt.retryable {
						t.Errorf("%v: remote %v, retryable %v; want true, %v", err, he.Remote(), he.Retryable(), tt.retryable)
					}
					if _, err := tr.Dial(context.Background(), path); errors.As(err, new(*hbone.BackoffError)) {
						t.Errorf("a tunnel that works is not dialled again, so nothing backs off: %v", err)
					}
				})
			})
		}
	}
}

func TestUnknownServiceFailsOnTheGateway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: {podAddr}}) // whose pod is not there
		tr := w.transport()
		_, err := tr.Dial(context.Background(), w.twoHops(ratings))
		if he := wantHop(t, err, 0, hbone.PhaseConnect); he.Authority != ratings || he.Retryable() {
			t.Errorf("%v: authority %q, retryable %v", err, he.Authority, he.Retryable())
		}
		_, err = tr.Dial(context.Background(), w.twoHops(reviews))
		if he := wantHop(t, err, 0, hbone.PhaseConnect); !he.Retryable() {
			t.Errorf("%v: not retryable, though the backend may come back", err)
		}
	})
}

// Envoy gateways answer 200 before they know whether there is a backend.
func TestGatewayThatPromisesTooMuch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve(gatewayAddr, &hbone.Server{
			TLS: w.ca.Server(w.ca.Issue(gatewayID), webID),
			Handler: func(r *hbone.Request) {
				if conn, err := r.Accept(nil); err == nil {
					time.Sleep(time.Second)
					conn.Abort(errors.New("no healthy upstream"))
				}
			},
		})
		_, err := w.transport().Dial(context.Background(), w.twoHops(reviews))
		if he := wantHop(t, err, 1, hbone.PhaseTLS); !he.Retryable() {
			t.Errorf("%v: not retryable, though the backend may come back", err)
		}
	})
}

func TestServerNeedsCredentials(t *testing.T) {
	w := newWorld(t)
	l, err := w.net.Listen(podAddr)
	if err != nil {
		t.Fatal(err)
	}
	err = new(hbone.Server).Serve(context.Background(), l)
	if !errors.Is(err, hbone.ErrNoCredentials) {
		t.Errorf("Serve = %v, want ErrNoCredentials", err)
	}
	lax := w.ca.ServerConfig(w.ca.Issue(podID))
	lax.ClientAuth = tls.RequestClientCert
	err = (&hbone.Server{TLS: &serverConfig{cfg: lax}}).Serve(context.Background(), l)
	if !errors.Is(err, hbone.ErrClientCertNotRequired) {
		t.Errorf("Serve = %v, want ErrClientCertNotRequired", err)
	}
}

// serverConfig are credentials whose configuration may change.
type serverConfig struct {
	mu  sync.Mutex
	cfg *tls.Config
}

func (s *serverConfig) Config(context.Context) (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg, nil
}

func (s *serverConfig) set(cfg *tls.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg = cfg
}

func (s *serverConfig) Key() string { return "server" }

func (s *serverConfig) Retire(tls.ConnectionState) (time.Time, <-chan struct{}) {
	return time.Time{}, nil
}

// crypto/tls lets a peer pass that agrees to no protocol at all.
func TestPeersMustAgreeToHTTP2(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		said := new(refusals)
		w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), webID), Handler: echo, Refused: said.add})
		nc, err := w.net.Host("client").Dial(context.Background(), "tcp", podAddr)
		if err != nil {
			t.Fatal(err)
		}
		cfg := w.ca.ClientConfig(w.ca.Issue(webID), podID)
		cfg.NextProtos = nil
		client := tls.Client(nc, cfg)
		_, _ = client.Write([]byte("PRI * HTTP/2.0")) // it is not even read
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the server answered a client without ALPN")
		}
		client.Close()
		synctest.Wait()
		if len(said.all) != 1 || !errors.Is(said.all[0], hbone.ErrALPN) {
			t.Errorf("the server says %q, want ErrALPN", said)
		}

		l, err := w.net.Listen("legacy:15008")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			cfg := w.ca.ServerConfig(w.ca.Issue(podID))
			cfg.NextProtos = nil
			_, _ = tls.Server(nc, cfg).Read(make([]byte, 1))
		}()
		path := w.oneHop()
		path.Hops[0].Address = "legacy:15008"
		_, err = w.transport().Dial(context.Background(), path)
		if wantHop(t, err, 0, hbone.PhaseTLS); !errors.Is(err, hbone.ErrALPN) {
			t.Errorf("dial = %v, want ErrALPN", err)
		}
	})
}
