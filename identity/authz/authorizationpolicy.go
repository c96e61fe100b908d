package authz

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// authorizationPolicy is an AuthorizationPolicy as it was written.
type authorizationPolicy struct {
	meta
	selector map[string]string
	target   bool // has targetRef or targetRefs
	dryRun   bool
	action   string
	rules    []policyRule
}

// policyRule is a rule with its HTTP attributes set aside.
type policyRule struct {
	clauses []clause // from, to, and each when: all must match
	http    []string // names of HTTP attributes
}

// clause is matches of which one must match.
type clause []attributed

type attributed struct {
	Match
	http bool // there were HTTP attributes, which the Match leaves out
}

func (w *walker) authorizationPolicy(n *node) authorizationPolicy {
	p := authorizationPolicy{action: "ALLOW"}
	provider := false
	target := func(n *node, field string) {
		p.target = true
		w.targetRef(n, field)
	}
	p.meta = w.objectMeta(n, fields{
		"selector":   w.selector(&p.selector),
		"targetRef":  target,
		"targetRefs": func(n *node, field string) { w.list(n, field, target) },
		"provider":   func(*node, string) { provider = true },
		"action": func(n *node, field string) {
			p.action = w.text(n, field)
			if !slices.Contains([]string{"ALLOW", "DENY", "AUDIT", "CUSTOM"}, p.action) {
				w.fail(n, field, fmt.Errorf("%w: %q, want ALLOW, DENY, AUDIT or CUSTOM", ErrInvalid, p.action))
			}
		},
		"rules": func(n *node, field string) {
			w.list(n, field, func(n *node, field string) { p.rules = append(p.rules, w.policyRule(n, field)) })
		},
	})
	if p.target && len(p.selector) > 0 {
		w.fail(n, "spec.selector", fmt.Errorf("%w: there is a target as well", ErrInvalid))
	}
	if provider && p.action != "CUSTOM" {
		w.fail(n, "spec.provider", fmt.Errorf("%w: only the action CUSTOM has one", ErrInvalid))
	}
	p.dryRun = w.dryRun(n, p.annotations)
	w.defaultNamespace(&p)
	return p
}

// targetRef only looks whether it is one: what has a target is not ours.
func (w *walker) targetRef(n *node, field string) {
	has := make(map[string]string)
	read := func(n *node, field string) { has[field] = w.text(n, field) }
	before := len(w.errs)
	w.objectOf(n, field, fields{"group": read, "kind": read, "name": read, "namespace": read})
	for _, name := range []string{"kind", "name"} {
		if has[join(field, name)] == "" && len(w.errs) == before {
			w.fail(n, join(field, name), errEmpty)
		}
	}
}

func (w *walker) dryRun(n *node, annotations map[string]string) bool {
	const name = "istio.io/dry-run"
	v, ok := annotations[name]
	if !ok {
		return false
	}
	dry, err := strconv.ParseBool(v)
	if err != nil {
		w.fail(n, join("metadata.annotations", name), fmt.Errorf("%w: %q, want true or false", ErrInvalid, v))
	}
	return dry
}

// defaultNamespace completes service accounts that were written without one,
// once the policy's is known.
func (w *walker) defaultNamespace(p *authorizationPolicy) {
	for _, r := range p.rules {
		for _, c := range r.clauses {
			for i := range c {
				for _, list := range [][]ServiceAccount{c[i].ServiceAccounts, c[i].NotServiceAccounts} {
					for j := range list {
						if list[j].Namespace == "" {
							list[j].Namespace = p.namespace
						}
					}
				}
			}
		}
	}
}

// policyRule keeps istiod's order of clauses: to, from, when.
func (w *walker) policyRule(n *node, field string) policyRule {
	var r policyRule
	var from, to clause
	var when []clause
	w.objectOf(n, field, fields{
		"from": func(n *node, field string) {
			w.someOf(n, field, func(n *node, field string) { from = append(from, w.wrapped(n, field, "source", w.source, &r)) })
		},
		"to": func(n *node, field string) {
			w.someOf(n, field, func(n *node, field string) { to = append(to, w.wrapped(n, field, "operation", w.operation, &r)) })
		},
		"when": func(n *node, field string) {
			w.list(n, field, func(n *node, field string) { when = append(when, clause{w.condition(n, field, &r)}) })
		},
	})
	if len(to) > 0 {
		r.clauses = append(r.clauses, to)
	}
	if len(from) > 0 {
		r.clauses = append(r.clauses, from)
	}
	r.clauses = append(r.clauses, when...)
	return r
}

// someOf reads a list that Istio does not admit when it is empty: it would match
// everything, where nothing may have been meant.
func (w *walker) someOf(n *node, field string, each func(n *node, field string)) {
	if list := follow(n); list.Kind == sequenceNode && len(list.Content) == 0 {
		w.fail(n, field, errEmpty)
	}
	w.list(n, field, each)
}

// wrapped reads {source: ...} or {operation: ...}, which must say something.
func (w *walker) wrapped(n *node, field, name string, known func(*attributed, *policyRule) fields, r *policyRule) attributed {
	var m attributed
	before := len(w.errs)
	w.objectOf(n, field, fields{
		name: func(n *node, field string) { w.objectOf(n, field, known(&m, r)) },
	})
	if m.empty() && !m.http && len(w.errs) == before {
		w.fail(n, join(field, name), errEmpty)
	}
	return m
}

