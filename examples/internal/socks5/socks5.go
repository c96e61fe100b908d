// Package socks5 is the server's side of a SOCKS5 CONNECT (RFC 1928) without
// authentication: the way in for applications on a machine where traffic
// cannot be captured.
//
//	req, err := socks5.Accept(conn)   // what does the client want?
//	up, err := dial(req.Address)      // the caller's business
//	req.Grant()                       // or req.Refuse(socks5.ConnectionRefused)
//
// It offers no BIND, no UDP ASSOCIATE and no authentication: listen on
// addresses that only the intended client can reach.
package socks5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
)

// A Reply is the answer to a request, RFC 1928 section 6.
type Reply byte

// Replies that a server of CONNECT gives.
const (
	granted              Reply = 0
	GeneralFailure       Reply = 1
	NotAllowed           Reply = 2
	NetworkUnreachable   Reply = 3
	HostUnreachable      Reply = 4
	ConnectionRefused    Reply = 5
	TTLExpired           Reply = 6
	commandNotSupported  Reply = 7
	addressNotRecognized Reply = 8
)

const (
	version       = 5
	noAuth        = 0
	noneAccepted  = 0xff
	connect       = 1
	addressIPv4   = 1
	addressDomain = 3
	addressIPv6   = 4
)

// ErrProtocol is what every malformed or unsupported request unwraps to.
var ErrProtocol = errors.New("socks5: protocol error")

// A Request is a CONNECT that awaits its answer: Grant or Refuse.
type Request struct {
	// Address is the wanted destination as host:port; the host is a name or an
	// IP address, as the client gave it.
	Address string

	conn net.Conn
}

// Accept reads the client's greeting and request from conn. It reads no byte
// beyond them. The caller sets deadlines, and closes conn when Accept fails;
// the client has then been told why as far as the protocol can say it.
func Accept(conn net.Conn) (*Request, error) {
	if err := greet(conn); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("socks5: reading the request: %w", err)
	}
	r := &Request{conn: conn}
	if head[0] != version {
		return nil, fmt.Errorf("%w: request of version %d", ErrProtocol, head[0])
	}
	if head[1] != connect {
		return nil, r.unsupported(commandNotSupported, "command", head[1])
	}
	host, err := r.readHost(head[3])
	if err != nil {
		return nil, err
	}
	var port [2]byte
	if _, err := io.ReadFull(conn, port[:]); err != nil {
		return nil, fmt.Errorf("socks5: reading the port: %w", err)
	}
	r.Address = net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port[:]))))
	return r, nil
}

// greet agrees on no authentication, the only method offered here.
func greet(conn net.Conn) error {
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return fmt.Errorf("socks5: reading the greeting: %w", err)
	}
	if head[0] != version {
		return fmt.Errorf("%w: greeting of version %d", ErrProtocol, head[0])
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(conn, methods); err != nil {
		return fmt.Errorf("socks5: reading the methods: %w", err)
	}
	for _, m := range methods {
		if m == noAuth {
			_, err := conn.Write([]byte{version, noAuth})
			return err
		}
	}
	_, err := conn.Write([]byte{version, noneAccepted})
	return errors.Join(fmt.Errorf("%w: the client insists on authentication", ErrProtocol), err)
}

func (r *Request) readHost(kind byte) (string, error) {
	var length int
	switch kind {
	case addressIPv4:
		length = net.IPv4len
	case addressIPv6:
		length = net.IPv6len
	case addressDomain:
		var n [1]byte
		if _, err := io.ReadFull(r.conn, n[:]); err != nil {
			return "", fmt.Errorf("socks5: reading the address: %w", err)
		}
		length = int(n[0])
	default:
		return "", r.unsupported(addressNotRecognized, "address type", kind)
	}
	host := make([]byte, length)
	if _, err := io.ReadFull(r.conn, host); err != nil {
		return "", fmt.Errorf("socks5: reading the address: %w", err)
	}
	if kind == addressDomain {
		if !isName(host) {
			err := fmt.Errorf("%w: %q is not a host name", ErrProtocol, host)
			return "", errors.Join(err, r.Refuse(addressNotRecognized))
		}
		return string(host), nil
	}
	ip, _ := netip.AddrFromSlice(host)
	return ip.String(), nil
}

// isName keeps out what would change the meaning of host:port or of a log line.
func isName(host []byte) bool {
	for _, c := range host {
		letterOrDigit := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letterOrDigit && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return len(host) > 0
}

func (r *Request) unsupported(reply Reply, what string, value byte) error {
	err := fmt.Errorf("%w: %s %d", ErrProtocol, what, value)
	return errors.Join(err, r.Refuse(reply))
}

// Grant tells the client that it is connected; what follows on the connection
// is the client's conversation with its destination.
func (r *Request) Grant() error { return r.answer(granted) }

// Refuse tells the client why it is not connected. The caller closes the
// connection.
func (r *Request) Refuse(reply Reply) error { return r.answer(reply) }

// answer names no bound address: RFC 1928 wants one, clients of CONNECT do not
// use it, and the real one is the mesh's business.
func (r *Request) answer(reply Reply) error {
	_, err := r.conn.Write([]byte{version, byte(reply), 0, addressIPv4, 0, 0, 0, 0, 0, 0})
	return err
}
