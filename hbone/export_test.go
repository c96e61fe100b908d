package hbone

// Groups returns how many kinds of tunnels t remembers.
func (t *Transport) Groups() int {
	p := t.tunnels()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.groups)
}
