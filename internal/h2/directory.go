package h2

import "sync/atomic"

// A directory finds streams that DATA came for of late, as long as more may come. To find one takes no lock; the rest
// needs Conn.mu.
type directory [64]atomic.Pointer[Stream]

func (d *directory) place(id uint32) *atomic.Pointer[Stream] {
	return &d[id/2%uint32(len(d))] // a peer's ids are all even or all odd
}

// find returns nil if the stream is not there.
func (d *directory) find(id uint32) *Stream {
	if s := d.place(id).Load(); s != nil && s.id == id {
		return s
	}
	return nil
}

func (d *directory) add(s *Stream) { d.place(s.id).Store(s) }

func (d *directory) remove(s *Stream) {
	if p := d.place(s.id); p.Load() == s {
		p.Store(nil)
	}
}
