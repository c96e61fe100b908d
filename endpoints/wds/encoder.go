package wds

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/eastwest-mesh/eastwest/internal/protoenc"
)

// An encoder writes protobuf by hand: the model is walked once, without the messages in between. Fields are
// written in the order of their numbers (a oneof last) and maps in the order of their keys, so that equal
// resources give equal bytes. Tests hold it to the protobuf library.
type encoder struct {
	*protoenc.Encoder
	err     *FieldError // the first one, without the resource's name
	strange []strangeElement
	seen    map[string]uint64 // how many elements of a key there were, if any are strange
}

func newEncoder() encoder { return encoder{Encoder: protoenc.Get()} }

// result returns what was encoded, or the error with the name of the resource. It is the end of the encoder.
func (e *encoder) result(name func() string) ([]byte, error) {
	body := e.Done()
	if e.err != nil {
		e.err.Resource = name()
		return nil, e.err
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
	e.Element(num, s)
}

// string writes a string unless it is empty, which is the default.
func (e *encoder) string(num protowire.Number, field, s string) {
	if s != "" {
		e.element(num, field, s)
	}
}

func (e *encoder) bool(num protowire.Number, v bool) {
	if v {
		e.Uint(num, 1)
	}
}

// packed writes a list of numbers.
func packed[T ~uint8 | ~uint16](e *encoder, num protowire.Number, values []T) {
	if len(values) == 0 {
		return
	}
	start := e.Begin(num)
	for _, v := range values {
		e.Varint(uint64(v))
	}
	e.End(start)
}
