package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// TestNetHTTPClient lets net/http's client tunnel through our server.
func TestNetHTTPClient(t *testing.T) {
	cert := testCertificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var conns []*Conn
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c, err := NewServer(TLSServer(nc, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}), Config{}, func(s *Stream) {
				if s.Authority() == "refused:1" {
					s.Reject(503, nil)
					return
				}
				echo(s)
			})
			if err != nil {
				continue // net/http dials for each request that finds no connection, and drops what it need not have dialled
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	})
	defer func() {
		l.Close()
		serving.Wait()
		for _, c := range conns {
			c.Close()
		}
	}()

	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	tr := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: pool, ServerName: "test"},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}
	defer tr.CloseIdleConnections()
	connect := func(authority string, body io.Reader) (*http.Response, error) {
		return tr.RoundTrip(&http.Request{
			Method: http.MethodConnect,
			URL:    &url.URL{Scheme: "https", Host: l.Addr().String()},
			Host:   authority,
			Header: make(http.Header),
			Body:   io.NopCloser(body),
		})
	}

	t.Run("full duplex", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range uint64(20) {
			all.Go(func() {
				r, w := io.Pipe()
				res, err := connect("a:1", r)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				for range 5 { // a ping-pong first
					w.Write([]byte("ping"))
					if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
						t.Error(err)
					}
				}
				sent := randomBytes(i, 1<<20)
				go func() { w.Write(sent); w.Close() }()
				if got, err := io.ReadAll(res.Body); !bytes.Equal(got, sent) || err != nil {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			})
		}
		all.Wait()
	})
	t.Run("refused", func(t *testing.T) {
		res, err := connect("refused:1", bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 503 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
	t.Run("GET", func(t *testing.T) {
		res, err := tr.RoundTrip(httptest.NewRequest("GET", "https://"+l.Addr().String()+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 400 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
}

// netHTTPServer serves CONNECT with net/http, and gives a client of ours that talks to it.
func netHTTPServer(t *testing.T, handler http.HandlerFunc) *Conn {
	srv := httptest.NewUnstartedServer(handler)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	nc, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	c, err := NewClient(TLSClient(nc, &tls.Config{RootCAs: pool, ServerName: "example.com", NextProtos: []string{"h2"}}), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestNetHTTPServer(t *testing.T) {
	c := netHTTPServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			t.Errorf("method %s", r.Method)
		}
		switch r.Host {
		case "refused:1":
			w.WriteHeader(http.StatusForbidden)
			return
		case "aborts:1":
			w.WriteHeader(200)
			w.Write([]byte("part"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Baggage", r.Header.Get("Baggage"))
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})

	t.Run("full duplex", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range uint64(20) {
			all.Go(func() {
				s := mustOpen(t, c)
				defer s.Close()
				if got := s.ResponseHeader().Get("Baggage"); got != "k8s.cluster.name=east" {
					t.Errorf("baggage %q", got)
				}
				sent := randomBytes(i, 1<<20)
				go func() { s.Write(sent); s.CloseWrite() }()
				if got, err := io.ReadAll(s); !bytes.Equal(got, sent) || err != nil {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			})
		}
		all.Wait()
	})
	t.Run("refused", func(t *testing.T) {
		_, err := c.Open(context.Background(), "refused:1", nil)
		var se *StatusError
		if !errors.As(err, &se) || se.Status != http.StatusForbidden {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("abort", func(t *testing.T) {
		s, err := c.Open(context.Background(), "aborts:1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := io.ReadAll(s)
		var se *StreamError
		if string(got) != "part" || !errors.As(err, &se) || !se.Remote {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

// TestNetHTTPServerShutdown drains: net/http sends its GOAWAYs while a stream is open.
func TestNetHTTPServerShutdown(t *testing.T) {
	started := make(chan struct{})
	var srv *http.Server
	c := netHTTPServer(t, func(w http.ResponseWriter, r *http.Request) {
		srv = r.Context().Value(http.ServerContextKey).(*http.Server)
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		close(started)
		io.Copy(w, r.Body)
	})
	s := mustOpen(t, c)
	<-started
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(context.Background()) }()
	waitFor(t, c.Draining)
	if _, err := c.Open(context.Background(), "a:1", nil); !errors.Is(err, ErrUnprocessed) {
		t.Errorf("Open: %v", err)
	}
	s.Write([]byte("last words"))
	s.CloseWrite()
	if got, err := io.ReadAll(s); string(got) != "last words" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	<-c.Done()
	if err := <-down; err != nil {
		t.Error(err)
	}
}
