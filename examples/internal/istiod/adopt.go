package istiod

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

// A plan is a new state of all clusters that is known to work.
type plan struct {
	next     map[string]*cluster // all of them
	affected []string            // those that may have changed, the own one first
	policies []xds.Resource      // if the own one is affected
	imports  kubemesh.Imports
	moved    []string // hosts that now have other virtual addresses
}

// adopt makes snapshots the state of all clusters, of which those that are
// affected have to be looked at again. On an error clients see the state before.
func (c *clusters) adopt(snapshots map[string]*kubefile.Snapshot, affected []string) error {
	p, err := c.prepare(snapshots, affected)
	if err != nil {
		return err
	}
	for _, name := range p.affected {
		if err := c.mesh.SetCluster(p.next[name].facts.Cluster); err != nil {
			return fmt.Errorf("%s: %w", p.next[name].snapshot.Name, err)
		}
	}
	c.publish(p)
	return nil
}

// prepare does all that can fail. What it changes, addresses and tokens, nobody
// has heard of yet.
func (c *clusters) prepare(snapshots map[string]*kubefile.Snapshot, affected []string) (*plan, error) {
	home := snapshots[c.cfg.Cluster]
	if err := checkTrustDomain(home, c.cfg.Authority); err != nil {
		return nil, err
	}
	imports := kubemesh.NewImports(c.heard(snapshots))
	if !reflect.DeepEqual(imports, c.imports) {
		affected = c.order(snapshots)
	}
	facts, err := c.convert(snapshots, imports, affected)
	if err != nil {
		return nil, err
	}
	// Addresses that objects give to hosts win over those that we gave.
	moved, err := c.vips.claim(c.vips.claimed(home))
	if err != nil {
		return nil, err
	}
	if len(moved) > 0 {
		affected = c.order(snapshots)
		if facts, err = c.convert(snapshots, imports, affected); err != nil {
			return nil, err
		}
	}
	p := &plan{next: maps.Clone(c.known), affected: affected, moved: moved, imports: imports}
	if p.policies, err = encodePolicies(facts[c.cfg.Cluster]); err != nil {
		return nil, err
	}
	for _, name := range affected {
		callers, err := c.issueTokens(name, snapshots[name])
		if err != nil {
			return nil, err
		}
		p.next[name] = &cluster{snapshot: snapshots[name], facts: facts[name], callers: callers}
	}
	return p, nil
}

// publish tells the mesh and the clients.
func (c *clusters) publish(p *plan) {
	// Who hears of a workload may ask for its certificate at once.
	before := c.places.Swap(newPlaces(p.next))
	c.mu.Lock()
	c.imports = p.imports
	c.mu.Unlock()
	c.forget(p.moved)
	// A policy must be known before the workloads that it protects, and until
	// they are gone.
	c.views.policies.Update(p.policies, nil)
	for _, name := range p.affected {
		c.commit(name, p.next[name], len(p.moved) > 0)
	}
	if slices.Contains(p.affected, c.cfg.Cluster) {
		c.views.policies.Replace(p.policies)
	}
	c.views.move(before)
}

// convert makes facts of the snapshots of some clusters. Nothing but virtual
// addresses is changed by it.
func (c *clusters) convert(snapshots map[string]*kubefile.Snapshot, imports kubemesh.Imports, names []string) (map[string]*kubemesh.Facts, error) {
	facts := map[string]*kubemesh.Facts{}
	home := snapshots[c.cfg.Cluster]
	scopes, err := c.readScopes(snapshots)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		cfg := kubemesh.Config{Cluster: name, Home: home, Compat: c.cfg.Compat, Scope: scopes.exports(name), Accepts: scopes.accepts(name), Imports: imports, VIPs: c.vips.as(name)}
		if name == c.cfg.Cluster {
			cfg.Network = c.cfg.Network
		}
		if facts[name], err = kubemesh.Convert(cfg, snapshots[name]); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", name, err)
		}
	}
	return facts, nil
}

