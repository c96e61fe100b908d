package authz

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

// A Request is a connection to decide about.
type Request struct {
	Namespace   string         // of the destination workload
	Policies    []string       // "namespace/name" of the policies that the workload names
	Peer        spiffeid.ID    // verified; zero if the connection is plaintext
	Source      netip.AddrPort // of the peer
	Destination netip.AddrPort // of the workload, with the application's port
}

// A Decision is the answer about a connection.
type Decision struct {
	Verdict

	// DryRun is what the verdict would be if dry-run policies were enforced.
	// It equals Verdict if none applies.
	DryRun Verdict
}

// A Verdict says whether a connection is allowed, and what decided.
type Verdict struct {
	Allowed bool
	Reason  Reason

	// Policy is the key of the policy that decided, "" with NoPolicy and
	// NoMatch. If several did, it is one of them, always the same one.
	Policy string

	// Group is the index of the group that matched, -1 if none did.
	Group int
}

// Reason says why a connection is allowed or refused.
type Reason uint8

// The reasons of a verdict.
const (
	NoPolicy      Reason = iota // allowed: no ALLOW policy applies
	AllowedBy                   // allowed: an ALLOW policy matches
	DeniedBy                    // refused: a DENY policy matches
	NoMatch                     // refused: ALLOW policies apply and none matches
	MissingPolicy               // refused: the workload names a policy that is not there
)

// String returns a few words for a log line.
func (r Reason) String() string {
	names := [...]string{"no policy", "allowed by policy", "denied by policy", "no ALLOW policy matches", "policy is missing"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Check decides about a connection. It does not allocate, and is safe for
// concurrent use.
func (s *Set) Check(r Request) Decision {
	c := newConn(&r)
	v := s.verdict(&r, &c, false)
	if !s.dryRun {
		return Decision{Verdict: v, DryRun: v}
	}
	return Decision{Verdict: v, DryRun: s.verdict(&r, &c, true)}
}

// verdict follows the order of Istio: DENY, then ALLOW. With dryRun, dry-run
// policies count as well.
func (s *Set) verdict(r *Request, c *conn, dryRun bool) Verdict {
	missing := ""
	allows := false
	global, local := s.global, s.byNamespace[r.Namespace]
	if g := firstMatch(Deny, dryRun, c, global, local); g != nil {
		return decidedBy(g, DeniedBy)
	}
	for _, key := range r.Policies {
		p := s.policies[key]
		if p == nil {
			missing = key
			continue
		}
		if g := p.match(Deny, dryRun, c); g != nil {
			return decidedBy(g, DeniedBy)
		}
		allows = allows || p.is(Allow, dryRun)
	}
	if missing != "" {
		return Verdict{Reason: MissingPolicy, Policy: missing, Group: -1}
	}
	if !allows && !global.allows(dryRun) && !local.allows(dryRun) {
		return Verdict{Allowed: true, Reason: NoPolicy, Group: -1}
	}
	if g := firstMatch(Allow, dryRun, c, global, local); g != nil {
		return decidedBy(g, AllowedBy)
	}
	for _, key := range r.Policies {
		if g := s.policies[key].match(Allow, dryRun, c); g != nil {
			return decidedBy(g, AllowedBy)
		}
	}
	return Verdict{Reason: NoMatch, Group: -1}
}

func decidedBy(g *group, why Reason) Verdict {
	return Verdict{Allowed: why == AllowedBy, Reason: why, Policy: g.policy.key, Group: g.number}
}

func firstMatch(a Action, dryRun bool, c *conn, global, local *bucket) *group {
	if g := global.match(a, dryRun, c); g != nil {
		return g
	}
	return local.match(a, dryRun, c)
}

// conn is a request in the form that rules are evaluated on.
type conn struct {
	principal string // without spiffe://; "" means plaintext
	namespace string
	account   ServiceAccount
	source    netip.Addr
	dest      netip.Addr
	port      uint16
}

func newConn(r *Request) conn {
	c := conn{
		source: plain(r.Source.Addr()),
		dest:   plain(r.Destination.Addr()),
		port:   r.Destination.Port(),
	}
	if r.Peer.IsZero() {
		return c
	}
	c.principal = strings.TrimPrefix(r.Peer.String(), "spiffe://")
	if ns, sa, ok := identity.SplitWorkloadID(r.Peer); ok {
		c.namespace, c.account = ns, ServiceAccount{ns, sa}
	}
	return c
}

// plain gives an address the only form that prefixes contain: IPv4 not mapped
// into IPv6, and without a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
