package hbone_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

func (w *world) listen(cfg hbone.ListenConfig) *hbone.Listener {
	w.Helper()
	l, err := w.net.Listen(podAddr)
	if err != nil {
		w.Fatal(err)
	}
	cfg.TLS = w.ca.Server(w.ca.Issue(podID), webID)
	ln := hbone.Listen(l, cfg)
	w.Cleanup(func() { ln.Close() })
	return ln
}

// TestListenerConnectsInAccept: a client is connected when somebody took the
// stream, and not before.
func TestListenerConnectsInAccept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ln := w.listen(hbone.ListenConfig{
			Header: func(r *hbone.Request) http.Header { return http.Header{"Baggage": {r.Authority()}} },
		})
		if got := ln.Addr().String(); got != podAddr {
			t.Errorf("Addr = %s, want %s", got, podAddr)
		}
		accepted := make(chan net.Conn)
		time.AfterFunc(3*time.Second, func() {
			conn, err := ln.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- conn
		})
		began := time.Now()
		client := mustDial(t, w.transport(), w.oneHop())
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("connected after %v, want 3s", took)
		}
		server := <-accepted
		go func() { _, _ = io.Copy(server, server); server.Close() }()
		wantEcho(t, client, "hello")
		if got := client.Header().Get("Baggage"); got != "10.1.0.10:8080" {
			t.Errorf("the answer's header is %v", client.Header())
		}
		client.Close()
	})
}

func TestListenerAdmitsAndBounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ln := w.listen(hbone.ListenConfig{
			Backlog: 1,
			Admit: func(r *hbone.Request) int {
				if r.Authority() == reviews {
					return http.StatusOK
				}
				return http.StatusUnauthorized
			},
		})
		tr := w.transport()
		status := func(err error) int {
			var s *hbone.StatusError
			errors.As(err, &s)
			if s == nil {
				return 0
			}
			return s.Status
		}
		_, err := tr.Dial(context.Background(), w.oneHop())
		if status(err) != http.StatusUnauthorized {
			t.Errorf("an authority that is not admitted: %v, want 401", err)
		}
		path := w.oneHop()
		path.Hops[0].Authority = reviews
		ctx, giveUp := context.WithCancel(context.Background())
		waits := make(chan error, 1)
		go func() {
			_, err := tr.Dial(ctx, path)
			waits <- err
		}()
		synctest.Wait()
		_, err = tr.Dial(context.Background(), path)
		if status(err) != http.StatusServiceUnavailable {
			t.Errorf("a stream over the backlog: %v, want 503", err)
		}
		giveUp()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("the dial that gave up: %v", err)
		}
		synctest.Wait() // for the server to hear of it
		time.AfterFunc(time.Second, func() { ln.Close() })
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept on a closed Listener = %v, want net.ErrClosed", err)
		}
	})
}

func TestListenerCloseRejectsTheBacklog(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ln := w.listen(hbone.ListenConfig{})
		waits := make(chan error, 1)
		tr := w.transport()
		go func() {
			_, err := tr.Dial(context.Background(), w.oneHop())
			waits <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := ln.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		var status *hbone.StatusError
		if err := <-waits; !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable {
			t.Errorf("a stream in the backlog: %v, want status 503", err)
		}
	})
}

// TestHTTPThroughTwoHops runs net/http's client and server over a nested path:
// neither of them knows.
func TestHTTPThroughTwoHops(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: {podAddr}})
		server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(rw, "%s %s: %s", r.Host, r.URL.Path, body)
		})}
		ln := w.listen(hbone.ListenConfig{})
		go server.Serve(ln)
		defer server.Close()

		tr := w.transport()
		path := w.twoHops(reviews)
		path.Hops[0].Authority, path.Hops[1].Authority = "", "" // whatever is dialled
		rt := &http.Transport{DialContext: tr.Dialer(path).DialContext, DisableKeepAlives: true}
		client := &http.Client{Transport: rt}
		defer client.CloseIdleConnections()
		for i := range 3 {
			want := fmt.Sprintf("%s /%d: ", "reviews.app.svc.cluster.local", i)
			resp, err := client.Get("http://reviews.app.svc.cluster.local" + fmt.Sprint("/", i))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != want {
				t.Errorf("body = %q, %v; want %q", body, err, want)
			}
		}
		if s := tr.Stats(); s.Hops[1].Opened != 3 || s.Handshakes() != 2 {
			t.Errorf("stats = %+v, want 3 streams and 2 handshakes", s)
		}
	})
}
