package dnsproxy

import (
	"net"

	"github.com/miekg/dns"
)

// respond answers one message of the wire.
func (s *Server) respond(w *response, raw []byte) {
	if len(raw) < headerLen || raw[2]&flagQR != 0 {
		return // RFC 9267 section 8: who answers responses makes loops
	}
	q := new(dns.Msg)
	if err := q.Unpack(raw); err != nil {
		_, _ = w.Write(formatError(raw)) // a client that does not hear of it asks again
		return
	}
	s.Handler.ServeDNS(w, q)
}

const (
	headerLen = 12
	flagQR    = 0x80
)

// formatError is the answer to a message that cannot be read: its header alone.
func formatError(raw []byte) []byte {
	resp := make([]byte, headerLen)
	copy(resp, raw[:4])
	resp[2] = resp[2]&0x79 | flagQR // the opcode and RD stay
	resp[3] = dns.RcodeFormatError
	return resp
}

// response is the dns.ResponseWriter of one query.
type response struct {
	local, remote net.Addr
	send          func([]byte) error // of one message in wire format
	buf           []byte             // to pack into; belongs to the server again when the handler returns
}

var _ dns.ResponseWriter = (*response)(nil)

func (w *response) LocalAddr() net.Addr  { return w.local }
func (w *response) RemoteAddr() net.Addr { return w.remote }

func (w *response) WriteMsg(m *dns.Msg) error {
	packed, err := m.PackBuffer(w.buf)
	if err != nil {
		return err
	}
	return w.send(packed)
}

func (w *response) Write(packed []byte) (int, error) {
	if err := w.send(packed); err != nil {
		return 0, err
	}
	return len(packed), nil
}

// Close does nothing: the connection is the server's.
func (w *response) Close() error { return nil }

// TsigStatus returns nil: the server does not verify transaction signatures.
func (w *response) TsigStatus() error { return nil }

// TsigTimersOnly does nothing.
func (w *response) TsigTimersOnly(bool) {}

// Hijack does nothing: the connection stays the server's.
func (w *response) Hijack() {}
