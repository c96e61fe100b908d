package wds

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// An encoder writes protobuf by hand: the model is walked once, without the messages in between. Fields are
// written in the order of their numbers (a oneof last) and maps in the order of their keys, so that equal
// resources give equal bytes. Tests hold it to the protobuf library.
type encoder struct {
	buf []byte
	err *FieldError // the first one, without the resource's name
}

// encoders keeps buffers. Bodies are copied out of them: they are kept for long, and should have the right size.
var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, 1024)} }}

func newEncoder() *encoder { return encoders.Get().(*encoder) }

// maxBuffer bounds the buffers that are kept.
const maxBuffer = 64 << 10

// tag starts a field. Numbers are below 2048.
func (e *encoder) tag(num protowire.Number, t protowire.Type) {
	if tag := uint(num)<<3 | uint(t); tag < 1<<7 {
		e.buf = append(e.buf, byte(tag))
	} else {
		e.buf = append(e.buf, byte(tag)|1<<7, byte(tag>>7))
	}
}

func (e *encoder) varint(v uint64) {
	if v < 1<<7 {
		e.buf = append(e.buf, byte(v))
	} else {
		e.buf = protowire.AppendVarint(e.buf, v)
	}
}

// result returns what was encoded, or the error with the name of the resource. It is the end of the encoder.
func (e *encoder) result(name func() string) ([]byte, error) {
	body, err := bytes.Clone(e.buf), e.err
	if cap(e.buf) <= maxBuffer {
		e.buf, e.err = e.buf[:0], nil
		encoders.Put(e)
	}
	if err != nil {
		err.Resource = name()
		return nil, err
	}
	return body, nil
}

func (e *encoder) fail(field, problem string) {
	if e.err == nil {
		e.err = &FieldError{Field: field, Problem: problem}
	}
}

// element writes a string even if it is empty, as an element of a list.
func (e *encoder) element(num protowire.Number, field, s string) {
	if !utf8.ValidString(s) {
		e.fail(field, "not UTF-8")
	}
	e.tag(num, protowire.BytesType)
	e.varint(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

// string writes a string unless it is empty, which is the default.
func (e *encoder) string(num protowire.Number, field, s string) {
	if s != "" {
		e.element(num, field, s)
	}
}

func (e *encoder) bytes(num protowire.Number, b []byte) {
	e.tag(num, protowire.BytesType)
	e.varint(uint64(len(b)))
	e.buf = append(e.buf, b...)
}

func (e *encoder) uint(num protowire.Number, v uint64) {
	if v != 0 {
		e.tag(num, protowire.VarintType)
		e.varint(v)
	}
}

func (e *encoder) bool(num protowire.Number, v bool) {
	if v {
		e.uint(num, 1)
	}
}

// packed writes a list of numbers.
func packed[T ~uint8 | ~uint16](e *encoder, num protowire.Number, values []T) {
	if len(values) == 0 {
		return
	}
	start := e.begin(num)
	for _, v := range values {
		e.varint(uint64(v))
	}
	e.end(start)
}

// begin starts a nested message, and returns where its content starts.
func (e *encoder) begin(num protowire.Number) int {
	e.tag(num, protowire.BytesType)
	e.buf = append(e.buf, 0) // room for a length below 128
	return len(e.buf)
}

// end writes the length of a nested message before its content, which moves if the length needs more room.
func (e *encoder) end(start int) {
	n := len(e.buf) - start
	if n < 1<<7 {
		e.buf[start-1] = byte(n)
		return
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	e.buf = append(e.buf, make([]byte, more)...)
	copy(e.buf[start+more:], e.buf[start:start+n])
	protowire.AppendVarint(e.buf[:start-1], uint64(n))
}
