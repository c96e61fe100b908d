package hbone

import (
	"net/http"
	"slices"
)

// A Path is the way to a destination: one HBONE server after the other. One
// hop is plain HBONE. Two hops are double HBONE, through the gateway of
// another network. There is no maximum.
//
// The Transport reads a Path and never changes it; it may be shared and
// reused, but not modified while a Dial with it runs.
type Path struct {
	// Hops are the HBONE servers on the way, nearest first.
	Hops []Hop

	// StreamHeader is sent with the last CONNECT, the one that opens the
	// application's own stream: baggage, forwarded, traceparent,
	// x-forwarded-network. One that HTTP/2 cannot carry fails the dial with a
	// HopError that is not retryable, as does a Hop's TunnelHeader.
	StreamHeader http.Header

	// Spread is how many inner tunnels to keep, at most, where the path has
	// more than one hop: a gateway pins one backend to each stream that it
	// forwards, so this many backends share the load. Tunnels beyond the first
	// are made in the background, as dials show that they are wanted; there may be
	// twice as many while it turns out which of them lead to the same backend. It does
	// not decide which tunnels may be shared; the latest Dial's value counts.
	//
	// If zero, the default of 4 is used. If negative or one, a single inner
	// tunnel carries everything until it is full.
	Spread int
}

// A Hop is one HBONE server on a Path, and what is asked of it.
type Hop struct {
	// Address is what to dial, as host:port. It is set on the first hop only:
	// the others are reached through a stream of the hop before them.
	Address string

	// Authority is the :authority of the CONNECT sent to this hop, as
	// host:port, such as "10.1.0.10:8080" or
	// "reviews.app.svc.cluster.local:80". It is sent unchanged.
	Authority string

	// TLS says who we are and whom we accept on this hop. It is required.
	TLS Credentials

	// TunnelHeader is sent with a CONNECT that carries the tunnel to the next
	// hop. That tunnel is shared by many streams, so this must be the same for
	// all of them, and is part of what decides which streams may share; data
	// of one connection belongs in Path.StreamHeader. On the last hop it must
	// be empty.
	TunnelHeader http.Header
}

// cloneHops copies hops for use after the Dial that they came with.
func cloneHops(hops []Hop) []Hop {
	hops = slices.Clone(hops)
	for i := range hops {
		hops[i].TunnelHeader = hops[i].TunnelHeader.Clone()
	}
	return hops
}

const defaultSpread = 4

func (p Path) spread() int {
	switch {
	case p.Spread == 0:
		return defaultSpread
	case p.Spread < 1:
		return 1
	}
	return p.Spread
}

// check returns a *ConfigError for the first hop that cannot be right.
func (p Path) check() error {
	if len(p.Hops) == 0 {
		return &ConfigError{Hop: -1, Field: "Path.Hops", Err: errEmpty}
	}
	for i, hop := range p.Hops {
		field, err := hop.check(i == 0, i == len(p.Hops)-1)
		if err != nil {
			return &ConfigError{Hop: i, Field: "Hop." + field, Err: err}
		}
	}
	return nil
}

func (h Hop) check(first, last bool) (field string, err error) {
	switch {
	case first && h.Address == "":
		return "Address", errEmpty
	case !first && h.Address != "":
		return "Address", errInnerAddress
	case h.TLS == nil:
		return "TLS", ErrNoCredentials
	case last && len(h.TunnelHeader) > 0:
		return "TunnelHeader", errLastTunnelHeader
	}
	return "Authority", checkAuthority(h.Authority)
}
