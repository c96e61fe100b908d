package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// randomBytes are the same for the same seed.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

var testWires = map[string]wire{
	"memnet":     memWire,
	"net.Pipe":   netPipeWire,
	"tcp+TLS":    overTLS(tcpWire),
	"memnet+TLS": overTLS(memWire),
	"nested":     overTLS(overStream(overTLS(tcpWire))),
}

// TestHalfClose lets many streams each send a request up to its end, and answer only then.
func TestHalfClose(t *testing.T) {
	const streams, size = 20, 200_000
	for name, w := range testWires {
		t.Run(name, func(t *testing.T) {
			client, server := newPair(t, w, Config{StreamWindow: size / 4}, func(s *Stream) {
				s.Accept(nil)
				request, err := io.ReadAll(s)
				if err != nil {
					t.Errorf("server reads: %v", err)
				}
				s.Write(request)
				s.CloseWrite()
			})
			var all sync.WaitGroup
			for i := range uint64(streams) {
				all.Go(func() {
					s := mustOpen(t, client)
					defer s.Close()
					request := randomBytes(i, size)
					if n, err := s.Write(request); n != size || err != nil {
						t.Errorf("Write = %d, %v", n, err)
					}
					s.CloseWrite()
					if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
						t.Errorf("Write after CloseWrite: %v", err)
					}
					answer, err := io.ReadAll(s)
					if err != nil || !bytes.Equal(answer, request) {
						t.Errorf("stream %d: %d bytes, %v; want the %d sent", i, len(answer), err, size)
					}
				})
			}
			all.Wait()
			waitFor(t, func() bool { return client.Streams() == 0 && server.Streams() == 0 })
		})
	}
}

// TestHalfCloseOtherWay ends the server's direction first, which net/http cannot do.
func TestHalfCloseOtherWay(t *testing.T) {
	client, server := openPair(t, memWire, Config{})
	server.Write([]byte("greeting"))
	server.CloseWrite()
	if b, err := io.ReadAll(client); string(b) != "greeting" || err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
	client.Write([]byte("still heard"))
	client.Close()
	if b, err := io.ReadAll(server); string(b) != "still heard" || err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
}

func TestAbortIsNotAnEnd(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeCancel, http2.ErrCodeConnect} {
		t.Run(code.String(), inBubble(func(t *testing.T) {
			a, b := openPair(t, memWire, Config{})
			a.Write([]byte("part of it"))
			why := errors.New("far side was reset")
			a.Reset(code, why)
			got, err := io.ReadAll(b)
			var se *StreamError
			if string(got) != "part of it" || !errors.As(err, &se) || !se.Remote || se.Code != code || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("peer read %q, %v", got, err)
			}
			if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("peer wrote: %v", err)
			}
			if !errors.As(context.Cause(b.Context()), &se) {
				t.Errorf("peer's cause: %v", context.Cause(b.Context()))
			}
			for _, op := range []func([]byte) (int, error){a.Read, a.Write, a.TryWrite} {
				if _, err := op(make([]byte, 1)); !errors.Is(err, why) {
					t.Errorf("local operation: %v", err)
				}
			}
		}))
	}
}

// TestAbortOfAnActiveStream: whoever reads the stream when it is aborted, and closes it then, must
// not make it look complete.
func TestAbortOfAnActiveStream(t *testing.T) {
	handle, accepted := accepting()
	client, _ := newPair(t, memWire, Config{}, handle)
	for range 500 {
		a, b := mustOpen(t, client), <-accepted
		go func() {
			io.Copy(io.Discard, b)
			b.CloseWrite()
			b.Close()
		}()
		a.Write([]byte("x"))
		runtime.Gosched()
		b.Reset(http2.ErrCodeConnect, errors.New("policy changed"))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the peer read: %v", err)
		}
		a.Close()
	}
}

