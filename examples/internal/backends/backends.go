// Package backends chooses a backend of a service for a new connection: it
// keeps a balancer of package lb for each port of each service that is in use,
// filled from package endpoints.
package backends

import (
	"fmt"
	"sync"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/lb"
)

// A Backend is a workload that serves a port of a service.
type Backend struct {
	*endpoints.Workload
	TargetPort uint16
}

// A Pick is a chosen Backend. Its Done must be called once.
type Pick = lb.Pick[Backend]

// Config says how a Chooser chooses. The zero value works.
type Config struct {
	// Usable says which workloads can be reached at all. Default: all.
	Usable func(*endpoints.Workload) bool
	// AnyLocality takes all backends alike, wherever they are. It is for those
	// who choose on behalf of a client that has made that choice already.
	// Default: as the load balancing of each service prefers.
	AnyLocality bool
	// Algorithm and Outlier are those of lb.Config, with its defaults.
	Algorithm lb.Algorithm
	Outlier   lb.Outlier
	// Rand is that of lb.Config, with its default.
	Rand func() uint64
}

// A Chooser chooses backends. It is safe for concurrent use.
type Chooser struct {
	cfg Config

	mu    sync.RWMutex
	ports map[portKey]*servicePort
}

type portKey struct {
	service string
	port    uint16
	source  lb.Locality
}

type servicePort struct {
	entry    *endpoints.ServiceEntry // that balancer was filled from
	balancer *lb.Balancer[Backend]
}

// NewChooser returns a Chooser.
func NewChooser(cfg Config) *Chooser {
	if cfg.Usable == nil {
		cfg.Usable = func(*endpoints.Workload) bool { return true }
	}
	return &Chooser{cfg: cfg, ports: map[portKey]*servicePort{}}
}

// A PortError says that a service has no such port.
type PortError struct {
	Service string
	Port    uint16
}

func (e *PortError) Error() string {
	return fmt.Sprintf("service %s has no port %d", e.Service, e.Port)
}

// Pick chooses a backend for a connection from source to a port of a service,
// other than those excluded. Of a service that passes connections through, with
// whatever port, the error is lb.ErrPassthrough.
func (c *Chooser) Pick(s *endpoints.ServiceEntry, port uint16, source lb.Locality, exclude []lb.ID) (Pick, error) {
	if s.LoadBalancing != nil && s.LoadBalancing.Mode == endpoints.ModePassthrough {
		return Pick{}, lb.ErrPassthrough
	}
	b, err := c.balancer(s, portKey{s.Key(), port, source})
	if err != nil {
		return Pick{}, err
	}
	return b.Pick(lb.Request{Exclude: exclude})
}

func (c *Chooser) balancer(s *endpoints.ServiceEntry, key portKey) (*lb.Balancer[Backend], error) {
	c.mu.RLock()
	sp := c.ports[key]
	c.mu.RUnlock()
	if sp != nil && sp.entry == s {
		return sp.balancer, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sp = c.ports[key]; sp != nil && sp.entry == s {
		return sp.balancer, nil
	}
	servicePort, ok := findPort(s.Ports, key.port)
	if !ok {
		return nil, &PortError{s.Key(), key.port}
	}
	sp, err := c.fill(sp, s, servicePort, key.source)
	if err != nil {
		return nil, err
	}
	c.ports[key] = sp
	return sp.balancer, nil
}

// fill brings a balancer in line with what is known of its service now. The
// balancer of before keeps what it learnt about the targets that stay.
func (c *Chooser) fill(old *servicePort, s *endpoints.ServiceEntry, port endpoints.Port, source lb.Locality) (*servicePort, error) {
	sp := &servicePort{entry: s}
	if old != nil {
		sp.balancer = old.balancer
	} else {
		b, err := lb.New[Backend](lb.Config{Source: source, Algorithm: c.cfg.Algorithm, Outlier: c.cfg.Outlier, Rand: c.cfg.Rand})
		if err != nil {
			return nil, err
		}
		sp.balancer = b
	}
	if err := sp.balancer.SetPolicy(c.policy(s.LoadBalancing)); err != nil {
		return nil, err
	}
	return sp, sp.balancer.Update(c.targets(s, port))
}

// targets are the endpoints that can serve the port, as ztunnel chooses
// candidates.
func (c *Chooser) targets(s *endpoints.ServiceEntry, port endpoints.Port) []lb.Target[Backend] {
	targets := make([]lb.Target[Backend], 0, s.Len())
	for e := range s.Endpoints() {
		targetPort := port.TargetPort
		p, told := findPort(e.Ports, port.ServicePort)
		if told && p.TargetPort != 0 {
			targetPort = p.TargetPort
		}
		w := e.Workload
		if w.NetworkGateway != nil && len(w.Addresses) == 0 {
			if !told {
				continue // its cluster has other ports
			}
			targetPort = port.ServicePort // who is behind the gateway knows its own
		}
		if targetPort == 0 || !c.cfg.Usable(w) {
			continue
		}
		t := lb.Target[Backend]{
			Value:    Backend{w, targetPort},
			Key:      w.UID,
			Locality: Locality(w),
			Weight:   w.Weight(),
			Health:   lb.Health(w.Health),
		}
		if w.NetworkGateway != nil {
			t.Gateway = w.NetworkGateway.String()
		}
		targets = append(targets, t)
	}
	return targets
}

// Forget drops what is kept for services that an index does not have.
func (c *Chooser) Forget(index *endpoints.Index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.ports {
		if index.Service(key.service) == nil {
			delete(c.ports, key)
		}
	}
}

// Locality returns where a workload is, as lb compares it.
func Locality(w *endpoints.Workload) lb.Locality {
	return lb.Locality{
		Network: w.Network,
		Cluster: w.Cluster,
		Region:  w.Locality.Region,
		Zone:    w.Locality.Zone,
		Subzone: w.Locality.Subzone,
		Node:    w.Node,
	}
}

// policy reads what WDS says of a service; the numbers of both packages are
// those of WDS.
func (c *Chooser) policy(l *endpoints.LoadBalancing) lb.Policy {
	if l == nil {
		return lb.Policy{}
	}
	p := lb.Policy{Mode: lb.Mode(l.Mode), Health: lb.HealthPolicy(l.HealthPolicy)}
	if c.cfg.AnyLocality {
		p.Mode = lb.Standard
		return p
	}
	for _, s := range l.Preference {
		if s > endpoints.SameNetwork && p.Mode == lb.Failover {
			// A preference of a newer control plane. Nobody is refused for want
			// of it, unlike under STRICT, so the ones before it decide.
			break
		}
		if s != endpoints.SameUnspecified {
			p.Preferences = append(p.Preferences, lb.Scope(s))
		}
	}
	return p
}

func findPort(ports []endpoints.Port, servicePort uint16) (endpoints.Port, bool) {
	for _, p := range ports {
		if p.ServicePort == servicePort {
			return p, true
		}
	}
	return endpoints.Port{}, false
}
