package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// A command is the first byte that a client sends to an [App]; eight bytes of
// length follow.
type command byte

const (
	echo   command = 'E' // sends back what comes, until it ends
	take   command = 'T' // reads length bytes, answers with their checksum in 8 bytes
	give   command = 'G' // sends length bytes of payload
	answer command = 'A' // reads to the end, then sends back all of it: a client's half-close
	bye    command = 'B' // says "bye" and ends, then reports to Ends: a server's half-close
	report command = 'R' // says "ok", reads to the end, and reports to Ends
	crash  command = 'C' // sends length bytes, waits for one more, and aborts by RST
)

const commandSize = 1 + 8

// An App is a TCP server behind the tunnels. A connection gives it one command.
type App struct {
	// Ends are those of connections that report.
	Ends chan End

	verify   bool
	listener net.Listener
	serving  sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool // nil: closed
}

// An End is what a connection brought in the end, and the error if it was not clean.
type End struct {
	Data []byte
	Err  error
}

// NewApp starts an App on loopback. With verify it makes checksums of what it takes.
func NewApp(verify bool) (*App, error) {
	l, err := listen()
	if err != nil {
		return nil, err
	}
	a := &App{
		Ends:     make(chan End, 16),
		verify:   verify,
		listener: l,
		conns:    make(map[net.Conn]bool),
	}
	a.serving.Go(a.accept)
	return a, nil
}

// Port returns the port that a listens on.
func (a *App) Port() int { return a.listener.Addr().(*net.TCPAddr).Port }

// Close ends all connections and waits.
func (a *App) Close() {
	a.listener.Close()
	a.mu.Lock()
	for c := range a.conns {
		c.Close()
	}
	a.conns = nil
	a.mu.Unlock()
	a.serving.Wait()
}

func (a *App) accept() {
	for {
		c, err := a.listener.Accept()
		if err != nil {
			return
		}
		if !a.track(c) {
			c.Close()
			return
		}
		a.serving.Go(func() {
			defer a.untrack(c)
			defer c.Close()
			_ = a.serve(c.(*net.TCPConn)) // the client learns of it
		})
	}
}

func (a *App) track(c net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil {
		return false
	}
	a.conns[c] = true
	return true
}

func (a *App) untrack(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, c)
}

func (a *App) serve(c *net.TCPConn) error {
	var head [commandSize]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint64(head[1:]))
	switch command(head[0]) {
	case echo:
		_, err := io.Copy(c, c)
		return errors.Join(err, c.CloseWrite())
	case take:
		return a.serveTake(c, n)
	case give:
		if err := send(c, n, new(checksum)); err != nil {
			return err
		}
		return errors.Join(c.CloseWrite(), drain(c))
	case answer:
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		_, err = c.Write(b)
		return err
	case bye:
		return a.serveBye(c)
	case report:
		if _, err := io.WriteString(c, "ok"); err != nil {
			return err
		}
		return a.serveReport(c)
	case crash:
		return serveCrash(c, n)
	}
	return fmt.Errorf("no command %q", head[0])
}

func (a *App) serveTake(c *net.TCPConn, n int64) error {
	sum := checksum{on: a.verify}
	if err := receive(c, n, &sum); err != nil {
		return err
	}
	var got [8]byte
	binary.BigEndian.PutUint64(got[:], uint64(sum.sum))
	if _, err := c.Write(got[:]); err != nil {
		return err
	}
	return errors.Join(c.CloseWrite(), drain(c))
}

func (a *App) serveBye(c *net.TCPConn) error {
	if _, err := io.WriteString(c, "bye"); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	return a.serveReport(c)
}

func (a *App) serveReport(c *net.TCPConn) error {
	b, err := io.ReadAll(c)
	a.Ends <- End{b, err}
	return err
}

func serveCrash(c *net.TCPConn, n int64) error {
	if err := send(c, n, new(checksum)); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return err
	}
	return c.SetLinger(0)
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// ask sends a command.
func ask(c io.Writer, cmd command, n int64) error {
	_, err := c.Write(binary.BigEndian.AppendUint64([]byte{byte(cmd)}, uint64(n)))
	return err
}

// chunk is how much is written or read at a time.
const chunk = 64 << 10

type buffer [chunk]byte

var (
	buffers    = sync.Pool{New: func() any { return new(buffer) }}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// payload is random. Each chunk begins a prime number of bytes after the one
	// before, so that a checksum tells chunks that are lost, repeated or exchanged.
	payload = func() []byte {
		b := make([]byte, 1<<20+chunk)
		_, _ = rand.NewChaCha8([32]byte{}).Read(b)
		return b
	}()
)

const stride = 4099

// A checksum is of what was sent or received; it stays 0 unless it is on.
type checksum struct {
	on  bool
	sum uint32
}

func (s *checksum) add(b []byte) {
	if s.on {
		s.sum = crc32.Update(s.sum, castagnoli, b)
	}
}

// send writes n bytes of the payload.
func send(w io.Writer, n int64, sum *checksum) error {
	for at := 0; n > 0; at = (at + stride) % (len(payload) - chunk) {
		b := payload[at : at+int(min(n, chunk))]
		sum.add(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// receive reads n bytes.
func receive(r io.Reader, n int64, sum *checksum) error {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for n > 0 {
		got, err := r.Read(buf[:min(n, chunk)])
		sum.add(buf[:got])
		n -= int64(got)
		if err != nil && n > 0 {
			return fmt.Errorf("%d bytes are missing: %w", n, err)
		}
	}
	return nil
}

// upload sends n bytes to an [App] and waits until it has them.
func upload(c io.ReadWriter, n int64, verify bool) error {
	if err := ask(c, take, n); err != nil {
		return err
	}
	sum := checksum{on: verify}
	if err := send(c, n, &sum); err != nil {
		return err
	}
	var got [8]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return err
	}
	if verify && binary.BigEndian.Uint64(got[:]) != uint64(sum.sum) {
		return errors.New("upload: what arrived is not what was sent")
	}
	return nil
}

// download receives n bytes from an [App].
func download(c io.ReadWriter, n int64, verify bool) error {
	if err := ask(c, give, n); err != nil {
		return err
	}
	got, want := checksum{on: verify}, checksum{on: verify}
	if err := receive(c, n, &got); err != nil || !verify {
		return err
	}
	if err := send(io.Discard, n, &want); err != nil || got != want {
		return errors.New("download: what arrived is not what was sent")
	}
	return nil
}
