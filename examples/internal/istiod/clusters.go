package istiod

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	"github.com/eastwest-mesh/eastwest/scope"
)

// clusters follow the directories of all clusters and tell the mesh.
type clusters struct {
	cfg   Config
	mesh  *endpoints.Mesh
	vips  *vips
	views *views

	// The last good state of each cluster. After loadClusters, only follow
	// changes it.
	snapshots map[string]*kubefile.Snapshot
	facts     map[string]*kubemesh.Facts
	warned    map[string]bool

	// placed is which identities run on which node, for the CA.
	placed atomic.Pointer[map[placement]bool]
}

// A placement is that an identity runs on a node.
type placement struct{ cluster, node, identity string }

// loadClusters reads all directories for the first time.
func loadClusters(cfg Config, mesh *endpoints.Mesh, vips *vips, views *views) (*clusters, error) {
	c := &clusters{
		cfg: cfg, mesh: mesh, vips: vips, views: views,
		snapshots: map[string]*kubefile.Snapshot{}, facts: map[string]*kubemesh.Facts{}, warned: map[string]bool{},
	}
	var errs []error
	for name, dir := range c.dirs() {
		if name == "" {
			return nil, errors.New("istiod: a remote cluster has no name")
		}
		snapshot, err := kubefile.Load(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.snapshots[name] = snapshot
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, name := range c.names() {
		if err := c.apply(name); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *clusters) dirs() map[string]string {
	dirs := maps.Clone(c.cfg.Remotes)
	if dirs == nil {
		dirs = map[string]string{}
	}
	dirs[c.cfg.Cluster] = c.cfg.Dir
	return dirs
}

// names are all clusters, the own one first: others depend on it.
func (c *clusters) names() []string {
	names := slices.Sorted(maps.Keys(c.snapshots))
	slices.SortStableFunc(names, func(a, b string) int {
		return boolRank(a != c.cfg.Cluster) - boolRank(b != c.cfg.Cluster)
	})
	return names
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// news is a directory that was read again.
type news struct {
	cluster  string
	snapshot *kubefile.Snapshot
	err      error
}

// follow applies changes of the directories until ctx ends.
func (c *clusters) follow(ctx context.Context) {
	changes := make(chan news)
	var watching sync.WaitGroup
	defer watching.Wait()
	for name, dir := range c.dirs() {
		watching.Go(func() {
			for snapshot, err := range kubefile.Watch(ctx, dir) {
				select {
				case changes <- news{name, snapshot, err}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for {
		select {
		case n := <-changes:
			c.take(n)
		case <-ctx.Done():
			return
		}
	}
}

// take applies one directory's news. What is wrong changes nothing but that a
// remote cluster counts as stale.
func (c *clusters) take(n news) {
	if n.err != nil {
		c.cfg.Logger.Error("a cluster's objects cannot be used; the last good state stays", "cluster", n.cluster, "error", n.err)
		c.setStale(n.cluster)
		return
	}
	before := c.snapshots[n.cluster]
	c.snapshots[n.cluster] = n.snapshot
	affected := []string{n.cluster}
	if n.cluster == c.cfg.Cluster {
		affected = c.names()
	}
	for _, name := range affected {
		if err := c.apply(name); err != nil {
			c.cfg.Logger.Error("a cluster's objects cannot be used; the last good state stays", "cluster", name, "error", err)
			c.setStale(n.cluster)
			c.snapshots[n.cluster] = before
			return
		}
	}
}

func (c *clusters) setStale(cluster string) {
	if err := c.mesh.SetStale(cluster, time.Now()); err != nil {
		c.cfg.Logger.Error("a cluster cannot be marked stale", "cluster", cluster, "error", err)
	}
}

// apply converts the snapshot of a cluster and tells the mesh what changed.
func (c *clusters) apply(name string) error {
	facts, err := c.convert(name)
	if err != nil {
		return err
	}
	c.warn(facts)
	if err := c.mesh.SetCluster(facts.Cluster); err != nil {
		return err
	}
	change := facts.Since(c.facts[name])
	if c.facts[name] == nil {
		change.Resync = true
	}
	if err := c.mesh.Apply(change); err != nil {
		// What was refused is named; the rest is in.
		c.cfg.Logger.Error("some objects cannot be used", "cluster", name, "error", err)
	}
	if err := c.mesh.SetStale(name, time.Time{}); err != nil {
		return err
	}
	c.facts[name] = facts
	c.place()
	if name == c.cfg.Cluster {
		return c.views.setPolicies(facts.Policies)
	}
	return nil
}

func (c *clusters) convert(name string) (*kubemesh.Facts, error) {
	snapshot, home := c.snapshots[name], c.snapshots[c.cfg.Cluster]
	evaluator, err := exportedAndAccepted(snapshot, home)
	if err != nil {
		return nil, err
	}
	cfg := kubemesh.Config{Cluster: name, Home: home, Compat: c.cfg.Compat, Scope: evaluator, VIPs: c.vips}
	if name == c.cfg.Cluster {
		cfg.Network = c.cfg.Network
	}
	facts, err := kubemesh.Convert(cfg, snapshot)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	return facts, c.issueTokens(facts, snapshot)
}

// bothSides makes a service global if all of its evaluators do.
type bothSides []*scope.Matcher

// Evaluate implements kubemesh.ScopeEvaluator.
func (b bothSides) Evaluate(o scope.Object) scope.Scope {
	result := scope.Global
	for _, m := range b {
		result = result.And(m.Evaluate(o))
	}
	return result
}

// exportedAndAccepted reads the MeshConfig of the cluster that has a service
// and of the cluster that is to see it.
func exportedAndAccepted(exporter, accepter *kubefile.Snapshot) (kubemesh.ScopeEvaluator, error) {
	exports, err := matcher(exporter)
	if err != nil || exporter == accepter {
		return bothSides{exports}, err
	}
	accepts, err := matcher(accepter)
	return bothSides{exports, accepts}, err
}

func matcher(s *kubefile.Snapshot) (*scope.Matcher, error) {
	config := scope.Default()
	if s.Mesh != nil {
		var err error
		if config, err = scope.Parse(s.Mesh.Text); err != nil {
			return nil, meshConfigError(s.Mesh.Position, err)
		}
	}
	return config.Compile(scope.Options{})
}

// meshConfigError moves what a parser says of a MeshConfig to where that
// stands in its file.
func meshConfigError(at kubefile.Position, err error) error {
	var parse *scope.ParseError
	if !errors.As(err, &parse) {
		return fmt.Errorf("%s: %w", at, err)
	}
	moved := *parse
	moved.File = at.File
	if parse.Line > 0 && at.Line > 0 {
		moved.Line += at.Line - 1
	}
	return &moved
}

// warn tells once about what has no effect.
func (c *clusters) warn(facts *kubemesh.Facts) {
	for _, w := range facts.Warnings {
		if text := w.String(); !c.warned[text] {
			c.warned[text] = true
			c.cfg.Logger.Warn(text, "cluster", facts.Cluster.ID)
		}
	}
}

// place notes which identities run on which nodes.
func (c *clusters) place() {
	placed := map[placement]bool{}
	for name, facts := range c.facts {
		for _, w := range facts.Workloads {
			if w.Node != "" {
				placed[placement{name, w.Node, w.Identity()}] = true
			}
		}
	}
	c.placed.Store(&placed)
}
