package h2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// allHabits are those of the peers that HBONE is spoken with.
var allHabits = map[string]func() habits{"envoy": envoyHabits, "ztunnel": ztunnelHabits}

func eachHabits(t *testing.T, test func(t *testing.T, h habits)) {
	for name, h := range allHabits {
		t.Run(name, inBubble(func(t *testing.T) { test(t, h()) }))
	}
}

// several is more than the windows of both peers.
const several = 40 << 20

// meshHeader is what ztunnel sends with a CONNECT, in its forms.
var meshHeader = http.Header{
	"Baggage":             {"k8s.cluster.name=east,k8s.namespace.name=app,k8s.deployment.name=web,service.name=web,service.version=v1"},
	"Forwarded":           {`for="10.0.0.5:41234";host=echo.default.svc.cluster.local`},
	"Traceparent":         {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
	"X-Forwarded-Network": {""}, // of a ztunnel without NETWORK
}

// meshFields are a CONNECT with meshHeader. Neither sends :scheme or :path.
func meshFields(authority string) []string {
	fields := []string{":method", "CONNECT", ":authority", authority}
	for _, name := range []string{"baggage", "forwarded", "traceparent", "x-forwarded-network"} {
		fields = append(fields, name, meshHeader.Get(name))
	}
	return fields
}

// TestClientOfHabits moves data both ways, more than all windows, through servers
// with the habits of others.
func TestClientOfHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		f, c := foreignServer(t, h, Config{})
		if want := int(f.advertised(http2.SettingMaxConcurrentStreams)); c.Available() != want {
			t.Errorf("Available() = %d, want %d", c.Available(), want)
		}
		if v := f.settings[http2.SettingEnablePush]; v != 0 {
			t.Errorf("ENABLE_PUSH is %d", v)
		}
		up, down := randomBytes(1, several), randomBytes(2, several)
		go func() {
			f.wantFields(1, fieldMap(meshFields("echo.default.svc.cluster.local:80")))
			f.fields(1, false, ":status", "200", "baggage", "k8s.cluster.name=west", "date", "Wed, 25 Nov 2026 00:00:00 GMT", "server", "istio-envoy")
			f.data(1, down, true)
			f.wantWhole(1, up)
		}()
		s, err := c.Open(t.Context(), "echo.default.svc.cluster.local:80", meshHeader)
		if err != nil {
			t.Fatal(err)
		}
		wantExchange(t, s, up, down)
		synctest.Wait()
		if n := c.Streams(); n != 0 || c.Err() != nil {
			t.Errorf("%d streams are left; %v", n, c.Err())
		}
	})
}

// TestServerOfHabits is the same for clients. Their first CONNECTs come before they know our settings.
func TestServerOfHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		up, down := randomBytes(1, several), randomBytes(2, several)
		header := make(chan http.Header, 1)
		f, c := foreignClient(t, h, Config{}, func(s *Stream) {
			header <- s.RequestHeader()
			if s.Accept(http.Header{"Baggage": {"k8s.cluster.name=west"}}) == nil {
				wantExchange(t, s, down, up)
			}
		})
		f.fields(1, false, meshFields("[2001:db8::1]:8080")...)
		f.wantFields(1, map[string]string{":status": "200", "baggage": "k8s.cluster.name=west"})
		f.data(1, up, true)
		f.wantWhole(1, down)
		synctest.Wait()
		if got := <-header; got.Get("Forwarded") != meshHeader.Get("Forwarded") || len(got) != len(meshHeader) {
			t.Errorf("header %v", got)
		}
		if n := c.Streams(); n != 0 || c.Err() != nil {
			t.Errorf("%d streams are left; %v", n, c.Err())
		}
	})
}

// wantExchange sends and receives at the same time, and ends both directions.
func wantExchange(t *testing.T, s *Stream, send, want []byte) {
	s.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(send)
		sent <- errors.Join(err, s.CloseWrite())
	}()
	if got, err := io.ReadAll(s); string(got) != string(want) || err != nil {
		t.Errorf("read %d bytes, want %d; %v", len(got), len(want), err)
	}
	if err := <-sent; err != nil {
		t.Errorf("write: %v", err)
	}
}

// TestTinyMessagesKeepToHabits: limits against floods must let through what
// interactive applications do: many small writes both ways.
func TestTinyMessagesKeepToHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		f, c := foreignClient(t, h, Config{}, echo)
		f.fields(1, false, meshFields("a:1")...)
		const n = 20_000
		for i := range n {
			f.data(1, []byte{byte(i)}, false)
			f.until(func() bool { return len(f.streams[1].data) > i })
		}
		f.data(1, nil, true)
		f.until(func() bool { return f.streams[1].ended })
		if c.Err() != nil {
			t.Error(c.Err())
		}
	})
}

// TestKeepaliveOfHabits answers the peer's PINGs for an hour: with their cadence they are no
// flood, with and without a stream.
func TestKeepaliveOfHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		f, c := foreignServer(t, h, Config{})
		f.keepAlive(time.Hour)
		go func() {
			f.until(func() bool { return f.streams[1] != nil })
			f.fields(1, false, ":status", "200")
		}()
		s := mustOpen(t, c)
		f.mu.Lock()
		f.pongs = 0
		f.mu.Unlock()
		f.keepAlive(time.Hour)
		if c.Err() != nil {
			t.Error(c.Err())
		}
		s.Close()
	})
}

