package hbone

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"time"
)

// A Backend says which of a gateway's backends an inner tunnel leads to, as
// far as anything tells it.
type Backend struct {
	ID     string
	Source BackendSource
}

// A BackendSource is what told a Backend's ID.
type BackendSource string

// The sources, from the surest. Only the header names one backend: pods of the
// same deployment send the same baggage, and pods of the same service account
// on one node may show the same certificate.
const (
	BackendHeader      BackendSource = "header"      // x-eastwest-backend, in a gateway's or the backend's own answer
	BackendBaggage     BackendSource = "baggage"     // of the backend's answer
	BackendCertificate BackendSource = "certificate" // SPIFFE ID and fingerprint of the leaf
	BackendUnknown     BackendSource = ""
)

// HeaderBackend is the response header by which a gateway, or a server behind
// one, tells a Transport which backend it reached: any string that is the same
// for all tunnels to one backend, and for no other's.
const HeaderBackend = "X-Eastwest-Backend"

func backendOfHeader(h http.Header) Backend {
	if id := h.Get(HeaderBackend); id != "" {
		return Backend{ID: id, Source: BackendHeader}
	}
	return Backend{}
}

func backendOfBaggage(h http.Header) Backend {
	if id := h.Get("Baggage"); id != "" {
		return Backend{ID: id, Source: BackendBaggage}
	}
	return Backend{}
}

func backendOfCertificate(state tls.ConnectionState) Backend {
	if len(state.PeerCertificates) == 0 {
		return Backend{}
	}
	leaf := state.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	id := hex.EncodeToString(sum[:8])
	if len(leaf.URIs) > 0 {
		id = leaf.URIs[0].String() + "#" + id
	}
	return Backend{ID: id, Source: BackendCertificate}
}

// A backend gathers the tunnels that lead to one backend, so that load is
// balanced over backends and not over tunnels. A tunnel whose backend is not
// known for certain has one of its own. It is guarded by pool.mu.
type backend struct {
	id       string // empty if not certain
	tunnels  int    // that take new streams
	active   int    // streams
	lastPick uint64
}

// backendOf finds or makes the backend that b names.
func (g *group) backendOf(b Backend) *backend {
	if b.Source != BackendHeader {
		return new(backend)
	}
	if g.backends[b.ID] == nil {
		g.backends[b.ID] = &backend{id: b.ID}
	}
	return g.backends[b.ID]
}

func (g *group) dropBackend(b *backend) {
	b.tunnels--
	if b.tunnels == 0 && b.id != "" {
		delete(g.backends, b.id)
	}
}

// A likeness is what tells backends apart, once a CONNECT was answered: tunnels that differ in it lead to different
// backends, those that share it may lead to one.
type likeness struct {
	told        Backend
	certificate string // empty where told is certain
}

func (tn *tunnel) likeness() likeness {
	if tn.known.Source == BackendHeader {
		return likeness{told: tn.known}
	}
	return likeness{tn.known, backendOfCertificate(tn.path[tn.hop].TLS).ID}
}

// A crowd gathers the tunnels of a group that look alike. A tunnel that has not been met is a crowd of its own. It is
// guarded by pool.mu.
type crowd struct {
	met      bool
	likeness likeness // if met
	tunnels  int      // that take new streams
	census   uint64   // the last of its group's that has counted it
}

// join moves tn to the crowd of its likeness.
func (g *group) join(tn *tunnel) {
	look := tn.likeness()
	c := g.crowds[look]
	if c == nil {
		c = &crowd{met: true, likeness: look}
		g.crowds[look] = c
	}
	c.tunnels++
	tn.crowd = c
}

// leaveCrowd takes tn out of its crowd. With the last of a crowd, a search for what is missing has a reason again.
func (g *group) leaveCrowd(tn *tunnel) {
	tn.crowd.tunnels--
	if tn.crowd.tunnels == 0 && tn.crowd.met {
		delete(g.crowds, tn.crowd.likeness)
		g.vain = 0
	}
}

// meet notes what the answer to the first CONNECT of an application tells of the backend, unless it is known better.
// The answer to one that carries a tunnel tells of the next hop's.
func (tn *tunnel) meet(h http.Header) {
	if tn.hop == 0 || tn.met.Load() {
		return
	}
	p := tn.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if tn.met.Swap(true) {
		return
	}
	if tn.known.Source != BackendHeader {
		tn.recognize(h)
	}
	if tn.retired == "" {
		tn.group.judge(tn, time.Now())
	}
}

func (tn *tunnel) recognize(h http.Header) {
	if told := backendOfHeader(h); told.Source != BackendUnknown {
		tn.known = told
		tn.rebind(told)
	} else if told := backendOfBaggage(h); told.Source != BackendUnknown {
		tn.known = told
	}
}

// rebind moves the load of tn to the backend that it turned out to lead to.
func (tn *tunnel) rebind(b Backend) {
	if tn.retired != "" {
		return
	}
	to := tn.group.backendOf(b)
	to.tunnels++
	to.active += tn.active
	to.lastPick = max(to.lastPick, tn.backend.lastPick)
	tn.group.dropBackend(tn.backend)
	tn.backend = to
}
