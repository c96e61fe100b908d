package scope

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// A Key names a service of one cluster.
type Key struct {
	Namespace string
	Name      string
}

// String returns namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// A Change is a service whose scope is not what it was. A service that is not
// there counts as Local: one that appears as Global goes from Local to Global,
// and one that goes away while Global, back to Local.
type Change struct {
	Key    Key
	Before Scope
	After  Scope
}

// A Tracker knows the scope of every service of one cluster, and reports only
// what changes. The work for an event is that of evaluating the services it
// touches: one, or those of a namespace, or all for a new Matcher.
//
// All methods may be called by any number of goroutines. Changes are sorted by
// namespace and name. Label maps are copied.
type Tracker struct {
	mu         sync.RWMutex
	matcher    *Matcher
	namespaces map[string]*trackedNamespace
}

// trackedNamespace exists while its namespace or any service of it does.
type trackedNamespace struct {
	known    bool
	labels   map[string]string
	services map[string]*trackedService
}

type trackedService struct {
	labels map[string]string
	scope  Scope
}

// NewTracker returns a Tracker that judges by m.
func NewTracker(m *Matcher) *Tracker {
	return &Tracker{matcher: m, namespaces: map[string]*trackedNamespace{}}
}

// SetMatcher judges every service by m from now on.
func (t *Tracker) SetMatcher(m *Matcher) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.matcher = m
	var changes []Change
	for name, ns := range t.namespaces {
		changes = t.evaluate(changes, name, ns)
	}
	return sorted(changes)
}

// SetNamespace adds a namespace or replaces its labels.
func (t *Tracker) SetNamespace(name string, labels map[string]string) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(name)
	ns.known, ns.labels = true, maps.Clone(labels)
	return sorted(t.evaluate(nil, name, ns))
}

// RemoveNamespace forgets the labels of a namespace. Services in it stay, as
// Local ones, until they are removed or the namespace is back.
func (t *Tracker) RemoveNamespace(name string) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns, ok := t.namespaces[name]
	if !ok {
		return nil
	}
	ns.known, ns.labels = false, nil
	changes := sorted(t.evaluate(nil, name, ns))
	t.dropIfEmpty(name, ns)
	return changes
}

// SetService adds a service or replaces its labels. Namespaces and services
// may come in any order. The bool says whether the scope changed.
func (t *Tracker) SetService(key Key, labels map[string]string) (Change, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(key.Namespace)
	svc, ok := ns.services[key.Name]
	if !ok {
		svc = &trackedService{}
		ns.services[key.Name] = svc
	}
	svc.labels = maps.Clone(labels)
	before := svc.scope
	svc.scope = t.matcher.Evaluate(ns.object(key, svc))
	return Change{key, before, svc.scope}, before != svc.scope
}

// RemoveService forgets a service. The bool says whether it was Global.
func (t *Tracker) RemoveService(key Key) (Change, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespaces[key.Namespace]
	if ns == nil || ns.services[key.Name] == nil {
		return Change{Key: key}, false
	}
	before := ns.services[key.Name].scope
	delete(ns.services, key.Name)
	t.dropIfEmpty(key.Namespace, ns)
	return Change{key, before, Local}, before != Local
}

// Scope returns the scope of a service, and whether it is there.
func (t *Tracker) Scope(key Key) (Scope, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if ns := t.namespaces[key.Namespace]; ns != nil {
		if svc := ns.services[key.Name]; svc != nil {
			return svc.scope, true
		}
	}
	return Local, false
}

// Explain says why a service has its scope, and whether it is there.
func (t *Tracker) Explain(key Key) (Explanation, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if ns := t.namespaces[key.Namespace]; ns != nil {
		if svc := ns.services[key.Name]; svc != nil {
			return t.matcher.Explain(ns.object(key, svc)), true
		}
	}
	return Explanation{Entry: -1}, false
}

// Scopes returns the scope of every service.
func (t *Tracker) Scopes() map[Key]Scope {
	t.mu.RLock()
	defer t.mu.RUnlock()
	scopes := map[Key]Scope{}
	for name, ns := range t.namespaces {
		for svcName, svc := range ns.services {
			scopes[Key{name, svcName}] = svc.scope
		}
	}
	return scopes
}

// namespace returns the namespace of that name, made if needed.
func (t *Tracker) namespace(name string) *trackedNamespace {
	ns := t.namespaces[name]
	if ns == nil {
		ns = &trackedNamespace{services: map[string]*trackedService{}}
		t.namespaces[name] = ns
	}
	return ns
}

func (t *Tracker) dropIfEmpty(name string, ns *trackedNamespace) {
	if !ns.known && len(ns.services) == 0 {
		delete(t.namespaces, name)
	}
}

// evaluate judges the services of one namespace again and appends what
// changed.
func (t *Tracker) evaluate(changes []Change, name string, ns *trackedNamespace) []Change {
	for svcName, svc := range ns.services {
		key := Key{name, svcName}
		before := svc.scope
		svc.scope = t.matcher.Evaluate(ns.object(key, svc))
		if before != svc.scope {
			changes = append(changes, Change{key, before, svc.scope})
		}
	}
	return changes
}

func (ns *trackedNamespace) object(key Key, svc *trackedService) Object {
	return Object{
		Namespace:       key.Namespace,
		Name:            key.Name,
		Labels:          svc.labels,
		NamespaceKnown:  ns.known,
		NamespaceLabels: ns.labels,
	}
}

func sorted(changes []Change) []Change {
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return changes
}
