package dnsproxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	maxPipelined = 64   // queries of one connection that are worked on at one time
	maxQuery     = 4096 // bytes: far more than any question needs
)

var errTooLong = errors.New("dnsproxy: DNS message too long")

// Serve answers on the connections of l until the server is shut down (then it
// returns net.ErrClosed) or l fails. The server closes l.
func (s *Server) Serve(l net.Listener) error {
	sock := listenSocket{l}
	if err := s.add(sock); err != nil {
		return err
	}
	defer s.remove(sock)
	for failures := 0; !s.stopped(); {
		conn, err := l.Accept()
		if err != nil {
			failures++
			if s.stopped() || !s.pause(failures, err) {
				return s.ended(err)
			}
			continue
		}
		failures = 0
		c := &streamSocket{Conn: conn}
		if err := s.add(c); err != nil {
			return net.ErrClosed
		}
		if !s.acquire(s.conns) {
			s.remove(c)
			return net.ErrClosed
		}
		go func() {
			defer func() { <-s.conns }()
			defer s.remove(c)
			s.serveConn(c)
		}()
	}
	return net.ErrClosed
}

type listenSocket struct{ net.Listener }

func (s listenSocket) stop() { s.Close() }

// serveConn answers the queries of one connection, in the order in which the
// answers are ready (RFC 7766 section 6.2.1.1), and returns after the last one.
func (s *Server) serveConn(c *streamSocket) {
	var working sync.WaitGroup
	defer working.Wait()
	pipeline := make(chan struct{}, maxPipelined)
	for {
		pipeline <- struct{}{}
		raw, err := c.readMessage(s.idleTimeout())
		if err != nil {
			return
		}
		s.queries <- struct{}{} // what was read is answered, also while the server stops
		working.Go(func() {
			defer func() {
				<-pipeline
				<-s.queries
			}()
			send := func(b []byte) error { return c.writeMessage(b, s.idleTimeout()) }
			s.respond(&response{local: c.LocalAddr(), remote: c.RemoteAddr(), send: send}, raw)
		})
	}
}

// streamSocket is a TCP connection with messages that have their length in front
// (RFC 1035 section 4.2.2).
type streamSocket struct {
	net.Conn
	mu      sync.Mutex // guards stopped and the read deadline
	stopped bool
	writing sync.Mutex
}

func (c *streamSocket) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.SetReadDeadline(time.Unix(1, 0))
}

// readMessage reads one message, which has to come whole within the timeout.
func (c *streamSocket) readMessage(timeout time.Duration) ([]byte, error) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return nil, net.ErrClosed
	}
	c.SetReadDeadline(time.Now().Add(timeout))
	c.mu.Unlock()
	return readFramed(c, maxQuery)
}

// writeMessage writes one message. A client that does not take it loses its connection.
func (c *streamSocket) writeMessage(b []byte, timeout time.Duration) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.SetWriteDeadline(time.Now().Add(timeout))
	err := writeFramed(c, b)
	if err != nil {
		c.Close()
	}
	return err
}

// readFramed reads one message of at most limit bytes.
func readFramed(r io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > limit {
		return nil, errTooLong
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return raw, nil
}

// writeFramed writes one message in one piece, so that it is one segment (RFC
// 7766 section 8).
func writeFramed(w io.Writer, b []byte) error {
	if len(b) > 0xFFFF {
		return errTooLong
	}
	framed := make([]byte, 2, 2+len(b))
	binary.BigEndian.PutUint16(framed, uint16(len(b)))
	_, err := w.Write(append(framed, b...))
	return err
}
