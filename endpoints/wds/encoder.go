package wds

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// An encoder writes protobuf by hand: the model is walked once, without the messages in between. Fields are
// written in the order of their numbers (a oneof last) and maps in the order of their keys, so that equal
// resources give equal bytes. Tests hold it to the protobuf library.
type encoder struct {
	buf      []byte
	resource string
	err      error
}

func (e *encoder) fail(field, problem string) {
	if e.err == nil {
		e.err = &FieldError{Resource: e.resource, Field: field, Problem: problem}
	}
}

// element writes a string even if it is empty, as an element of a list.
func (e *encoder) element(num protowire.Number, field, s string) {
	if !utf8.ValidString(s) {
		e.fail(field, "not UTF-8")
	}
	e.buf = protowire.AppendTag(e.buf, num, protowire.BytesType)
	e.buf = protowire.AppendString(e.buf, s)
}

// string writes a string unless it is empty, which is the default.
func (e *encoder) string(num protowire.Number, field, s string) {
	if s != "" {
		e.element(num, field, s)
	}
}

func (e *encoder) bytes(num protowire.Number, b []byte) {
	e.buf = protowire.AppendTag(e.buf, num, protowire.BytesType)
	e.buf = protowire.AppendBytes(e.buf, b)
}

func (e *encoder) uint(num protowire.Number, v uint64) {
	if v != 0 {
		e.buf = protowire.AppendTag(e.buf, num, protowire.VarintType)
		e.buf = protowire.AppendVarint(e.buf, v)
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
		e.buf = protowire.AppendVarint(e.buf, uint64(v))
	}
	e.end(start)
}

// begin starts a nested message, and returns where its content starts.
func (e *encoder) begin(num protowire.Number) int {
	e.buf = protowire.AppendTag(e.buf, num, protowire.BytesType)
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