// TestAbortOfHabits: both peers abort by codes that sound like a clean end.
func TestAbortOfHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		for _, code := range []http2.ErrCode{h.abort, http2.ErrCodeConnect} {
			f, c := foreignServer(t, h, Config{})
			go func() {
				f.until(func() bool { return f.streams[1] != nil })
				f.fields(1, false, ":status", "200")
				f.data(1, []byte("part"), false)
				f.reset(1, code)
			}()
			s := mustOpen(t, c)
			got, err := io.ReadAll(s)
			var se *StreamError
			if string(got) != "part" || !errors.As(err, &se) || !se.Remote || se.Code != code {
				t.Errorf("%v: read %q, %v", code, got, err)
			}
		}
	})
}

// TestResetAfterTheEndOfHabits: a server that has answered in full resets what it does not
// read any more (RFC 9113 §8.1). What it sent is whole.
func TestResetAfterTheEndOfHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		f, c := foreignServer(t, h, Config{})
		go func() {
			f.until(func() bool { return f.streams[1] != nil })
			f.fields(1, false, ":status", "200")
			f.data(1, []byte("whole"), true)
			f.reset(1, h.abort)
		}()
		s := mustOpen(t, c)
		synctest.Wait()
		if got, err := io.ReadAll(s); string(got) != "whole" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := s.Write([]byte("late")); err == nil {
			t.Error("writes to a stream that the peer reset")
		}
	})
}

// TestRefusalOfHabits: ztunnel refuses by a bare status, Envoy by a response with a
// text, after which it resets the request.
func TestRefusalOfHabits(t *testing.T) {
	eachHabits(t, func(t *testing.T, h habits) {
		f, c := foreignServer(t, h, Config{})
		go func() {
			f.until(func() bool { return f.streams[1] != nil })
			f.fields(1, true, ":status", "401")
			f.until(func() bool { return f.streams[3] != nil })
			f.fields(3, false, ":status", "503", "content-length", "19", "content-type", "text/plain", "date", "Wed, 25 Nov 2026 00:00:00 GMT", "server", "istio-envoy")
			f.data(3, []byte("no healthy upstream"), true)
			f.reset(3, http2.ErrCodeNo)
		}()
		for _, want := range []int{401, 503} {
			_, err := c.Open(t.Context(), "a:1", nil)
			var se *StatusError
			if !errors.As(err, &se) || se.Status != want {
				t.Errorf("Open: %v, want status %d", err, want)
			}
		}
		f.keepAlive(time.Minute)
		if n := c.Streams(); n != 0 || c.Err() != nil {
			t.Errorf("%d streams are left; %v", n, c.Err())
		}
	})
}

// TestDrainOfHabits: both announce the end with the highest stream id, then name the
// last one: Envoy after its drain time, ztunnel when its PING is answered.
func TestDrainOfHabits(t *testing.T) {
	waits := map[string]func(f *foreign){
		"envoy": func(*foreign) { time.Sleep(5 * time.Second) },
		"ztunnel": func(f *foreign) {
			f.send(func() { f.fr.WritePing(false, [8]byte{0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54}) })
			f.until(func() bool { return f.pongs == 1 })
		},
	}
	for name, wait := range waits {
		t.Run(name, inBubble(func(t *testing.T) {
			f, c := foreignServer(t, allHabits[name](), Config{})
			go func() {
				f.until(func() bool { return f.streams[1] != nil })
				f.fields(1, false, ":status", "200")
			}()
			s := mustOpen(t, c)
			f.send(func() { f.fr.WriteGoAway(maxStreamID, http2.ErrCodeNo, nil) })
			synctest.Wait()
			if _, err := c.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) || !c.Draining() {
				t.Errorf("Open after the notice: %v", err)
			}
			wait(f)
			f.send(func() { f.fr.WriteGoAway(1, http2.ErrCodeNo, nil) })
			f.data(1, []byte("last words"), true)
			wantExchange(t, s, []byte("to the end"), []byte("last words"))
			f.wantWhole(1, []byte("to the end"))
			<-c.Done()
			f.untilEnd()
			if err := c.Err(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Err() = %v", err)
			}
		}))
	}
}

// TestZtunnelFirstStreams: a ztunnel opens up to 100 streams before it knows our settings.
func TestZtunnelFirstStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := foreignClient(t, ztunnelHabits(), Config{}, echo)
		const n = 100
		for i := range uint32(n) {
			f.fields(2*i+1, false, meshFields("10.1.0.10:8080")...)
		}
		for i := range uint32(n) {
			f.wantFields(2*i+1, map[string]string{":status": "200"})
			f.data(2*i+1, []byte("hello"), true)
			f.wantWhole(2*i+1, []byte("hello"))
		}
	})
}

// TestZtunnelVanishes: a ztunnel that drops a tunnel of its pool closes TCP, with neither
// GOAWAY nor close_notify. That is no clean end of its streams.
func TestZtunnelVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		f, c := foreignClient(t, ztunnelHabits(), Config{}, func(s *Stream) {
			s.Accept(nil)
			_, err := s.Read(make([]byte, 1))
			failed <- err
		})
		f.fields(1, false, meshFields("10.1.0.10:8080")...)
		f.wantFields(1, map[string]string{":status": "200"})
		f.conn.Close()
		if err := <-failed; errors.Is(err, io.EOF) || err == nil {
			t.Errorf("read: %v; a vanished peer must not look like a clean end", err)
		}
		<-c.Done()
	})
}

func fieldMap(fields []string) map[string]string {
	m := make(map[string]string)
	for i := 0; i < len(fields); i += 2 {
		m[fields[i]] = fields[i+1]
	}
	return m
}
