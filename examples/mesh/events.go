package main

import (
	"bytes"
	"sync"

	"github.com/eastwest-mesh/eastwest/examples/internal/gateway"
	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
)

// events are what the proxies of both clusters tell of their connections.
type events struct {
	mu       sync.Mutex
	proxies  map[string][]ztunnel.Connection // by cluster
	gateways map[string][]gateway.Connection
}

func newEvents() *events {
	e := &events{}
	e.reset()
	return e
}

// reset forgets what was told before.
func (e *events) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proxies = map[string][]ztunnel.Connection{}
	e.gateways = map[string][]gateway.Connection{}
}

func (e *events) proxy(cluster string) func(ztunnel.Connection) {
	return func(c ztunnel.Connection) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.proxies[cluster] = append(e.proxies[cluster], c)
	}
}

func (e *events) gateway(cluster string) func(gateway.Connection) {
	return func(c gateway.Connection) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.gateways[cluster] = append(e.gateways[cluster], c)
	}
}

// outbound returns the connections that applications of a cluster made.
func (e *events) outbound(cluster string) []ztunnel.Connection {
	return e.ofProxy(cluster, func(c ztunnel.Connection) bool { return c.Direction == ztunnel.Outbound })
}

// refusedInbound returns what the node proxy of a cluster refused.
func (e *events) refusedInbound(cluster string) []ztunnel.Connection {
	return e.ofProxy(cluster, func(c ztunnel.Connection) bool { return c.Direction == ztunnel.Inbound && c.Err != nil })
}

func (e *events) ofProxy(cluster string, want func(ztunnel.Connection) bool) []ztunnel.Connection {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []ztunnel.Connection
	for _, c := range e.proxies[cluster] {
		if want(c) {
			found = append(found, c)
		}
	}
	return found
}

// refusedAtGateway returns what the gateway of a cluster refused.
func (e *events) refusedAtGateway(cluster string) []gateway.Connection {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []gateway.Connection
	for _, c := range e.gateways[cluster] {
		if c.Err != nil {
			found = append(found, c)
		}
	}
	return found
}

// A tap looks for the payload in what passes inside of the gateways' outer TLS.
type tap struct {
	mu    sync.Mutex
	bytes int64
	tail  []byte // of what came last, in case the payload is cut
	found int
}

func newTap() *tap { return &tap{} }

// Write implements io.Writer. Streams write in turns; the payload is looked
// for in each piece and across the seam to the one before.
func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes += int64(len(p))
	seen := append(t.tail, p...)
	t.found += bytes.Count(seen, []byte(payload))
	keep := min(len(seen), len(payload)-1)
	t.tail = append([]byte(nil), seen[len(seen)-keep:]...)
	return len(p), nil
}

func (t *tap) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes, t.found, t.tail = 0, 0, nil
}

func (t *tap) seen() (n int64, found int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes, t.found
}
