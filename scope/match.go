package scope

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Precedence says what wins when several rules apply to one service.
type Precedence int

const (
	// GlobalWins is what istiod does: a service is Global if any GLOBAL entry
	// matches it. LOCAL entries change nothing, there is no first match that
	// wins, and serviceSettings are not asked.
	GlobalWins Precedence = iota

	// LocalWins is what Istio's documentation says: a service is Global only
	// if a GLOBAL entry matches it, no LOCAL entry does, and its host is not
	// cluster-local by serviceSettings or by Istio's defaults for them.
	LocalWins
)

// String returns GlobalWins or LocalWins.
func (p Precedence) String() string {
	switch p {
	case GlobalWins:
		return "GlobalWins"
	case LocalWins:
		return "LocalWins"
	}
	return fmt.Sprintf("Precedence(%d)", int(p))
}

// Options of Compile. The zero value behaves like istiod.
type Options struct {
	// Precedence among rules. Default: GlobalWins.
	Precedence Precedence

	// Domain is the DNS suffix of the cluster. Default: cluster.local.
	Domain string

	// DiscoveryHost is the control plane's host, which is cluster-local by
	// default; the Domain is appended if it is not there. Default:
	// istiod.istio-system.svc.<Domain>.
	DiscoveryHost string
}

// A Matcher is a compiled Config. It never changes and may be used by any
// number of goroutines.
type Matcher struct {
	entries    []entry
	hosts      hostRules
	precedence Precedence
	domain     string
}

// entry is an Entry made ready for matching.
type entry struct {
	namespace labels.Selector // nil matches everything
	services  labels.Selector // nil matches everything
	scope     Scope
	line      int
}

// Compile checks c and makes it ready for use. A failure is a *CompileError.
// The Matcher keeps nothing of c.
func (c *Config) Compile(opts Options) (*Matcher, error) {
	if opts.Precedence != GlobalWins && opts.Precedence != LocalWins {
		return nil, &CompileError{Path: "Options.Precedence", Err: errUnknownPrecedence}
	}
	if opts.Domain == "" {
		opts.Domain = "cluster.local"
	}
	opts.Domain = strings.ToLower(opts.Domain)
	m := &Matcher{precedence: opts.Precedence, domain: opts.Domain}
	for i, e := range c.Entries {
		compiled, err := compileEntry(fmt.Sprintf("serviceScopeConfigs[%d]", i), e)
		if err != nil {
			return nil, err
		}
		m.entries = append(m.entries, compiled)
	}
	var err error
	m.hosts, err = compileHosts(c.Settings, opts)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func compileEntry(path string, e Entry) (entry, error) {
	fail := func(field string, err error) (entry, error) {
		return entry{}, &CompileError{Path: path + "." + field, Line: e.Line, Err: err}
	}
	if e.Scope != Local && e.Scope != Global {
		return fail("scope", errUnknownScope)
	}
	namespace, err := compileSelector(e.NamespaceSelector)
	if err != nil {
		return fail("namespaceSelector", err)
	}
	services, err := compileSelector(e.ServicesSelector)
	if err != nil {
		return fail("servicesSelector", err)
	}
	return entry{namespace: namespace, services: services, scope: e.Scope, line: e.Line}, nil
}

// compileSelector returns nil for a selector that matches everything.
// Kubernetes lets a nil selector match nothing; istiod turns that round here.
func compileSelector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return nil, nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

func matches(s labels.Selector, l map[string]string) bool {
	return s == nil || s.Matches(labels.Set(l))
}

// Evaluate returns the scope of o. It does not allocate, except under
// LocalWins to build a default Host.
func (m *Matcher) Evaluate(o Object) Scope {
	switch {
	case !o.NamespaceKnown, m.first(Global, o) < 0:
		return Local
	case m.precedence == GlobalWins:
		return Global
	case m.first(Local, o) >= 0, m.ClusterLocal(m.host(o)):
		return Local
	}
	return Global
}

// first returns the index of the first entry of the given scope that matches
// o, or -1.
func (m *Matcher) first(scope Scope, o Object) int {
	for i := range m.entries {
		e := &m.entries[i]
		if e.scope == scope && matches(e.services, o.Labels) && matches(e.namespace, o.NamespaceLabels) {
			return i
		}
	}
	return -1
}

// ClusterLocal reports whether host is cluster-local by serviceSettings or by
// Istio's defaults: clients and endpoints of it must be in one cluster. The
// most specific rule that matches host decides; if none does, it is not.
func (m *Matcher) ClusterLocal(host string) bool {
	rule, ok := m.hosts.lookup(host)
	return ok && rule.clusterLocal
}

func (m *Matcher) host(o Object) string {
	if o.Host != "" {
		return o.Host
	}
	return o.Name + "." + o.Namespace + ".svc." + m.domain
}
