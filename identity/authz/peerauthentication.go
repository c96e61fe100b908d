package authz

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Names that istiod gives to policies made of PeerAuthentications. No object
// can have them: Kubernetes allows no underscores.
const (
	staticStrictName = "istio_converted_static_strict"
	convertedPrefix  = "converted_peer_authentication_"
)

// mode says whether plaintext is accepted. DISABLE is permissive for a
// receiver.
type mode uint8

const (
	unset mode = iota
	permissive
	strict
)

// or returns the mode, or that of the level above if it is not set.
func (m mode) or(above mode) mode {
	if m == unset {
		return above
	}
	return m
}

type peerAuthentication struct {
	meta
	selector map[string]string
	mode     mode
	ports    map[uint16]mode
}

func (p *peerAuthentication) policyName() string { return convertedPrefix + p.name }

func (w *walker) peerAuthentication(n *node) peerAuthentication {
	p := peerAuthentication{ports: make(map[uint16]mode)}
	p.meta = w.objectMeta(n, fields{
		"selector": w.selector(&p.selector),
		"mtls":     func(n *node, field string) { p.mode = w.mtls(n, field) },
		"portLevelMtls": func(n *node, field string) {
			w.mapping(n, field, func(key string, k, v *node) {
				port, err := strconv.ParseUint(key, 10, 16)
				if err != nil || port == 0 {
					w.fail(k, join(field, key), fmt.Errorf("%w: %q is not a port", ErrInvalid, key))
					return
				}
				p.ports[uint16(port)] = w.mtls(v, join(field, key))
			})
		},
	})
	if len(p.ports) > 0 && len(p.selector) == 0 {
		w.fail(n, "spec.portLevelMtls", fmt.Errorf("%w: it needs a selector", ErrInvalid))
	}
	return p
}

func (w *walker) mtls(n *node, field string) mode {
	var m mode
	w.objectOf(n, field, fields{
		"mode": func(n *node, field string) {
			switch v := w.text(n, field); v {
			case "UNSET", "":
			case "DISABLE", "PERMISSIVE":
				m = permissive
			case "STRICT":
				m = strict
			default:
				w.fail(n, field, fmt.Errorf("%w: %q, want UNSET, DISABLE, PERMISSIVE or STRICT", ErrInvalid, v))
			}
		},
	})
	return m
}

// peerAuthentications resolves precedence (workload over namespace over mesh;
// in each the oldest wins) and makes the policies.
func (c *Converted) peerAuthentications(all []peerAuthentication) {
	if len(all) == 0 {
		return
	}
	c.peers = slices.Clone(all)
	slices.SortFunc(c.peers, func(a, b peerAuthentication) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	c.strict = make(map[string]mode)
	for i := range c.peers {
		p := &c.peers[i]
		if len(p.selector) > 0 {
			continue
		}
		if _, older := c.strict[p.namespace]; older {
			c.warn(&p.meta, "an older one applies to the same workloads: it is left out")
			continue
		}
		c.strict[p.namespace] = p.mode
	}
	c.Policies = append(c.Policies, Policy{
		Namespace: c.root, Name: staticStrictName, Scope: ScopeWorkload, Action: Deny,
		Groups: []Group{{Rules: []Rule{{Matches: []Match{{NotPrincipals: anybody()}}}}}},
	})
	for i := range c.peers {
		c.portPolicy(&c.peers[i])
	}
}

func anybody() []StringMatch { return []StringMatch{{Kind: MatchPresence}} }

// above is the mode that a workload of a namespace has by itself.
func (c *Converted) above(namespace string) mode {
	if namespace == c.root {
		return c.strict[c.root]
	}
	return c.strict[namespace].or(c.strict[c.root])
}

// portPolicy makes the policy of a PeerAuthentication whose ports differ from
// the rest of the workload.
func (c *Converted) portPolicy(p *peerAuthentication) {
	if len(p.selector) > 0 && p.namespace == c.root {
		c.warn(&p.meta, "a selector has no effect in the root namespace: it is left out")
		return
	}
	rest := p.mode.or(c.above(p.namespace))
	exceptions := p.exceptions(rest)
	if len(exceptions) == 0 {
		return
	}
	out := Policy{Namespace: p.namespace, Name: p.policyName(), Scope: ScopeWorkload, Action: Deny}
	if rest == strict {
		// No identity, and none of the ports that accept that.
		rules := []Rule{{Matches: []Match{{NotPrincipals: anybody()}}}}
		for _, port := range exceptions {
			rules = append(rules, Rule{Matches: []Match{{NotDestinationPorts: []uint16{port}}}})
		}
		out.Groups = []Group{{Rules: rules}}
	} else {
		for _, port := range exceptions {
			m := Match{NotPrincipals: anybody(), DestinationPorts: []uint16{port}}
			out.Groups = append(out.Groups, Group{Rules: []Rule{{Matches: []Match{m}}}})
		}
	}
	c.Policies = append(c.Policies, out)
}

// exceptions returns the ports whose mode is not that of the rest, sorted.
func (p *peerAuthentication) exceptions(rest mode) []uint16 {
	var ports []uint16
	for _, port := range slices.Sorted(maps.Keys(p.ports)) {
		if m := p.ports[port].or(rest); (m == strict) != (rest == strict) {
			ports = append(ports, port)
		}
	}
	return ports
}

// peerPolicy returns the key of the policy that a workload gets for its
// effective PeerAuthentication, "" if plaintext is accepted on all ports.
func (c *Converted) peerPolicy(namespace string, labels map[string]string) string {
	rest := c.above(namespace)
	if namespace != c.root {
		for i := range c.peers { // oldest first
			p := &c.peers[i]
			if p.namespace != namespace || len(p.selector) == 0 || !selects(p.selector, labels) {
				continue
			}
			rest = p.mode.or(rest)
			if len(p.exceptions(rest)) > 0 {
				return p.namespace + "/" + p.policyName()
			}
			break
		}
	}
	if rest == strict {
		return c.root + "/" + staticStrictName
	}
	return ""
}