// TestCloseIsAnEnd: what was written before Close arrives, followed by io.EOF, though the
// peer had not ended.
func TestCloseIsAnEnd(t *testing.T) {
	for name, w := range testWires {
		t.Run(name, func(t *testing.T) {
			for _, end := range []string{"client", "server"} {
				a, b := openPair(t, w, Config{})
				if end == "server" {
					a, b = b, a
				}
				sent := randomBytes(1, 100_000)
				a.Write(sent)
				a.Close()
				if got, err := io.ReadAll(b); !bytes.Equal(got, sent) || err != nil {
					t.Errorf("%s closed: read %d bytes, %v", end, len(got), err)
				}
				waitFor(t, func() bool { _, err := b.Write([]byte("x")); return err != nil })
				for range 2 {
					if err := a.Close(); err != nil {
						t.Errorf("Close again: %v", err)
					}
				}
				for _, op := range []func([]byte) (int, error){a.Read, a.Write} {
					if _, err := op(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
						t.Errorf("operation after Close: %v", err)
					}
				}
			}
		})
	}
}

func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := openPair(t, memWire, Config{})
		errs := make(chan error, 2)
		go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := io.Copy(a, neverEnding{}); errs <- err }()
		synctest.Wait()
		a.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("blocked call: %v", err)
			}
		}
	})
}

func TestCloseRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := openPair(t, memWire, Config{StreamWindow: 100_000, ConnWindow: 100_000})
		b.Write([]byte("unwanted"))
		synctest.Wait()
		a.CloseRead()
		if _, err := a.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read: %v", err)
		}
		for range 50 { // more than the windows
			if _, err := b.Write(make([]byte, 10_000)); err != nil {
				t.Fatalf("the peer cannot go on: %v", err)
			}
		}
		a.Write([]byte("goes on"))
		a.CloseWrite()
		if got, err := io.ReadAll(b); string(got) != "goes on" || err != nil {
			t.Errorf("peer read %q, %v", got, err)
		}
		synctest.Wait()
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer was not told to stop: %v", err)
		}
	})
}

// TestCloseReadOfAFullWindow: a peer that waits for credit goes on when the reader says that it will not read.
func TestCloseReadOfAFullWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 100_000
		a, b := openPair(t, memWire, Config{StreamWindow: window})
		wrote := make(chan error, 1)
		go func() {
			_, err := a.Write(make([]byte, 5*window))
			wrote <- err
		}()
		synctest.Wait() // until the window is full
		b.CloseRead()
		synctest.Wait()
		select {
		case err := <-wrote:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the peer still waits")
		}
	})
}

// TestStalledReaders lets many streams not read, and wants the others to go on and memory
// to stay within the windows.
func TestStalledReaders(t *testing.T) {
	const stalled, window = 20, 256 << 10
	for name, w := range testWires {
		t.Run(name, func(t *testing.T) {
			handle, accepted := accepting()
			client, _ := newPair(t, w, Config{StreamWindow: window, ConnWindow: (stalled + 1) * window}, handle)
			live := mustOpen(t, client)
			go io.Copy(<-accepted, neverEnding{})
			before := heap()
			var writers sync.WaitGroup
			for range stalled {
				s := mustOpen(t, client)
				<-accepted // and never read
				writers.Go(func() {
					if n, err := s.Write(make([]byte, window)); n != window || err != nil {
						t.Errorf("stalled stream took %d bytes, %v; want its window, %d", n, err, window)
					}
					s.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
					if n, err := s.Write(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("stalled stream took %d bytes more, %v", n, err)
					}
				})
			}
			buf := make([]byte, 64<<10)
			for received := 0; received < 20*window; { // as much as all the others together
				n, err := live.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				received += n
			}
			writers.Wait()
			if used := heap() - before; used > 2*stalled*window {
				t.Errorf("%d bytes for %d in the windows", used, stalled*window)
			}
			live.Close()
		})
	}
}

