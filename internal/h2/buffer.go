package h2

import (
	"io"
	"sync"
)

// A Buffer holds bytes on their way from one connection to another. Buffers are pooled; who has one
// owns it until Release.
type Buffer struct {
	space [BufferSize]byte
	n     int
}

// BufferSize is how much a Buffer holds.
const BufferSize = 64 << 10

var transferPool = sync.Pool{New: func() any { return new(Buffer) }}

// NewBuffer returns an empty Buffer.
func NewBuffer() *Buffer { return transferPool.Get().(*Buffer) }

// Space returns all that the Buffer has room for.
func (b *Buffer) Space() []byte { return b.space[:] }

// Filled says that the first n bytes of Space are to be kept.
func (b *Buffer) Filled(n int) { b.n = n }

// Bytes returns what it holds.
func (b *Buffer) Bytes() []byte { return b.space[:b.n] }

// PassOn writes what b holds to w, all of it unless there is an error, and ends the use of b.
func (b *Buffer) PassOn(w io.Writer) (int, error) {
	defer b.Release()
	n, err := w.Write(b.Bytes())
	if err == nil && n < b.n {
		err = io.ErrShortWrite
	}
	return n, err
}

// Release ends the use of b.
func (b *Buffer) Release() {
	b.n = 0
	transferPool.Put(b)
}
