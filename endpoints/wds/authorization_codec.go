package wds

import (
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	securitypb "github.com/eastwest-mesh/eastwest/internal/pb/security/v1"
)

// EncodeAuthorization returns the istio.security.Authorization of a policy. Equal policies give equal bytes.
func EncodeAuthorization(a *Authorization) ([]byte, error) {
	e := newEncoder()
	unknown := e.recall(a.Unknown)
	e.string(1, "name", a.Name)
	e.string(2, "namespace", a.Namespace)
	e.Uint(3, uint64(a.Scope))
	e.Uint(4, uint64(a.Action))
	for _, g := range a.Groups {
		group := e.Begin(5)
		for _, r := range g.Rules {
			rules := e.Begin(1)
			for i := range r.Matches {
				e.match(2, &r.Matches[i])
			}
			e.End(rules)
		}
		e.End(group)
	}
	e.bool(6, a.DryRun)
	e.extensions(7, a.Extensions)
	e.Buf = append(e.Buf, unknown...)
	return e.result(a.ResourceName)
}

func (e *encoder) match(num protowire.Number, m *Match) {
	start := e.Begin(num)
	e.stringMatches(1, "namespaces", m.Namespaces)
	e.stringMatches(2, "not_namespaces", m.NotNamespaces)
	e.stringMatches(3, "principals", m.Principals)
	e.stringMatches(4, "not_principals", m.NotPrincipals)
	e.prefixes(5, "source_ips", m.SourceIPs)
	e.prefixes(6, "not_source_ips", m.NotSourceIPs)
	e.prefixes(7, "destination_ips", m.DestinationIPs)
	e.prefixes(8, "not_destination_ips", m.NotDestinationIPs)
	packed(e, 9, m.DestinationPorts)
	packed(e, 10, m.NotDestinationPorts)
	e.serviceAccounts(11, "service_accounts", m.ServiceAccounts)
	e.serviceAccounts(12, "not_service_accounts", m.NotServiceAccounts)
	e.extensions(13, m.Extensions)
	e.End(start)
}

func (e *encoder) stringMatches(num protowire.Number, field string, all []StringMatch) {
	for _, m := range all {
		start := e.Begin(num)
		switch m.Kind {
		case MatchExact, MatchPrefix, MatchSuffix:
			e.element(protowire.Number(m.Kind)+1, field, m.Value) // in a oneof, also an empty one is there
		case MatchPresence:
			e.Bytes(4, nil)
		default:
			e.fail(field, "unknown kind of match "+m.Kind.String())
		}
		e.End(start)
	}
}

func (e *encoder) prefixes(num protowire.Number, field string, all []netip.Prefix) {
	for _, p := range all {
		start := e.Begin(num)
		e.ip(1, field, p.Addr())
		if p.IsValid() {
			e.Uint(2, uint64(p.Bits()))
		} else {
			e.fail(field, "invalid prefix")
		}
		e.End(start)
	}
}

func (e *encoder) serviceAccounts(num protowire.Number, field string, all []ServiceAccount) {
	for _, a := range all {
		start := e.Begin(num)
		e.string(1, field, a.Namespace)
		e.string(2, field, a.Name)
		e.End(start)
	}
}

// DecodeAuthorization reads an istio.security.Authorization that was received under a name, which must be
// that of the policy. Errors are of type *FieldError. A policy with anything in its rules that we do not
// know is refused, for it could not be enforced as it is meant.
func DecodeAuthorization(name string, body []byte) (*Authorization, error) {
	d := &decoder{resource: name}
	m := new(securitypb.Authorization)
	if err := d.unmarshal(body, m); err != nil {
		return nil, err
	}
	a := &Authorization{
		Name:       m.GetName(),
		Namespace:  m.GetNamespace(),
		Scope:      known[PolicyScope](d, "scope", m.GetScope()),
		Action:     known[PolicyAction](d, "action", m.GetAction()),
		DryRun:     m.GetDryRun(),
		Extensions: d.extensions(m.GetExtensions()),
	}
	a.Unknown = d.rest(m)
	for _, g := range m.GetGroups() {
		a.Groups = append(a.Groups, d.group(g))
	}
	d.named(name, a.ResourceName(), a.Namespace, a.Name)
	if d.err != nil {
		return nil, d.err
	}
	return a, nil
}

