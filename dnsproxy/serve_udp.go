package dnsproxy

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// ServePacket answers the datagrams of pc until the server is shut down (then it
// returns net.ErrClosed) or pc fails. The server closes pc.
func (s *Server) ServePacket(pc net.PacketConn) error {
	sock := packetSocket{pc}
	if err := s.add(sock); err != nil {
		return err
	}
	defer s.remove(sock)
	var working sync.WaitGroup
	defer working.Wait() // the socket has to last until they have answered
	read, err := packetReader(pc)
	if err != nil {
		return fmt.Errorf("dnsproxy: %w", err)
	}
	for failures := 0; !s.stopped(); {
		buf := buffers.Get().(*packetBuffers)
		n, reply, remote, err := read(buf.in[:])
		if err != nil {
			buffers.Put(buf)
			failures++
			if s.stopped() || !s.pause(failures, err) {
				return s.ended(err)
			}
			continue
		}
		failures = 0
		s.queries <- struct{}{} // what was read is answered, also while the server stops
		working.Go(func() {
			defer func() {
				buffers.Put(buf)
				<-s.queries
			}()
			w := &response{local: pc.LocalAddr(), remote: remote, send: reply, buf: buf.out[:]}
			s.respond(w, buf.in[:n])
		})
	}
	return net.ErrClosed
}

// ended is the error that a socket's loop returns.
func (s *Server) ended(err error) error {
	if s.stopped() {
		return net.ErrClosed
	}
	return fmt.Errorf("dnsproxy: %w", err)
}

// packetBuffers are what one query over UDP needs. Queries are small; most
// responses too, and for the others the packer makes room.
type packetBuffers struct {
	in  [maxQuery]byte
	out [1232]byte
}

var buffers = sync.Pool{New: func() any { return new(packetBuffers) }}

type packetSocket struct{ net.PacketConn }

func (s packetSocket) stop() { _ = s.SetReadDeadline(time.Unix(1, 0)) }

// readPacket reads one datagram and says how to answer it.
type readPacket func([]byte) (n int, reply func([]byte) error, remote net.Addr, err error)

// packetReader returns the cheapest way to read from pc and to answer from the
// address that was asked, as clients expect.
func packetReader(pc net.PacketConn) (readPacket, error) {
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return func(b []byte) (int, func([]byte) error, net.Addr, error) {
			n, remote, err := pc.ReadFrom(b)
			reply := func(b []byte) error { _, err := pc.WriteTo(b, remote); return err }
			return n, reply, remote, err
		}, nil
	}
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok && !local.IP.IsUnspecified() {
		return func(b []byte) (int, func([]byte) error, net.Addr, error) {
			n, remote, err := conn.ReadFromUDPAddrPort(b)
			reply := func(b []byte) error { _, err := conn.WriteToUDPAddrPort(b, remote); return err }
			return n, reply, net.UDPAddrFromAddrPort(remote), err
		}, nil
	}
	// A wildcard socket: the kernel has to tell which address was asked. A socket
	// of either family takes the option of at least one.
	err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	if err4 != nil && err6 != nil {
		return nil, err4
	}
	return func(b []byte) (int, func([]byte) error, net.Addr, error) {
		n, session, err := dns.ReadFromSessionUDP(conn, b)
		if err != nil {
			return 0, nil, nil, err
		}
		reply := func(b []byte) error { _, err := dns.WriteToSessionUDP(conn, b, session); return err }
		return n, reply, session.RemoteAddr(), nil
	}, nil
}
