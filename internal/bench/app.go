package bench

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"sync"
)

// A Direction is that of bulk data.
type Direction string

// The directions, as the client sees them.
const (
	Up   Direction = "up"
	Down Direction = "down"
)

const (
	bufferSize  = 64 << 10
	messageSize = 1 << 10
)

// What a client asks the application for, with a size in bytes.
const (
	opUp   = 'u' // to receive so much, and answer
	opDown = 'd' // to send so much
	opEcho = 'e' // to echo messages of so much in total

	opVerify = 0x80 // of opUp and opDown: a checksum follows
)

const requestSize = 9

// Pooled, so that the application's memory is not counted as a connection's.
var (
	buffers  = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	messages = sync.Pool{New: func() any { return new([requestSize + messageSize]byte) }}
)

// serve is the application: it does what clients ask for on a connection, one
// thing after the other.
func serve(conn net.Conn) {
	defer conn.Close()
	buf := messages.Get().(*[requestSize + messageSize]byte)
	defer messages.Put(buf)
	request, message := buf[:requestSize], buf[requestSize:]
	for {
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		size := int64(binary.BigEndian.Uint64(request[1:]))
		verify := request[0]&opVerify != 0
		var err error
		switch request[0] &^ opVerify {
		case opUp:
			if err = receive(conn, size, verify); err == nil {
				_, err = conn.Write(request)
			}
		case opDown:
			err = send(conn, size, verify)
		case opEcho:
			err = echo(conn, size, message)
		default:
			return
		}
		if err != nil {
			return
		}
	}
}

func appendRequest(b []byte, op byte, size int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, op), uint64(size))
}

// transfer asks for bulk data in one direction and takes part in it.
func transfer(conn net.Conn, d Direction, size int64, verify bool) error {
	op := byte(opUp)
	if d == Down {
		op = opDown
	}
	if verify {
		op |= opVerify
	}
	if _, err := conn.Write(appendRequest(nil, op, size)); err != nil {
		return err
	}
	if d == Down {
		return receive(conn, size, verify)
	}
	if err := send(conn, size, verify); err != nil {
		return err
	}
	var answer [requestSize]byte
	_, err := io.ReadFull(conn, answer[:])
	return err
}

// send writes size bytes, 64 KiB at a time.
func send(conn net.Conn, size int64, verify bool) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	sum := crc32.New(castagnoli)
	for left := size; left > 0; {
		p := buf[:min(left, bufferSize)]
		if verify {
			stamp(p, left)
			sum.Write(p)
		}
		n, err := conn.Write(p)
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	if !verify {
		return nil
	}
	_, err := conn.Write(sum.Sum(nil))
	return err
}

// stamp makes every KiB of p unlike all others of the transfer.
func stamp(p []byte, left int64) {
	for ; len(p) >= 8; p = p[min(len(p), 1<<10):] {
		binary.BigEndian.PutUint64(p, uint64(left)<<16|uint64(len(p)))
	}
}

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errChecksum = errors.New("bench: what was received is not what was sent")
)

// receive reads size bytes, at most 64 KiB at a time.
func receive(conn net.Conn, size int64, verify bool) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	sum := crc32.New(castagnoli)
	for left := size; left > 0; {
		n, err := conn.Read(buf[:min(left, bufferSize)])
		if err != nil {
			return err
		}
		if verify {
			sum.Write(buf[:n])
		}
		left -= int64(n)
	}
	if !verify {
		return nil
	}
	var sent [crc32.Size]byte
	if _, err := io.ReadFull(conn, sent[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(sent[:]) != sum.Sum32() {
		return errChecksum
	}
	return nil
}

// echo sends messages back, in total size bytes.
func echo(conn net.Conn, size int64, message []byte) error {
	for ; size > 0; size -= messageSize {
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		if _, err := conn.Write(message); err != nil {
			return err
		}
	}
	return nil
}
