package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
)

func TestRequestTellsWhoAndWhat(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := &gateway{host: w.net.Host("gateway"), backends: map[string][]string{reviews: {podAddr}}}
		outer := make(chan http.Header, 1)
		w.serve(gatewayAddr, &hbone.Server{
			TLS: w.ca.Server(w.ca.Issue(gatewayID), webID),
			Handler: func(r *hbone.Request) {
				outer <- r.Header()
				g.forward(r)
			},
		})
		got := make(chan *hbone.Conn, 1)
		w.pod(podAddr, func(r *hbone.Request) {
			if r.TLS().PeerCertificates[0].URIs[0].String() != w.ca.ID(webID) {
				t.Errorf("client is %v, want %s", r.TLS().PeerCertificates[0].URIs, webID)
			}
			conn, err := r.Accept(http.Header{"Baggage": {"service.name=reviews"}})
			if err != nil {
				t.Error(err)
			}
			got <- conn
		})
		path := w.twoHops(reviews)
		path.StreamHeader = http.Header{"X-Forwarded-Network": {"east"}, "Baggage": {"service.name=web", "cloud.region=r1"}}
		path.Hops[0].TunnelHeader = http.Header{"X-Istio-Source": {"gateway"}}
		client := mustDial(t, w.transport(), path)
		defer client.Close()
		server := <-got
		defer server.Close()
		if server.Authority() != reviews || client.Authority() != reviews {
			t.Errorf("authority: server %q, client %q, want %q", server.Authority(), client.Authority(), reviews)
		}
		if h := <-outer; len(h) != 1 || h.Get("X-Istio-Source") != "gateway" {
			t.Errorf("gateway got the header %v, want the tunnel's and not the stream's", h)
		}
		if h := server.Header(); h.Get("X-Forwarded-Network") != "east" || len(h["Baggage"]) != 2 || h.Get("X-Istio-Source") != "" {
			t.Errorf("server got the header %v, want the stream's and not the tunnel's", h)
		}
		if got := client.Header().Get("Baggage"); got != "service.name=reviews" {
			t.Errorf("client got baggage %q", got)
		}
		hops := client.Hops()
		if len(hops) != 2 || hops[0].Address != gatewayAddr || hops[1].Address != reviews || hops[0].Reused || hops[1].Reused {
			t.Errorf("client hops = %+v", hops)
		}
		for i, id := range []string{gatewayID, podID} {
			if leaf := hops[i].TLS.PeerCertificates[0]; leaf.URIs[0].String() != w.ca.ID(id) {
				t.Errorf("hop %d is %v, want %s", i, leaf.URIs, id)
			}
		}
		if hops := server.Hops(); len(hops) != 1 || hops[0].Authority != reviews {
			t.Errorf("server hops = %+v, want the one that ends there", hops)
		}
	})
}

func TestReusedIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		for _, tt := range []struct {
			service      string
			outer, inner bool
		}{{reviews, false, false}, {ratings, true, false}, {reviews, true, true}} {
			conn := mustDial(t, tr, w.twoHops(tt.service))
			hops := conn.Hops()
			conn.Close()
			if hops[0].Reused != tt.outer || hops[1].Reused != tt.inner {
				t.Errorf("%s: outer reused %v, inner %v; want %v, %v", tt.service, hops[0].Reused, hops[1].Reused, tt.outer, tt.inner)
			}
		}
	})
}

func TestServerShutdownLetsStreamsFinish(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.pod(podAddr, echo)
		tr := w.transport()
		conn := mustDial(t, tr, w.oneHop())
		wantEcho(t, conn, "hello")
		stopped := make(chan time.Time)
		go func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
			stopped <- time.Now()
		}()
		synctest.Wait()
		_, err := tr.Dial(context.Background(), w.oneHop())
		if he := wantHop(t, err, 0, hbone.PhaseDial); !he.Retryable() {
			t.Errorf("a dial during Shutdown: %v, want one that can be retried", err)
		}
		time.Sleep(time.Minute)
		wantEcho(t, conn, "still here")
		closed := time.Now()
		conn.Close()
		if at := <-stopped; at.Sub(closed) > time.Second {
			t.Errorf("Shutdown returned %v after the last stream", at.Sub(closed))
		}
	})
}

func TestServerShutdownCutsAtTheEndOfItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: {podAddr}})
		s := w.pod(podAddr, echo)
		conn := mustDial(t, w.transport(), w.twoHops(reviews))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v, want context.DeadlineExceeded", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v, want 1m", took)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read = %v, want an error that is no clean end", err)
		}
	})
}