// strict refuses unknown fields.
func (d *decoder) strict(field string, m proto.Message) {
	if u := m.ProtoReflect().GetUnknown(); len(u) > 0 {
		num, _, _ := protowire.ConsumeTag(u)
		d.fail(field, "unknown field %d", num)
	}
}

func (d *decoder) group(m *securitypb.Group) (g Group) {
	d.strict("groups", m)
	for _, r := range m.GetRules() {
		d.strict("groups.rules", r)
		var rule Rule
		for _, match := range r.GetMatches() {
			rule.Matches = append(rule.Matches, d.match(match))
		}
		g.Rules = append(g.Rules, rule)
	}
	return g
}

func (d *decoder) match(m *securitypb.Match) Match {
	d.strict("groups.rules.matches", m)
	for _, x := range m.GetExtensions() {
		d.strict("extensions", x)
		d.strict("extensions", x.GetConfig())
	}
	return Match{
		Namespaces:          d.stringMatches("namespaces", m.GetNamespaces()),
		NotNamespaces:       d.stringMatches("not_namespaces", m.GetNotNamespaces()),
		ServiceAccounts:     d.serviceAccounts("service_accounts", m.GetServiceAccounts()),
		NotServiceAccounts:  d.serviceAccounts("not_service_accounts", m.GetNotServiceAccounts()),
		Principals:          d.stringMatches("principals", m.GetPrincipals()),
		NotPrincipals:       d.stringMatches("not_principals", m.GetNotPrincipals()),
		SourceIPs:           d.prefixes("source_ips", m.GetSourceIps()),
		NotSourceIPs:        d.prefixes("not_source_ips", m.GetNotSourceIps()),
		DestinationIPs:      d.prefixes("destination_ips", m.GetDestinationIps()),
		NotDestinationIPs:   d.prefixes("not_destination_ips", m.GetNotDestinationIps()),
		DestinationPorts:    d.portNumbers("destination_ports", m.GetDestinationPorts()),
		NotDestinationPorts: d.portNumbers("not_destination_ports", m.GetNotDestinationPorts()),
		Extensions:          d.extensions(m.GetExtensions()),
	}
}

func (d *decoder) stringMatches(field string, all []*securitypb.StringMatch) []StringMatch {
	var matches []StringMatch
	for _, m := range all {
		d.strict(field, m)
		switch t := m.GetMatchType().(type) {
		case *securitypb.StringMatch_Exact:
			matches = append(matches, StringMatch{MatchExact, t.Exact})
		case *securitypb.StringMatch_Prefix:
			matches = append(matches, StringMatch{MatchPrefix, t.Prefix})
		case *securitypb.StringMatch_Suffix:
			matches = append(matches, StringMatch{MatchSuffix, t.Suffix})
		case *securitypb.StringMatch_Presence:
			d.strict(field, t.Presence)
			matches = append(matches, StringMatch{Kind: MatchPresence})
		default:
			d.fail(field, "a match of no kind")
		}
	}
	return matches
}

func (d *decoder) prefixes(field string, all []*securitypb.Address) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range all {
		d.strict(field, a)
		prefixes = append(prefixes, d.prefix(field, a.GetAddress(), a.GetLength()))
	}
	return prefixes
}

func (d *decoder) portNumbers(field string, all []uint32) []uint16 {
	var ports []uint16
	for _, p := range all {
		ports = append(ports, d.port(field, p))
	}
	return ports
}

func (d *decoder) serviceAccounts(field string, all []*securitypb.ServiceAccountMatch) []ServiceAccount {
	var accounts []ServiceAccount
	for _, a := range all {
		d.strict(field, a)
		accounts = append(accounts, ServiceAccount{a.GetNamespace(), a.GetServiceAccount()})
	}
	return accounts
}
