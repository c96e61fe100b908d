// Package protoenc writes protobuf by hand, for codecs that walk a model once, without the messages in between.
//
//	e := protoenc.Get()
//	start := e.Begin(1) // a nested message
//	e.String(2, "name")
//	e.End(start)
//	body := e.Done()
//
// Fields are written in the order in which the caller does. As in proto3, defaults are left out. It checks nothing:
// that strings are UTF-8 is for the caller to see to.
package protoenc

import (
	"bytes"
	"encoding/binary"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// An Encoder appends fields to Buf.
type Encoder struct {
	Buf []byte
}

// encoders keeps buffers.
var encoders = sync.Pool{New: func() any { return &Encoder{Buf: make([]byte, 0, 1024)} }}

// maxBuffer bounds the buffers that are kept.
const maxBuffer = 64 << 10

// Get returns an empty Encoder.
func Get() *Encoder { return encoders.Get().(*Encoder) }

// Done returns what was written, in memory of the right size. The Encoder must not be used any more.
func (e *Encoder) Done() []byte {
	body := bytes.Clone(e.Buf)
	if cap(e.Buf) <= maxBuffer {
		e.Buf = e.Buf[:0]
		encoders.Put(e)
	}
	return body
}

// Tag starts a field. Numbers are below 2048.
func (e *Encoder) Tag(num protowire.Number, t protowire.Type) {
	if tag := uint(num)<<3 | uint(t); tag < 1<<7 {
		e.Buf = append(e.Buf, byte(tag))
	} else {
		e.Buf = append(e.Buf, byte(tag)|1<<7, byte(tag>>7))
	}
}

// Varint writes a number without a tag.
func (e *Encoder) Varint(v uint64) {
	if v < 1<<7 {
		e.Buf = append(e.Buf, byte(v))
	} else {
		e.Buf = protowire.AppendVarint(e.Buf, v)
	}
}

// Element writes a string even if it is empty, as an element of a list or a member of a oneof.
func (e *Encoder) Element(num protowire.Number, s string) {
	e.Tag(num, protowire.BytesType)
	e.Varint(uint64(len(s)))
	e.Buf = append(e.Buf, s...)
}

// String writes a string unless it is empty.
func (e *Encoder) String(num protowire.Number, s string) {
	if s != "" {
		e.Element(num, s)
	}
}

// Bytes writes bytes, also none.
func (e *Encoder) Bytes(num protowire.Number, b []byte) {
	e.Tag(num, protowire.BytesType)
	e.Varint(uint64(len(b)))
	e.Buf = append(e.Buf, b...)
}

// Uint writes a number unless it is 0.
func (e *Encoder) Uint(num protowire.Number, v uint64) {
	if v != 0 {
		e.Tag(num, protowire.VarintType)
		e.Varint(v)
	}
}

// Fixed64 writes eight bytes.
func (e *Encoder) Fixed64(num protowire.Number, v uint64) {
	e.Tag(num, protowire.Fixed64Type)
	e.Buf = binary.LittleEndian.AppendUint64(e.Buf, v)
}

// Begin starts a nested message, and returns where its content starts.
func (e *Encoder) Begin(num protowire.Number) int {
	e.Tag(num, protowire.BytesType)
	e.Buf = append(e.Buf, 0) // room for a length below 128
	return len(e.Buf)
}

// End writes the length of a nested message before its content, which moves if the length needs more room.
func (e *Encoder) End(start int) {
	n := len(e.Buf) - start
	if n < 1<<7 {
		e.Buf[start-1] = byte(n)
		return
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	e.Buf = append(e.Buf, make([]byte, more)...)
	copy(e.Buf[start+more:], e.Buf[start:start+n])
	protowire.AppendVarint(e.Buf[:start-1], uint64(n))
}