// TestConnWindowBoundsTheSum lets more streams stall than the connection has room for.
func TestConnWindowBoundsTheSum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 200_000
		handle, accepted := accepting()
		client, _ := newPair(t, memWire, Config{StreamWindow: window, ConnWindow: 2 * window, PingInterval: -1}, handle)
		if err := client.awaitSettings(t.Context()); err != nil {
			t.Fatal(err)
		}
		total := 0
		var ends []*Stream
		for range 4 {
			s := mustOpen(t, client)
			ends = append(ends, <-accepted)
			s.SetWriteDeadline(time.Now().Add(time.Second))
			n, _ := io.Copy(s, neverEnding{})
			total += int(n)
		}
		if total != 2*window {
			t.Errorf("%d bytes were received unread, want %d", total, 2*window)
		}
		// Whoever goes away makes room.
		ends[0].Close()
		ends[1].CloseRead()
		s := mustOpen(t, client)
		go io.Copy(s, neverEnding{})
		if _, err := io.ReadFull(<-accepted, make([]byte, 10*window)); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlinesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := openPair(t, memWire, Config{StreamWindow: 100_000})
		buf := make([]byte, 100)
		for i := range 20 {
			a.SetReadDeadline(time.Now().Add(time.Second))
			start := time.Now()
			if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
				t.Fatalf("Read: %v after %v", err, time.Since(start))
			}
			if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("Read after the deadline: %v", err)
			}
			a.SetReadDeadline(time.Time{})
			message := fmt.Sprintf("message %d", i)
			b.Write([]byte(message))
			if n, err := a.Read(buf); string(buf[:n]) != message || err != nil {
				t.Fatalf("Read: %q, %v", buf[:n], err)
			}
		}
		sent := 0
		for range 20 {
			b.SetWriteDeadline(time.Now().Add(time.Second))
			n, err := b.Write(make([]byte, 200_000))
			if !errors.Is(err, os.ErrDeadlineExceeded) || n > 100_000 {
				t.Fatalf("Write = %d, %v", n, err)
			}
			sent += n
			if n, err := b.TryWrite(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("TryWrite = %d, %v", n, err)
			}
			if _, err := io.ReadFull(a, make([]byte, n/2)); err != nil {
				t.Fatal(err)
			}
			sent -= n / 2
		}
		b.SetWriteDeadline(time.Time{})
		go func() { b.Write([]byte("last")); b.CloseWrite() }()
		rest, err := io.ReadAll(a)
		if len(rest) != sent+4 || err != nil {
			t.Errorf("read %d bytes, %v, want %d", len(rest), err, sent+4)
		}
	})
}

// TestDeadlineMovesWhileBlocked extends and shortens deadlines of a blocked Read.
func TestDeadlineMovesWhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := openPair(t, memWire, Config{})
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Second))
		time.AfterFunc(900*time.Millisecond, func() { a.SetReadDeadline(start.Add(time.Hour)) })
		time.AfterFunc(10*time.Second, func() { a.SetReadDeadline(start.Add(20 * time.Second)) })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 20*time.Second {
			t.Errorf("Read: %v after %v", err, time.Since(start))
		}
	})
}

func TestTryWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := openPair(t, memWire, Config{StreamWindow: 100_000})
		total := 0
		for {
			n, err := a.TryWrite(make([]byte, 30_000))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n == 0 {
				break
			}
			total += n
		}
		if total != 100_000 {
			t.Errorf("took %d bytes, want the window", total)
		}
		b.Close()
		synctest.Wait()
		if _, err := a.TryWrite([]byte("x")); err == nil {
			t.Error("TryWrite to a closed stream succeeds")
		}
	})
}

// TestInitialWindowChanges shrinks and grows the window of an open stream; it
// becomes negative meanwhile.
func TestInitialWindowChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			s.Write(make([]byte, 2000))
			s.Close()
		})
		initial := func(n uint32) {
			p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n})
			p.wantSettingsAck()
		}
		initial(1000)
		p.connect(1)
		p.wantStatus(1, 200, false)
		p.wantData(1, string(make([]byte, 1000)), false)
		initial(100)                   // window -900
		p.fr.WriteWindowUpdate(1, 900) // 0
		p.wantAlive()
		p.fr.WriteWindowUpdate(1, 1)
		p.wantData(1, "\x00", false)
		initial(600)
		p.wantData(1, string(make([]byte, 500)), false)
		p.fr.WriteWindowUpdate(1, 1000)
		p.wantData(1, string(make([]byte, 499)), false)
		p.wantData(1, "", true)
	})
}

// TestConnectionWindow limits all streams together.
func TestConnectionWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playRawClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			s.Write(make([]byte, 40_000))
			s.CloseWrite()
		})
		p.write(http2.ClientPreface)
		p.handshake(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		p.connect(1)
		p.wantStatus(1, 200, false)
		p.wantData(1, string(make([]byte, 40_000)), false)
		p.wantData(1, "", true)
		p.connect(3)
		p.wantStatus(3, 200, false)
		p.wantData(3, string(make([]byte, 25_535)), false)
		p.wantAlive()
		p.fr.WriteWindowUpdate(0, 1<<20)
		p.wantData(3, string(make([]byte, 14_465)), false)
		p.wantData(3, "", true)
	})
}