func (w *walker) source(m *attributed, r *policyRule) fields {
	f := fields{
		"principals":         w.patterns(&m.Principals),
		"notPrincipals":      w.patterns(&m.NotPrincipals),
		"namespaces":         w.patterns(&m.Namespaces),
		"notNamespaces":      w.patterns(&m.NotNamespaces),
		"serviceAccounts":    w.accounts(&m.ServiceAccounts),
		"notServiceAccounts": w.accounts(&m.NotServiceAccounts),
		"ipBlocks":           w.prefixes(&m.SourceIPs),
		"notIpBlocks":        w.prefixes(&m.NotSourceIPs),
	}
	w.addHTTP(f, m, r, "remoteIpBlocks", "notRemoteIpBlocks", "requestPrincipals", "notRequestPrincipals")
	return f
}

func (w *walker) operation(m *attributed, r *policyRule) fields {
	f := fields{
		"ports":    w.ports(&m.DestinationPorts),
		"notPorts": w.ports(&m.NotDestinationPorts),
	}
	w.addHTTP(f, m, r, "hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")
	return f
}

// addHTTP adds fields that are about HTTP: they are noted if they say anything.
func (w *walker) addHTTP(f fields, m *attributed, r *policyRule, names ...string) {
	for _, name := range names {
		f[name] = func(n *node, field string) {
			if len(w.texts(n, field)) > 0 {
				m.http = true
				r.http = append(r.http, name)
			}
		}
	}
}

// httpConditions are the keys of conditions about HTTP or TLS, without their
// [name].
var httpConditions = []string{
	"request.headers", "remote.ip", "request.auth.principal", "request.auth.audiences", "request.auth.presenter",
	"request.auth.claims", "connection.sni",
}

func (w *walker) condition(n *node, field string, r *policyRule) attributed {
	var m attributed
	var key located
	var values, notValues []located
	w.objectOf(n, field, fields{
		"key":       func(n *node, field string) { key = located{w.text(n, field), n, field} },
		"values":    func(n *node, field string) { values = w.texts(n, field) },
		"notValues": func(n *node, field string) { notValues = w.texts(n, field) },
	})
	if len(values) == 0 && len(notValues) == 0 {
		w.fail(n, field, fmt.Errorf("%w: neither values nor notValues", ErrInvalid))
	}
	switch key.text {
	case "source.ip":
		m.SourceIPs, m.NotSourceIPs = w.toPrefixes(values), w.toPrefixes(notValues)
	case "source.namespace":
		m.Namespaces, m.NotNamespaces = toPatterns(values), toPatterns(notValues)
	case "source.principal":
		m.Principals, m.NotPrincipals = toPatterns(values), toPatterns(notValues)
	case "destination.ip":
		m.DestinationIPs, m.NotDestinationIPs = w.toPrefixes(values), w.toPrefixes(notValues)
	case "destination.port":
		m.DestinationPorts, m.NotDestinationPorts = w.toPorts(values), w.toPorts(notValues)
	default:
		base, _, _ := strings.Cut(key.text, "[")
		if !slices.Contains(httpConditions, base) && !strings.HasPrefix(base, "experimental.") {
			w.fail(n, join(field, "key"), fmt.Errorf("%w: no attribute is called %q", ErrInvalid, key.text))
		}
		m.http = true
		r.http = append(r.http, key.text)
	}
	return m
}

func (w *walker) patterns(into *[]StringMatch) func(*node, string) {
	return func(n *node, field string) { *into = toPatterns(w.texts(n, field)) }
}

func (w *walker) prefixes(into *[]netip.Prefix) func(*node, string) {
	return func(n *node, field string) { *into = w.toPrefixes(w.texts(n, field)) }
}

func (w *walker) ports(into *[]uint16) func(*node, string) {
	return func(n *node, field string) { *into = w.toPorts(w.texts(n, field)) }
}

func (w *walker) accounts(into *[]ServiceAccount) func(*node, string) {
	return func(n *node, field string) {
		for _, s := range w.texts(n, field) {
			account := ServiceAccount{Name: s.text}
			if ns, name, ok := strings.Cut(s.text, "/"); ok {
				account = ServiceAccount{ns, name}
				if ns == "" {
					account.Name = "" // an error, below
				}
			}
			if account.Name == "" || strings.ContainsAny(account.Name+account.Namespace, "/*") {
				w.fail(s.at, s.path, fmt.Errorf("%w: %q, want namespace/name or name", ErrInvalid, s.text))
				continue
			}
			*into = append(*into, account)
		}
	}
}

// toPatterns reads "*" as presence, a star at one end as suffix or prefix, and
// all else as exact, as istiod does.
func toPatterns(list []located) []StringMatch {
	var out []StringMatch
	for _, s := range list {
		out = append(out, toPattern(s.text))
	}
	return out
}

func toPattern(s string) StringMatch {
	if s == "*" {
		return StringMatch{Kind: MatchPresence}
	}
	if suffix, ok := strings.CutPrefix(s, "*"); ok {
		return StringMatch{MatchSuffix, suffix}
	}
	if prefix, ok := strings.CutSuffix(s, "*"); ok {
		return StringMatch{MatchPrefix, prefix}
	}
	return StringMatch{MatchExact, s}
}

func (w *walker) toPrefixes(list []located) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s.text)
		if addr, addrErr := netip.ParseAddr(s.text); addrErr == nil {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || !p.IsValid() || p.Addr().Zone() != "" {
			w.fail(s.at, s.path, fmt.Errorf("%w: %q is neither an address nor a prefix", ErrInvalid, s.text))
			continue
		}
		out = append(out, p)
	}
	return out
}

func (w *walker) toPorts(list []located) []uint16 {
	var out []uint16
	for _, s := range list {
		p, err := strconv.ParseUint(s.text, 10, 16)
		if err != nil {
			w.fail(s.at, s.path, fmt.Errorf("%w: %q is not a port", ErrInvalid, s.text))
			continue
		}
		out = append(out, uint16(p))
	}
	return out
}
