package podnet

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
)

// header starts a connection, and each datagram: a PROXY protocol version 2
// header (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, §2.2).
type header struct {
	probe    bool // command LOCAL: is this listener still here? Nothing follows.
	datagram bool
	from, to netip.AddrPort
}

const (
	signature    = "\r\n\r\n\x00\r\nQUIT\n"
	fixedLen     = len(signature) + 4
	commandLocal = 0x20
	commandProxy = 0x21
	familyInet   = 0x10
	familyInet6  = 0x20
	stream       = 0x1
	dgram        = 0x2
	maxHeaderLen = fixedLen + 36
)

// accepted is the listener's answer to a header that names its address.
const accepted = 0x06

var errHeader = errors.New("podnet: not a pod network header")

func (h header) append(b []byte) []byte {
	command, family, size := byte(commandProxy), byte(familyInet), 4
	if h.probe {
		command = commandLocal
	}
	if !h.from.Addr().Is4() || !h.to.Addr().Is4() {
		family, size = familyInet6, 16
	}
	transport := byte(stream)
	if h.datagram {
		transport = dgram
	}
	b = append(b, signature...)
	b = append(b, command, family|transport)
	b = binary.BigEndian.AppendUint16(b, uint16(2*size+4))
	for _, ip := range []netip.Addr{h.from.Addr(), h.to.Addr()} {
		wide := ip.As16()
		b = append(b, wide[16-size:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.from.Port())
	return binary.BigEndian.AppendUint16(b, h.to.Port())
}

// parseHeader reads a header from the start of b and returns what follows it.
func parseHeader(b []byte) (h header, rest []byte, err error) {
	if len(b) < fixedLen || string(b[:len(signature)]) != signature {
		return h, nil, errHeader
	}
	command, family := b[len(signature)], b[len(signature)+1]
	length := int(binary.BigEndian.Uint16(b[fixedLen-2:]))
	size := map[byte]int{familyInet: 4, familyInet6: 16}[family&0xf0]
	known := command == commandLocal || command == commandProxy
	known = known && (family&0xf == stream || family&0xf == dgram)
	if !known || size == 0 || length != 2*size+4 || len(b) < fixedLen+length {
		return h, nil, errHeader
	}
	body := b[fixedLen : fixedLen+length]
	from, _ := netip.AddrFromSlice(body[:size])
	to, _ := netip.AddrFromSlice(body[size : 2*size])
	h.probe = command == commandLocal
	h.datagram = family&0xf == dgram
	h.from = netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(body[2*size:]))
	h.to = netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(body[2*size+2:]))
	return h, b[fixedLen+length:], nil
}

// readHeader reads a header from a connection, and not one byte more.
func readHeader(r io.Reader) (header, error) {
	buf := make([]byte, fixedLen, maxHeaderLen)
	if _, err := io.ReadFull(r, buf); err != nil {
		return header{}, err
	}
	length := int(binary.BigEndian.Uint16(buf[fixedLen-2:]))
	if string(buf[:len(signature)]) != signature || fixedLen+length > maxHeaderLen {
		return header{}, errHeader
	}
	buf = buf[:fixedLen+length]
	if _, err := io.ReadFull(r, buf[fixedLen:]); err != nil {
		return header{}, err
	}
	h, _, err := parseHeader(buf)
	if err == nil && h.datagram {
		err = errHeader
	}
	return h, err
}