// TestPeerFrameSize: no frame is larger than the peer allows, nor than 64 KiB.
func TestPeerFrameSize(t *testing.T) {
	for allowed, largest := range map[uint32]int{minMaxFrameSize: minMaxFrameSize, 50_000: 50_000, 1 << 20: maxSendFrame} {
		t.Run(fmt.Sprint(allowed), inBubble(func(t *testing.T) {
			p, _ := playRawClient(t, Config{}, func(s *Stream) {
				s.Accept(nil)
				s.Write(make([]byte, 600_000))
				s.CloseWrite()
			})
			p.write(http2.ClientPreface)
			p.handshake(http2.Setting{ID: http2.SettingMaxFrameSize, Val: allowed},
				http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			p.fr.WriteWindowUpdate(0, 1<<20)
			p.connect(1)
			p.wantStatus(1, 200, false)
			got, total := 0, 0
			for {
				f := want[*http2.DataFrame](p)
				got, total = max(got, len(f.Data())), total+len(f.Data())
				if f.StreamEnded() {
					break
				}
			}
			if got != largest || total != 600_000 {
				t.Errorf("largest frame %d, want %d; %d bytes", got, largest, total)
			}
		}))
	}
}

// TestWritesAreSentAtOnce: no write waits for more.
func TestWritesAreSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			for _, b := range []string{"a", "b", "c"} {
				time.Sleep(time.Second)
				s.Write([]byte(b))
			}
		})
		p.connect(1)
		p.wantStatus(1, 200, false)
		for _, b := range []string{"a", "b", "c"} {
			start := time.Now()
			p.wantData(1, b, false)
			if d := time.Since(start); d > time.Second {
				t.Errorf("waited %v", d)
			}
		}
	})
}

func TestContextEndsCleanly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := openPair(t, memWire, Config{})
		ctx := a.Context()
		a.CloseWrite()
		io.ReadAll(b)
		if ctx.Err() != nil {
			t.Error("context of a half-closed stream is done")
		}
		b.CloseWrite()
		<-ctx.Done()
		if err := context.Cause(ctx); err != context.Canceled {
			t.Errorf("cause %v", err)
		}
		if err := context.Cause(b.Context()); err != context.Canceled {
			t.Errorf("cause at the other end, asked for afterwards: %v", err)
		}
	})
}

func TestConcurrentWritesAreAtomic(t *testing.T) {
	a, b := openPair(t, memWire, Config{StreamWindow: 1 << 16})
	const writers, size = 8, 100_000
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { a.Write(bytes.Repeat([]byte{byte('a' + i)}, size)) })
	}
	go func() { all.Wait(); a.CloseWrite() }()
	got, err := io.ReadAll(b)
	if len(got) != writers*size || err != nil {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	for i := 0; i < len(got); i += size {
		if n := bytes.Count(got[i:i+size], got[i:i+1]); n != size {
			t.Fatalf("a Write was torn: %d of %d bytes", n, size)
		}
	}
}

// TestHeaderTableSize: a peer that allows no dynamic table gets none.
func TestHeaderTableSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playRawServer(t, Config{})
		p.handshake(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		p.dec.SetAllowedMaxDynamicTableSize(0)
		p.dec.SetMaxDynamicTableSize(0)
		for id := uint32(1); id < 7; id += 2 {
			go c.Open(t.Context(), "a:1", map[string][]string{"Baggage": {"k=v"}})
			if h := p.wantHeaders(id, false); h["baggage"] != "k=v" {
				t.Errorf("request %v", h)
			}
			p.answer(id, 200, true)
			synctest.Wait()
		}
	})
}

// TestCloseReadAfterCloseWrite ends the stream at once: nobody would hear the peer.
func TestCloseReadAfterCloseWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := openPair(t, memWire, Config{})
		a.CloseWrite()
		if got, err := io.ReadAll(b); len(got) != 0 || err != nil {
			t.Errorf("peer read %q, %v", got, err)
		}
		a.CloseRead()
		synctest.Wait()
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer was not told to stop: %v", err)
		}
		if n := a.Conn().Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}
