package istioca

import (
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Manager keeps one Source for each identity that somebody needs, all over one
// Client. It is safe for concurrent use and must be closed.
type Manager struct {
	client *Client

	mu      sync.Mutex
	sources map[spiffeid.ID]*shared // nil when closed
	closing sync.WaitGroup
}

type shared struct {
	source *Source
	users  int
}

// NewManager returns a manager that fetches with a client.
func NewManager(client *Client) *Manager {
	return &Manager{client: client, sources: make(map[spiffeid.ID]*shared)}
}

// Acquire returns the source of an identity, and starts it if nobody has it yet.
// Each Acquire must be followed by one Release. After Close it returns ErrClosed.
func (m *Manager) Acquire(id spiffeid.ID) (*Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sources == nil {
		return nil, ErrClosed
	}
	s := m.sources[id]
	if s == nil {
		s = &shared{source: m.client.Source(id)}
		m.sources[id] = s
	}
	s.users++
	return s.source, nil
}

// Release says that an Acquire is over. The last one closes the source and
// forgets its key. It does not wait.
func (m *Manager) Release(id spiffeid.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sources[id]
	if s == nil {
		return
	}
	if s.users--; s.users > 0 {
		return
	}
	delete(m.sources, id)
	m.end(s)
}

// end closes a source. The lock is held: closing may grow only before Close.
func (m *Manager) end(s *shared) { m.closing.Go(func() { _ = s.source.Close() }) }

// Identities returns the identities in use, in no order.
func (m *Manager) Identities() []spiffeid.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]spiffeid.ID, 0, len(m.sources))
	for id := range m.sources {
		ids = append(ids, id)
	}
	return ids
}

// Close closes all sources, whoever has them, and waits for them.
func (m *Manager) Close() error {
	m.mu.Lock()
	for _, s := range m.sources {
		m.end(s)
	}
	m.sources = nil
	m.mu.Unlock()
	m.closing.Wait()
	return nil
}
