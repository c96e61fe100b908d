package dnsproxy

import (
	"time"

	"github.com/miekg/dns"
)

// Resolver answers questions from a name table. Its fields must not be changed
// after its first use; it is safe for concurrent use.
type Resolver struct {
	// Names is the table; nil or never stored means that nothing is known yet.
	Names *Names

	// TTL of answers. Zero means 30 s.
	TTL time.Duration

	// NegativeTTL is how long others may remember that there is nothing (RFC 2308).
	// Zero means 5 s.
	NegativeTTL time.Duration

	// Zones are domains that we answer for alone: a name below one of them that
	// the table does not have does not exist, and is never asked upstream.
	Zones []string

	// Shuffle orders addresses for round robin. Nil means a random order.
	Shuffle func(n int, swap func(i, j int))
}

// Answer is the content of a response.
type Answer struct {
	Rcode  int // dns.RcodeSuccess or dns.RcodeNameError
	Answer []dns.RR
	Ns     []dns.RR // the SOA, when there is nothing to answer
	Extra  []dns.RR // addresses of SRV targets
}

// Resolve answers q as client v sees it. It reports false when the table does
// not decide: then the question is for the upstream servers.
func (r *Resolver) Resolve(v View, q dns.Question) (Answer, bool) {
	return Answer{}, false
}
