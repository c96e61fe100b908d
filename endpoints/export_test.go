package endpoints

// StateSize counts what a mesh keeps, besides views that are open.
func StateSize(m *Mesh) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.clusters) + len(m.services) + len(m.fronts) + len(m.vips.hosts) + len(m.kinds.byHash)
}
