package xds

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusingConn is a connection on which no stream can be opened.
type refusingConn struct {
	grpc.ClientConnInterface
	attempt func()
}

func (c refusingConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	if c.attempt != nil {
		c.attempt()
	}
	return nil, status.Error(codes.Unavailable, "refused")
}

func TestClientBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		c := &Client{
			Conn:  refusingConn{attempt: func() { attempts = append(attempts, time.Now()) }},
			Node:  Node{ID: "n"},
			Types: []Type{{URL: fruit, Handle: newBasket().handle}},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := c.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v, want %v", err, context.DeadlineExceeded)
		}
		step := 100 * time.Millisecond
		for i := 1; i < len(attempts); i++ {
			if pause := attempts[i].Sub(attempts[i-1]); pause < step/2 || pause > step {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, step/2, step)
			}
			step = min(2*step, 15*time.Second)
		}
		if n := len(attempts); n < 40 || n > 90 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		if st := c.Status(); st.Connected || st.Failures != len(attempts) || status.Code(st.LastError) != codes.Unavailable {
			t.Errorf("status %+v", st)
		}
	})
}

// TestClientBackoffStartsAnew ends streams that worked for a while, and such that did not.
func TestClientBackoffStartsAnew(t *testing.T) {
	tests := []struct {
		name    string
		uptime  time.Duration
		longest time.Duration // of the pauses
	}{
		{"stable", time.Minute, 100 * time.Millisecond},
		{"broken soon after each connect", time.Second, 15 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := serveRaw(t)
				c := &Client{Conn: n.dial(), MinBackoff: 100 * time.Millisecond, MaxBackoff: 15 * time.Second, Types: []Type{{URL: fruit, Handle: newBasket().handle}}}
				start(t, c)
				stream := s.accept()
				var longest time.Duration
				for range 12 {
					stream.receive()
					stream.respond(fruit, "1", "apple=1")
					time.Sleep(test.uptime) // of the bubble's time
					stream.end <- nil
					ended := time.Now()
					stream = s.accept()
					longest = max(longest, time.Since(ended))
				}
				if longest > test.longest || longest < test.longest/2 {
					t.Errorf("longest pause %v, want %v to %v", longest, test.longest/2, test.longest)
				}
			})
		})
	}
}

func TestClientClose(t *testing.T) {
	t.Run("before Run", func(t *testing.T) {
		c := &Client{Conn: refusingConn{}, Node: Node{ID: "n"}, Types: []Type{{URL: fruit, OnDemand: true, Handle: newBasket().handle}}}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v, want %v", err, ErrClosed)
		}
		if _, err := c.Fetch(t.Context(), fruit, "apple"); !errors.Is(err, ErrClosed) {
			t.Errorf("Fetch: %v, want %v", err, ErrClosed)
		}
	})
	t.Run("while connecting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := &Client{Conn: refusingConn{}, Types: []Type{{URL: fruit, Handle: newBasket().handle}}}
			start(t, c)
			synctest.Wait()
			var config *ConfigError
			if err := c.Run(t.Context()); !errors.As(err, &config) {
				t.Errorf("second Run: %v, want a ConfigError", err)
			}
		})
	})
}

// TestClientDoesNotDeadlock talks to a server that sends much before it reads.
func TestClientDoesNotDeadlock(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}}}
	var names []string
	for i := range 20_000 {
		names = append(names, fmt.Sprintf("a-fruit-with-a-name-that-takes-space-%d", i))
	}
	if err := client.Subscribe(fruit, names...); err != nil {
		t.Fatal(err)
	}
	client.MaxRequestBytes = 100_000
	start(t, client)
	stream := s.accept()
	for i := range 50 {
		resp := (&delta{upserts: []*Resource{{Name: "big", Body: make([]byte, 200_000)}}}).encode(fruit, false)
		resp.Nonce = fmt.Sprint(i)
		stream.send(resp)
	}
	got := map[string]bool{}
	acks := 0
	for len(got) < len(names) || acks < 50 {
		req := stream.receive()
		for _, name := range req.GetResourceNamesSubscribe() {
			got[name] = true
		}
		if req.GetResponseNonce() != "" {
			acks++
		}
	}
}
