package dnsproxy

import (
	"cmp"
	"strings"

	"github.com/miekg/dns"
)

// maxPointers bounds the names of one address: many hosts can share one.
const maxPointers = 16

// pointers answers PTR questions for addresses of the table.
func (r *Resolver) pointers(q question) (Answer, bool) {
	recs, _ := q.table.reverse.Get(q.name)
	var out []dns.RR
	for _, rec := range recs {
		if q.view.sees(rec) && len(out) < maxPointers {
			out = append(out, &dns.PTR{Hdr: r.header(q.Name, dns.TypePTR), Ptr: dns.Fqdn(rec.name)})
		}
	}
	return Answer{Answer: out}, len(out) > 0
}

// services answers SRV questions in the way of Kubernetes' DNS: _port._protocol.host,
// or host for all its ports. Hosts of which no port is known are left upstream.
func (r *Resolver) services(q question) (Answer, bool) {
	service, host := cutService(q.name)
	m, ok := q.table.find(q.view, host)
	if !ok || len(m.entry.Ports) == 0 || m.wildcard {
		return Answer{}, false
	}
	targets := q.table.targets(m)
	var a Answer
	for _, p := range m.entry.Ports {
		if service != "" && service != "_"+canonical(p.Name)+"._"+p.protocol() {
			continue
		}
		for _, t := range targets {
			a.Answer = append(a.Answer, &dns.SRV{
				Hdr:    r.header(q.Name, dns.TypeSRV),
				Weight: uint16(max(1, 100/len(targets))),
				Port:   p.Number,
				Target: dns.Fqdn(t.name),
			})
		}
	}
	if len(a.Answer) == 0 {
		return r.nothing(q, dns.RcodeNameError), true
	}
	for _, t := range targets {
		a.Extra = r.appendAddresses(a.Extra, dns.Fqdn(t.name), dns.TypeA, t)
		a.Extra = r.appendAddresses(a.Extra, dns.Fqdn(t.name), dns.TypeAAAA, t)
	}
	r.shuffle(a.Answer)
	return a, true
}

// targets are what SRV records of m point at: its pods if it is headless, else itself.
func (t *NameTable) targets(m match) []*record {
	if m.pod || !m.entry.Headless || len(m.entry.Pods) == 0 {
		return []*record{m.record}
	}
	var targets []*record
	for _, p := range m.entry.Pods {
		recs, _ := t.hosts.Get(podLabel(p) + "." + canonical(m.entry.Host))
		for _, rec := range recs {
			if rec.entry == m.entry {
				targets = append(targets, rec)
			}
		}
	}
	return targets
}

func (p Port) protocol() string {
	return strings.ToLower(cmp.Or(p.Protocol, "tcp"))
}

// cutService splits the leading labels with an underscore off a name (RFC 2782).
func cutService(name string) (service, host string) {
	at := 0
	for strings.HasPrefix(name[at:], "_") {
		label, _, more := strings.Cut(name[at:], ".")
		if !more {
			break
		}
		at += len(label) + 1
	}
	return strings.TrimSuffix(name[:at], "."), name[at:]
}

// minimal is the answer to ANY of RFC 8482 section 4.2: upstream servers would
// answer with addresses that are not the mesh's.
func (r *Resolver) minimal(owner string) dns.RR {
	return &dns.HINFO{Hdr: r.header(owner, dns.TypeHINFO), Cpu: "RFC8482"}
}

// nothing is an answer without records: the SOA lets clients remember it (RFC
// 2308 section 3). Where a search domain was taken off, there is no CNAME either:
// so do the peers, and clients go on with their next search domain.
func (r *Resolver) nothing(q question, rcode int) Answer {
	zone, ok := r.zoneOf(q.name)
	if domain := q.view.clusterDomain(); !ok && dns.IsSubDomain(domain, q.name) {
		zone = dns.CanonicalName(domain)
	} else if !ok {
		zone = dns.Fqdn(q.name)
	}
	ttl := seconds(cmp.Or(r.NegativeTTL, defaultNegativeTTL))
	soa := &dns.SOA{
		Hdr:     dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:      within("ns.dns.", zone),
		Mbox:    within("hostmaster.", zone),
		Serial:  1,
		Refresh: 7200,
		Retry:   1800,
		Expire:  86400,
		Minttl:  ttl,
	}
	return Answer{Rcode: rcode, Ns: []dns.RR{soa}}
}

// within is label in zone, or the zone itself where that would be too long.
func within(label, zone string) string {
	if name := label + zone; zone != "." && len(name) < 255 {
		return name
	}
	return zone
}

// zoneOf returns the most specific of r.Zones that name is in, with a final dot.
func (r *Resolver) zoneOf(name string) (zone string, ok bool) {
	if len(r.Zones) == 0 {
		return "", false
	}
	name = dns.Fqdn(name)
	for _, z := range r.Zones {
		z = dns.CanonicalName(z)
		if dns.IsSubDomain(z, name) && len(z) > len(zone) {
			zone, ok = z, true
		}
	}
	return zone, ok
}
