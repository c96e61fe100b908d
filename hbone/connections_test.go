package hbone_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// tooMany expects that refused is of a connection beyond the limit.
func tooMany(t *testing.T, err error) {
	t.Helper()
	var refused *hbone.RefusedError
	if !errors.As(err, &refused) || refused.Phase != hbone.PhaseDial || refused.RemoteAddr == nil || !errors.Is(err, hbone.ErrTooManyConnections) {
		t.Errorf("refused with %v, want a *RefusedError with the address, PhaseDial and ErrTooManyConnections", err)
	}
}

// TestMaxConnections: what is over the limit is closed at once, and what is within goes on. When one of those ends, there
// is room again.
func TestMaxConnections(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		said := new(refusals)
		server := w.serve(podAddr, &hbone.Server{
			TLS: w.ca.Server(w.ca.Issue(podID), webID), Handler: echo, Refused: said.add, MaxConnections: 2,
		})
		first, second, third := w.transport(), w.transport(), w.transport()
		conn := mustDial(t, first, w.oneHop())
		mustDial(t, second, w.oneHop()).Close()
		began := time.Now()
		_, err := third.Dial(context.Background(), w.oneHop())
		if he := wantHop(t, err, 0, hbone.PhaseTLS); !he.Retryable() || time.Since(began) > 0 {
			t.Errorf("%v after %v: retryable %v; want so, at once", err, time.Since(began), he.Retryable())
		}
		wantEcho(t, conn, "still here")
		synctest.Wait()
		if len(said.all) != 1 {
			t.Fatalf("refused: %v, want one", said)
		}
		tooMany(t, said.all[0])
		want := hbone.ServerStats{Connections: 2, Streams: 1, Accepted: 2, TooMany: 1, Refused: 1}
		if got := server.Stats(); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
		second.Close()
		time.Sleep(time.Minute) // the backoff, and what the server waits for
		mustDial(t, third, w.oneHop()).Close()
		wantEcho(t, conn, "still here")
	})
}

// TestConnectionsInTheirHandshakeCount: those that never get as far as to show who they are may not be any number.
func TestConnectionsInTheirHandshakeCount(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		said := new(refusals)
		server := w.serve(podAddr, &hbone.Server{
			TLS: w.ca.Server(w.ca.Issue(podID), webID), Refused: said.add, MaxConnections: 3,
		})
		closed := 0
		for range 10 {
			nc, err := w.net.Host("client").Dial(context.Background(), "tcp", podAddr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			synctest.Wait()
			nc.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := nc.Read(make([]byte, 1)); !isTimeout(err) {
				closed++
			}
		}
		if got := server.Stats(); closed != 7 || got.Connections != 3 || got.TooMany != 7 {
			t.Errorf("%d of 10 connections were closed, stats %+v; want 7, and 3 open", closed, got)
		}
		time.Sleep(10 * time.Second) // HandshakeTimeout
		if got := server.Stats(); got.Connections != 0 || got.Refused != 10 {
			t.Errorf("stats after the handshakes ended %+v, want no connections and 10 refused", got)
		}
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// TestMaxConnectionsOfServeConn: an inner tunnel is a connection, too.
func TestMaxConnectionsOfServeConn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		server := &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), webID), MaxConnections: 1}
		defer server.Close()
		_, b := net.Pipe()
		go server.ServeConn(context.Background(), b)
		synctest.Wait()
		a, b := net.Pipe()
		tooMany(t, server.ServeConn(context.Background(), b))
		if _, err := a.Read(make([]byte, 1)); err == nil {
			t.Error("the connection was not closed")
		}
	})
}

func TestMaxConnectionsOfListener(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		inner, err := w.net.Listen(podAddr)
		if err != nil {
			t.Fatal(err)
		}
		said := new(refusals)
		l := hbone.Listen(inner, hbone.ListenConfig{
			TLS: w.ca.Server(w.ca.Issue(podID), webID), Refused: said.add, MaxConnections: 1,
			Admit: func(*hbone.Request) int { return http.StatusServiceUnavailable },
		})
		defer l.Close()
		mustWarm(t, w.transport(), w.oneHop())
		if err := w.transport().Warm(context.Background(), w.oneHop()); err == nil {
			t.Error("a second connection was taken")
		}
		synctest.Wait()
		if got := l.Server().Stats(); got.TooMany != 1 || len(said.all) != 1 {
			t.Errorf("stats %+v, refused %v; want one too many", got, said)
		}
	})
}

// TestNoLimitOfConnections: negative is none.
func TestNoLimitOfConnections(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		server := w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), webID), MaxConnections: -1})
		mustWarm(t, w.transport(), w.oneHop())
		if got := server.Stats(); got.Connections != 1 {
			t.Errorf("stats %+v, want one connection", got)
		}
	})
}
