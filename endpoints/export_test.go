package endpoints

import "github.com/eastwest-mesh/eastwest/internal/pmap"

// StateSize counts what a mesh keeps, besides views that are open.
func StateSize(m *Mesh) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.clusters) + len(m.services) + len(m.fronts) + len(m.vips.hosts) + len(m.kinds.byHash)
}

// FarSets counts the different sets of the horizon that views have.
func FarSets(m *Mesh) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	sets := make(map[pmap.Set[*packed]]bool)
	for c, v := range m.views {
		if c.Role != GatewayRole {
			sets[v.far.all] = true
		}
	}
	return len(sets)
}
