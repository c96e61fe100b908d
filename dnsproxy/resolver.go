package dnsproxy

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net"
	"strings"
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

	// NegativeTTL is how long clients may remember that there is nothing
	// (RFC 2308). Zero means 5 s.
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

const (
	defaultTTL         = 30 * time.Second
	defaultNegativeTTL = 5 * time.Second
)

// Synced says whether there is a table to answer from.
func (r *Resolver) Synced() bool {
	return r.Names != nil && r.Names.Load() != nil
}

// Resolve answers q as a client with view v sees it. It reports false when the
// table does not decide: then the question is for the upstream servers. That is
// so for unknown names, and for types other than A, AAAA, ANY, PTR, SRV, HTTPS and SVCB.
func (r *Resolver) Resolve(v View, q dns.Question) (Answer, bool) {
	if q.Qclass != dns.ClassINET || !r.Synced() {
		return Answer{}, false
	}
	name := canonical(q.Name)
	ask := question{Question: q, name: name, view: &v, table: r.Names.Load()}
	escaped := strings.Contains(name, `\`) // no name of a table is, and its dots need not end labels
	if !escaped {
		if a, known := r.fromTable(ask); known {
			return a, true
		}
	}
	if _, ours := r.zoneOf(name); !ours {
		return Answer{}, false
	}
	if !escaped && ask.knows(name) {
		return r.nothing(ask, dns.RcodeSuccess), true
	}
	return r.nothing(ask, dns.RcodeNameError), true
}

// fromTable answers q if the table has something to say about its type.
func (r *Resolver) fromTable(q question) (Answer, bool) {
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		return r.addresses(q)
	case dns.TypePTR:
		return r.pointers(q)
	case dns.TypeSRV:
		return r.services(q)
	case dns.TypeANY:
		if q.knows(q.name) {
			return Answer{Answer: []dns.RR{r.minimal(q.Name)}}, true
		}
	case dns.TypeHTTPS, dns.TypeSVCB:
		// Their hints would lead clients around the mesh's address (RFC 9460 section 7.3).
		if _, host := cutService(q.name); q.knows(host) {
			return r.nothing(q, dns.RcodeSuccess), true
		}
	}
	return Answer{}, false
}

// question is one question on its way through a Resolver.
type question struct {
	dns.Question
	name  string // canonical
	view  *View
	table *NameTable
}

func (q *question) knows(name string) bool {
	_, ok := q.table.find(q.view, name)
	return ok
}

// addresses answers A and AAAA questions.
func (r *Resolver) addresses(q question) (Answer, bool) {
	m, ok := q.table.find(q.view, q.name)
	if !ok {
		return Answer{}, false
	}
	ips := m.ips(q.Qtype)
	if len(ips) == 0 {
		return r.nothing(q, dns.RcodeSuccess), true
	}
	out := make([]dns.RR, 0, len(ips)+1)
	owner := q.Name
	switch {
	case m.wildcard && m.searched && q.view.Dialect == Sidecar:
		owner = dns.Fqdn(m.name) // the agent answers with the literal wildcard
	case m.target != "":
		owner = q.Name[:len(m.target)+1] // in the client's spelling, dot included
	}
	if owner != q.Name {
		out = append(out, &dns.CNAME{Hdr: r.header(q.Name, dns.TypeCNAME), Target: owner})
	}
	return Answer{Answer: r.appendAddresses(out, owner, q.Qtype, m.record)}, true
}

func (r *record) ips(qtype uint16) []net.IP {
	if qtype == dns.TypeAAAA {
		return r.v6
	}
	return r.v4
}

// appendAddresses appends the addresses of rec as records of owner, shuffled.
func (r *Resolver) appendAddresses(out []dns.RR, owner string, qtype uint16, rec *record) []dns.RR {
	first, hdr := len(out), r.header(owner, qtype)
	switch ips := rec.ips(qtype); qtype {
	case dns.TypeA:
		slab := make([]dns.A, len(ips)) // one allocation for all
		for i, ip := range ips {
			slab[i] = dns.A{Hdr: hdr, A: ip}
			out = append(out, &slab[i])
		}
	case dns.TypeAAAA:
		slab := make([]dns.AAAA, len(ips))
		for i, ip := range ips {
			slab[i] = dns.AAAA{Hdr: hdr, AAAA: ip}
			out = append(out, &slab[i])
		}
	}
	r.shuffle(out[first:])
	return out
}

func (r *Resolver) shuffle(rrs []dns.RR) {
	if len(rrs) < 2 {
		return
	}
	shuffle := r.Shuffle
	if shuffle == nil {
		shuffle = rand.Shuffle
	}
	shuffle(len(rrs), func(i, j int) { rrs[i], rrs[j] = rrs[j], rrs[i] })
}

func (r *Resolver) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{
		Name:   owner,
		Rrtype: rrtype,
		Class:  dns.ClassINET,
		Ttl:    seconds(cmp.Or(r.TTL, defaultTTL)),
	}
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), math.MaxInt32)) // RFC 2181 section 8
}