// forget makes the mesh give up the addresses that it was given for hosts, so
// that it asks for them again when it hears of the hosts' services next.
func (c *clusters) forget(hosts []string) {
	if len(hosts) == 0 {
		return
	}
	var changes []endpoints.Change
	for name, known := range c.known {
		change := endpoints.Change{Cluster: name}
		for _, s := range known.facts.Services {
			if slices.Contains(hosts, canonicalHost(s.Hostname)) {
				change.RemovedServices = append(change.RemovedServices, s.Key())
			}
		}
		changes = append(changes, change)
	}
	if err := c.mesh.Apply(changes...); err != nil {
		c.cfg.Logger.Error("services cannot be withdrawn", "error", err)
	}
}

// commit tells the mesh the new state of a cluster: what changed, or all of it.
func (c *clusters) commit(name string, next *cluster, all bool) {
	before := c.known[name]
	if before == nil {
		before = &cluster{}
	}
	since, expired := before.facts, c.expired(name)
	if all || expired {
		since = nil
	}
	if expired && next.snapshot == before.snapshot { // and it is still away
		next.refused = before.refused
	} else if next.refused = c.mesh.Apply(next.facts.Since(since)); next.refused != nil {
		c.cfg.Logger.Error("some objects cannot be used", "cluster", name, "error", next.refused)
	}
	if next.snapshot == before.snapshot { // only another cluster's changed
		next.problem, next.staleSince = before.problem, before.staleSince
	}
	if err := c.mesh.SetStale(name, next.staleSince); err != nil {
		c.cfg.Logger.Error("a cluster cannot be marked", "cluster", name, "error", err)
	}
	c.warn(name, before.facts, next.facts)
	c.vips.as(name).keep(next.facts.Assigned)
	for _, caller := range before.callers {
		if !slices.Contains(next.callers, caller) {
			c.cfg.Tokens.Withdraw(caller)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[name] = next
}

// expired reports whether the mesh dropped what it knew of a cluster.
func (c *clusters) expired(name string) bool {
	return slices.ContainsFunc(c.mesh.Clusters(), func(s endpoints.ClusterStatus) bool { return s.ID == name && s.Expired })
}

// warn tells about what has no effect, unless it was told before.
func (c *clusters) warn(name string, before, now *kubemesh.Facts) {
	told := map[[2]string]bool{}
	if before != nil {
		for _, w := range before.Warnings {
			told[[2]string{w.Object, w.Problem}] = true // wherever it stands now
		}
	}
	for _, w := range now.Warnings {
		if !told[[2]string{w.Object, w.Problem}] {
			c.cfg.Logger.Warn(w.String(), "cluster", name)
		}
	}
}

// issueTokens makes the tokens of a cluster's node proxies and gateways.
func (c *clusters) issueTokens(name string, s *kubefile.Snapshot) ([]Caller, error) {
	var callers []Caller
	for _, node := range s.Nodes {
		callers = append(callers, NodeProxy(name, node.Name))
	}
	for _, g := range s.Gateways {
		// One of class istio-remote is another cluster's, which knows its token.
		if g.Spec.GatewayClassName == "istio-east-west" {
			account := g.Annotations["gateway.istio.io/service-account"]
			if account == "" {
				account = g.Name
			}
			callers = append(callers, Caller{Cluster: name, Namespace: g.Namespace, ServiceAccount: account})
		}
	}
	var errs []error
	for _, caller := range callers {
		_, err := c.cfg.Tokens.Issue(caller)
		errs = append(errs, err)
	}
	return callers, errors.Join(errs...)
}

func encodePolicies(home *kubemesh.Facts) ([]xds.Resource, error) {
	if home == nil {
		return nil, nil // not affected
	}
	resources := make([]xds.Resource, len(home.Policies))
	for i, p := range home.Policies {
		body, err := wds.EncodeAuthorization(p)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", p.ResourceName(), err)
		}
		resources[i] = xds.Resource{Name: p.ResourceName(), Version: wds.Version(body), Body: body}
	}
	return resources, nil
}
