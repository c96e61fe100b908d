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
	take   command = 'T' // reads length bytes, answers with their checksum in 4 bytes
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

// NewApp starts an App on loopback.
func NewApp() (*App, error) {
	l, err := listen()
	if err != nil {
		return nil, err
	}
	a := &App{
		Ends:     make(chan End, 16),
		listener: l,
		conns:    make(map[net.Conn]bool),
	}
	a.serving.Go(a.accept)
	return a, nil
}

// Addr returns the address that a listens on.
func (a *App) Addr() string { return a.listener.Addr().String() }

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
		return serveTake(c, n)
	case give:
		if _, err := send(c, n); err != nil {
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

func serveTake(c *net.TCPConn, n int64) error {
	sum, err := receive(c, n)
	if err != nil {
		return err
	}
	if err := binary.Write(c, binary.BigEndian, sum); err != nil {
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
	if _, err := send(c, n); err != nil {
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

var (
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

// send writes n bytes of the payload, and returns their checksum.
func send(w io.Writer, n int64) (sum uint32, err error) {
	for at := 0; n > 0; at = (at + stride) % (len(payload) - chunk) {
		b := payload[at : at+int(min(n, chunk))]
		sum = crc32.Update(sum, castagnoli, b)
		if _, err := w.Write(b); err != nil {
			return 0, err
		}
		n -= int64(len(b))
	}
	return sum, nil
}

// receive reads n bytes, and returns their checksum.
func receive(r io.Reader, n int64) (sum uint32, err error) {
	buf := make([]byte, chunk)
	for n > 0 {
		got, err := r.Read(buf[:min(n, chunk)])
		sum = crc32.Update(sum, castagnoli, buf[:got])
		n -= int64(got)
		if err != nil && n > 0 {
			return 0, fmt.Errorf("%d bytes are missing: %w", n, err)
		}
	}
	return sum, nil
}

// upload sends n bytes to an [App], which must get them.
func upload(c io.ReadWriter, n int64) error {
	if err := ask(c, take, n); err != nil {
		return err
	}
	sent, err := send(c, n)
	if err != nil {
		return err
	}
	var got uint32
	if err := binary.Read(c, binary.BigEndian, &got); err != nil {
		return err
	}
	if got != sent {
		return errors.New("upload: what arrived is not what was sent")
	}
	return nil
}

// download receives n bytes from an [App], which must be those that it sends.
func download(c io.ReadWriter, n int64) error {
	if err := ask(c, give, n); err != nil {
		return err
	}
	got, err := receive(c, n)
	if err != nil {
		return err
	}
	if want, _ := send(io.Discard, n); got != want {
		return errors.New("download: what arrived is not what was sent")
	}
	return nil
}
