package dnsproxy

import (
	"context"
	"errors"
	"os"

	"github.com/miekg/dns"
)

// ednsSize is what we take in one datagram: it fits any path (dnsflagday.net/2020).
const ednsSize = 1232

// finish makes resp fit what the client of query can take: an OPT record if, and
// only if, it sent one (RFC 6891 section 6.1.1), and no more than size bytes.
func finish(resp, query *dns.Msg, size int, err error) {
	theirs := dropOPT(resp)
	if opt := query.IsEdns0(); opt != nil {
		ours := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		ours.SetUDPSize(ednsSize)
		ours.SetDo(opt.Do()) // RFC 3225 section 3
		if err != nil {
			ours.Option = append(ours.Option, extendedError(err))
		} else {
			ours.Option = extendedErrors(theirs)
		}
		resp.Extra = append(resp.Extra, ours)
	} else if resp.Rcode > 0xF {
		resp.Rcode = dns.RcodeServerFailure // the upper bits of the rcode need an OPT
	}
	resp.Compress = false
	if resp.Len() > dns.MinMsgSize { // small ones are sent faster as they are
		resp.Compress = true
	}
	if resp.Len() > size {
		resp.Truncate(size)
	}
}

// dropOPT takes the OPT record, which only holds from hop to hop, out of m.
func dropOPT(m *dns.Msg) *dns.OPT {
	for i, rr := range m.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			m.Extra = append(m.Extra[:i:i], m.Extra[i+1:]...)
			return opt
		}
	}
	return nil
}

// extendedErrors are the explanations that an upstream gave (RFC 8914).
func extendedErrors(opt *dns.OPT) []dns.EDNS0 {
	if opt == nil {
		return nil
	}
	var out []dns.EDNS0
	for _, o := range opt.Option {
		if o.Option() == dns.EDNS0EDE {
			out = append(out, o)
		}
	}
	return out
}

// extendedError explains err to the client, in the words of RFC 8914 only.
func extendedError(err error) *dns.EDNS0_EDE {
	code := dns.ExtendedErrorCodeOther
	switch {
	case errors.Is(err, ErrNoUpstream):
		code = dns.ExtendedErrorCodeNotAuthoritative
	case errors.Is(err, errNotSynced):
		code = dns.ExtendedErrorCodeNotReady
	case errors.Is(err, ErrLoop), errors.Is(err, ErrOverloaded):
		code = dns.ExtendedErrorCodeProhibited
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		code = dns.ExtendedErrorCodeNoReachableAuthority
	case errors.As(err, new(*UpstreamError)):
		code = dns.ExtendedErrorCodeNetworkError
	}
	return &dns.EDNS0_EDE{InfoCode: code}
}