func TestServerCloseEndsHandlers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ended := make(chan error, 2)
		s := w.pod(podAddr, func(r *hbone.Request) {
			if r.Authority() == "accepted:80" {
				if conn, err := r.Accept(nil); err == nil {
					_, err = conn.Read(make([]byte, 1))
					ended <- err
				}
				return
			}
			<-r.Context().Done()
			ended <- context.Cause(r.Context())
		})
		tr := w.transport()
		path := w.oneHop()
		path.Hops[0].Authority = "accepted:80"
		conn := mustDial(t, tr, path)
		defer conn.Close()
		go tr.Dial(context.Background(), w.oneHop())
		synctest.Wait()
		s.Close()
		s.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("a handler ended with %v, want net.ErrClosed", err)
			}
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, err := w.net.Listen(podAddr)
		if err != nil {
			t.Fatal(err)
		}
		s := &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID)), Handler: echo}
		defer s.Close()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		conn := mustDial(t, w.transport(), w.oneHop())
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve = %v, want context.Canceled", err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read = %v, want an error", err)
		}
	})
}

func TestServerStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.pod(podAddr, echo)
		tr := w.transport()
		count := func() (n int) {
			for range s.Streams() {
				n++
			}
			return n
		}
		denied := mustDial(t, tr, w.oneHop())
		kept := w.oneHop()
		kept.Hops[0].Authority = "10.1.0.10:9090"
		conn := mustDial(t, tr, kept)
		defer conn.Close()
		if got := count(); got != 2 {
			t.Errorf("%d streams, want 2", got)
		}
		for c := range s.Streams() {
			if c.Authority() == "10.1.0.10:8080" {
				c.Abort(errors.New("policy changed"))
			}
		}
		if _, err := denied.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the denied stream: %v, want an error", err)
		}
		wantEcho(t, conn, "still allowed")
		synctest.Wait()
		if got := count(); got != 1 {
			t.Errorf("%d streams after one was aborted, want 1", got)
		}
	})
}

func TestServerCredentialsExpireAndAreRevoked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		creds := w.ca.Server(w.ca.Issue(podID), webID)
		creds.DrainAt(time.Now().Add(time.Hour))
		refused := new(refusals)
		w.serve(podAddr, &hbone.Server{TLS: creds, Handler: echo, Refused: refused.add})
		tr := w.transport()
		before := mustDial(t, tr, w.oneHop())
		creds.DrainAt(time.Time{}) // renewed
		time.Sleep(61 * time.Minute)
		after := mustDial(t, tr, w.oneHop())
		if before.Hops()[0].Tunnel == after.Hops()[0].Tunnel {
			t.Error("a tunnel whose time was over took a new stream")
		}
		wantEcho(t, before, "undisturbed")
		wantEcho(t, after, "hello")
		before.Close()
		creds.Revoke()
		if _, err := after.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read on a revoked tunnel: %v, want an error", err)
		}
		synctest.Wait()
		if len(refused.all) == 0 || !errors.Is(refused.all[0], hbone.ErrRevoked) {
			t.Errorf("the server reports %v, want ErrRevoked", refused)
		}
		_, err := tr.Dial(context.Background(), w.oneHop())
		if wantHop(t, err, 0, hbone.PhaseHTTP2); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("dial with a revoked certificate: %v", err)
		}
	})
}

// What the credentials say is asked anew for each connection.
func TestServerConfigRotates(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		creds := &serverConfig{cfg: w.ca.ServerConfig(w.ca.Issue(podID), webID)}
		w.serve(podAddr, &hbone.Server{TLS: creds, Handler: echo})
		conn := mustDial(t, w.transport(), w.oneHop())
		defer conn.Close()
		creds.set(w.ca.ServerConfig(w.ca.Issue(podID), "/ns/app/sa/other"))
		_, err := w.transport().Dial(context.Background(), w.oneHop())
		wantHop(t, err, 0, hbone.PhaseTLS)
		lax := w.ca.ServerConfig(w.ca.Issue(podID))
		lax.ClientAuth = tls.NoClientCert
		creds.set(lax)
		_, err = w.transport().Dial(context.Background(), w.oneHop())
		wantHop(t, err, 0, hbone.PhaseTLS)
		wantEcho(t, conn, "undisturbed")
	})
}

func TestResumptionOnlyIfAskedFor(t *testing.T) {
	for _, tickets := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.serve(podAddr, &hbone.Server{
				TLS:            w.ca.Server(w.ca.Issue(podID), webID),
				Handler:        echo,
				SessionTickets: tickets,
			})
			cfg := w.ca.ClientConfig(w.ca.Issue(webID), podID)
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			verified := 0
			verify := cfg.VerifyConnection
			cfg.VerifyConnection = func(state tls.ConnectionState) error {
				verified++
				return verify(state)
			}
			path := w.oneHop()
			path.Hops[0].TLS = &serverConfig{cfg: cfg}
			var resumed bool
			for range 2 {
				tr := w.transport()
				conn := mustDial(t, tr, path)
				wantEcho(t, conn, "the ticket comes with the first data")
				resumed = conn.Hops()[0].TLS.DidResume
				conn.Close()
				tr.Close()
			}
			if resumed != tickets {
				t.Errorf("with tickets %v: resumed %v", tickets, resumed)
			}
			if verified != 2 {
				t.Errorf("the peer was verified %d times in 2 handshakes", verified)
			}
		})
	}
}

func TestPlaintextOnlyWhereItIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve("plain:15008", &hbone.Server{TLS: hbone.Plaintext{}, Handler: echo})
		w.pod(podAddr, echo)
		tr := w.transport()
		path := w.oneHop()
		path.Hops[0].Address, path.Hops[0].TLS = "plain:15008", hbone.Plaintext{}
		conn := mustDial(t, tr, path)
		wantEcho(t, conn, "hello")
		conn.Close()
		path.Hops[0].Address = podAddr
		_, err := tr.Dial(context.Background(), path)
		wantHop(t, err, 0, hbone.PhaseHTTP2)
		path = w.oneHop()
		path.Hops[0].Address = "plain:15008"
		_, err = tr.Dial(context.Background(), path)
		wantHop(t, err, 0, hbone.PhaseTLS)
	})
}

// A gateway that restarts keeps what it carries, and gets nothing new: new
// streams move to a tunnel through its successor, and none of them waits.
func TestStreamsLeaveADrainingGateway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		old := w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		before := mustDial(t, tr, w.twoHops(reviews))
		go old.Shutdown(context.Background())
		synctest.Wait()
		w.gateway(map[string][]string{reviews: {podAddr}})
		during := mustDial(t, tr, w.twoHops(reviews))
		synctest.Wait()
		after := mustDial(t, tr, w.twoHops(reviews))
		if !during.Hops()[1].Reused {
			t.Error("a dial waited for the tunnel through the new gateway")
		}
		if before.Hops()[0].Tunnel == after.Hops()[0].Tunnel {
			t.Error("a new stream went through the draining gateway")
		}
		for _, conn := range []*hbone.Conn{before, during, after} {
			wantEcho(t, conn, "undisturbed")
			conn.Close()
		}
		synctest.Wait()
		if s := tr.Stats(); s.Hops[0].Tunnels != 1 || s.Hops[1].Tunnels != 1 {
			t.Errorf("stats = %+v, want only what leads through the new gateway", s)
		}
	})
}

// TestServerShutdownWaitsForItsConnections: a process may exit after Shutdown, and what a client has not yet
// taken would be lost.
func TestServerShutdownWaitsForItsConnections(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.pod(podAddr, echo)
		raw, err := w.net.Host("client").Dial(t.Context(), "tcp", podAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		nc := tls.Client(raw, w.ca.ClientConfig(w.ca.Issue(webID), podID))
		_, _ = io.WriteString(nc, http2.ClientPreface)
		fr := http2.NewFramer(nc, nc)
		_ = fr.WriteSettings()
		_ = fr.WriteSettingsAck()
		synctest.Wait()
		go func() { // answers the PING of a drain, and does not leave
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				if ping, ok := f.(*http2.PingFrame); ok {
					_ = fr.WritePing(true, ping.Data)
				}
			}
		}()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := raw.Write([]byte("x")); err == nil {
			t.Error("the connection is open after Shutdown")
		}
	})
}

// TestSecondAcceptKeepsTheStreamListed: an Accept that fails takes nothing away from one that did not.
func TestSecondAcceptKeepsTheStreamListed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		accepted := make(chan struct{})
		server := w.pod(podAddr, func(r *hbone.Request) {
			conn, err := r.Accept(nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := r.Accept(nil); err == nil {
				t.Error("a request was accepted twice")
			}
			close(accepted)
			<-r.Context().Done()
		})
		conn := mustDial(t, w.transport(), w.oneHop())
		defer conn.Close()
		<-accepted
		n := 0
		for range server.Streams() {
			n++
		}
		if n != 1 {
			t.Errorf("%d streams are listed, want the one that is open", n)
		}
	})
}

// TestHandshakeTimeoutBoundsCredentials: also the wait for a certificate is part of the handshake.
func TestHandshakeTimeoutBoundsCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		refused := make(chan error, 1)
		var asked atomic.Int32
		w.serve(podAddr, &hbone.Server{
			TLS:              waiting{w.ca.Server(w.ca.Issue(podID)), &asked},
			HandshakeTimeout: time.Second,
			Refused:          func(err *hbone.RefusedError) { refused <- err },
		})
		time.Sleep(2 * time.Second) // Serve has asked, too
		asked.Store(0)
		nc, err := w.net.Host("client").Dial(t.Context(), "tcp", podAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		began := time.Now()
		if err := <-refused; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("refused after %v: %v, want the timeout", time.Since(began), err)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the credentials were asked %d times for one connection", n)
		}
	})
}

// waiting are credentials whose certificate does not come.
type waiting struct {
	hbone.Credentials
	asked *atomic.Int32
}

func (w waiting) Config(ctx context.Context) (*tls.Config, error) {
	w.asked.Add(1)
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
