package main

import (
	"context"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
)

// A snapshot is all that a proxy knew at one time.
type snapshot struct {
	services  map[string]*endpoints.Service
	workloads map[string]*endpoints.Workload
}

func snapshotOf(state *discovery.State) snapshot {
	s := snapshot{map[string]*endpoints.Service{}, map[string]*endpoints.Workload{}}
	for e := range state.Index().Services() {
		s.services[e.Key()] = e.Service
	}
	for w := range state.Index().Workloads() {
		s.workloads[w.UID] = w
	}
	return s
}

func (s snapshot) equal(o snapshot) bool {
	if len(s.services) != len(o.services) || len(s.workloads) != len(o.workloads) {
		return false
	}
	for key, svc := range s.services {
		if other := o.services[key]; other == nil || !svc.Equal(other) {
			return false
		}
	}
	for uid, w := range s.workloads {
		if other := o.workloads[uid]; other == nil || !w.Equal(other) {
			return false
		}
	}
	return true
}

// remember notes what everybody knows at the beginning.
func (w *world) remember() {
	for _, c := range w.sorted() {
		c.known = snapshotOf(c.state)
		c.gatewayKnown = snapshotOf(c.gatewayState)
	}
}

// restore puts both clusters back to how they were at the beginning, and waits
// until everybody knows.
func (w *world) restore(ctx context.Context) error {
	for _, c := range w.sorted() {
		changed, err := c.revert()
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		if err := c.syncApps(ctx); err != nil {
			return err
		}
	}
	return w.await(ctx, "both clusters to be as at the beginning", func() bool {
		for _, c := range w.sorted() {
			if !snapshotOf(c.state).equal(c.known) || !snapshotOf(c.gatewayState).equal(c.gatewayKnown) || !c.proxy.Ready() {
				return false
			}
		}
		return true
	})
}
