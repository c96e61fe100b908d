package discovery

import (
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

// Policy turns a policy as it is sent, without extensions, into one that can be
// checked. The two packages know nothing of each other; their numbers are
// Istio's.
func Policy(a *wds.Authorization) authz.Policy {
	return authz.Policy{
		Namespace: a.Namespace,
		Name:      a.Name,
		Scope:     authz.Scope(a.Scope),
		Action:    authz.Action(a.Action),
		DryRun:    a.DryRun,
		Groups:    convert(a.Groups, group),
	}
}

func group(g wds.Group) authz.Group { return authz.Group{Rules: convert(g.Rules, rule)} }

func rule(r wds.Rule) authz.Rule { return authz.Rule{Matches: convert(r.Matches, match)} }

func match(m wds.Match) authz.Match {
	return authz.Match{
		Namespaces:          convert(m.Namespaces, stringMatch),
		NotNamespaces:       convert(m.NotNamespaces, stringMatch),
		ServiceAccounts:     convert(m.ServiceAccounts, serviceAccount),
		NotServiceAccounts:  convert(m.NotServiceAccounts, serviceAccount),
		Principals:          convert(m.Principals, stringMatch),
		NotPrincipals:       convert(m.NotPrincipals, stringMatch),
		SourceIPs:           m.SourceIPs,
		NotSourceIPs:        m.NotSourceIPs,
		DestinationIPs:      m.DestinationIPs,
		NotDestinationIPs:   m.NotDestinationIPs,
		DestinationPorts:    m.DestinationPorts,
		NotDestinationPorts: m.NotDestinationPorts,
	}
}

func stringMatch(m wds.StringMatch) authz.StringMatch {
	return authz.StringMatch{Kind: authz.MatchKind(m.Kind), Value: m.Value}
}

func serviceAccount(s wds.ServiceAccount) authz.ServiceAccount { return authz.ServiceAccount(s) }

func convert[From, To any](from []From, f func(From) To) []To {
	if from == nil {
		return nil
	}
	to := make([]To, len(from))
	for i, v := range from {
		to[i] = f(v)
	}
	return to
}
