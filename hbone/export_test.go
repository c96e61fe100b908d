package hbone

// Groups returns how many kinds of tunnels t remembers.
func (t *Transport) Groups() int {
	p := t.tunnels()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.groups)
}

// MemoryUsed returns what the tunnels of t hold of HTTP2.MemoryLimit.
func (t *Transport) MemoryUsed() int64 { return t.tunnels().memory.Used() }

// MemoryUsed returns what the tunnels of s hold of HTTP2.MemoryLimit.
func (s *Server) MemoryUsed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory == nil {
		return 0
	}
	return s.memory.Used()
}

// BytesReceived returns how many bytes came on c, read or not.
func BytesReceived(c *Conn) int64 {
	_, received := c.stream.Transferred()
	return received
}
