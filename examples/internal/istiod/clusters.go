package istiod

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

// clusters follow the directories of all clusters and tell the mesh.
type clusters struct {
	cfg   Config
	mesh  *endpoints.Mesh
	vips  *vips
	views *views

	// places is never nil after loadClusters.
	places *atomic.Pointer[places]

	// mu guards what follows against readers. After loadClusters, only follow
	// writes.
	mu    sync.Mutex
	known map[string]*cluster // by name
	// imports are what clusters export to each other.
	imports kubemesh.Imports
}

// A cluster is the last good state of a directory, and what is wrong with it.
type cluster struct {
	snapshot *kubefile.Snapshot
	facts    *kubemesh.Facts
	callers  []Caller // that have tokens because of these objects
	refused  error    // objects that the mesh did not take

	problem    error     // why the directory as it is now cannot be used
	staleSince time.Time // and since when; zero if it can
}

// loadClusters reads all directories for the first time.
func loadClusters(cfg Config, mesh *endpoints.Mesh, vips *vips, views *views) (*clusters, error) {
	c := &clusters{cfg: cfg, mesh: mesh, vips: vips, views: views, places: views.places, known: map[string]*cluster{}}
	snapshots := map[string]*kubefile.Snapshot{}
	dirs := cfg.dirs()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		snapshot, err := kubefile.Load(dirs[name])
		errs = append(errs, err)
		snapshots[name] = snapshot
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, c.adopt(snapshots, c.order(snapshots))
}

// order sorts the names of clusters, the own one first: its network and trust
// domain are what others are compared with.
func (c *clusters) order(snapshots map[string]*kubefile.Snapshot) []string {
	return slices.SortedFunc(maps.Keys(snapshots), func(a, b string) int {
		if own := c.cfg.Cluster; (a == own) != (b == own) {
			return cmp.Compare(boolRank(b == own), boolRank(a == own))
		}
		return cmp.Compare(a, b)
	})
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
	for name, dir := range c.cfg.dirs() {
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
	expire := time.NewTimer(0)
	defer expire.Stop()
	for {
		select {
		case n := <-changes:
			c.take(n)
		case <-expire.C:
		case <-ctx.Done():
			return
		}
		if next := c.expire(time.Now()); !next.IsZero() {
			expire.Reset(time.Until(next))
		}
	}
}

// expire drops what clusters told that have been stale for too long, and says
// when to look again.
func (c *clusters) expire(now time.Time) (next time.Time) {
	heard := len(c.heard(c.snapshots()))
	next = c.mesh.Expire(now)
	if len(c.heard(c.snapshots())) == heard {
		return next
	}
	if err := c.adopt(c.snapshots(), nil); err != nil { // others had a part in what is gone
		c.cfg.Logger.Error("what expired clusters exported cannot be taken back", "error", err)
	}
	return next
}

// heard returns those snapshots that still count: of clusters that are not
// expired, or are back.
func (c *clusters) heard(snapshots map[string]*kubefile.Snapshot) map[string]*kubefile.Snapshot {
	all := maps.Clone(snapshots)
	maps.DeleteFunc(all, func(name string, s *kubefile.Snapshot) bool {
		known := c.known[name]
		return known != nil && known.snapshot == s && c.expired(name)
	})
	return all
}

// take applies one directory's news. What is wrong changes nothing but that
// the cluster counts as stale.
func (c *clusters) take(n news) {
	err := n.err
	if err == nil {
		snapshots := c.snapshots()
		snapshots[n.cluster] = n.snapshot
		affected := []string{n.cluster}
		if before := c.known[n.cluster]; n.cluster == c.cfg.Cluster || before == nil || !sameMesh(before.snapshot, n.snapshot) {
			affected = c.order(snapshots) // its MeshConfig counts for all
		}
		err = c.adopt(snapshots, affected)
	}
	if err != nil {
		c.setStale(n.cluster, err)
	}
}

func sameMesh(a, b *kubefile.Snapshot) bool {
	if a.Mesh == nil || b.Mesh == nil {
		return a.Mesh == b.Mesh
	}
	return bytes.Equal(a.Mesh.Text, b.Mesh.Text)
}

func (c *clusters) snapshots() map[string]*kubefile.Snapshot {
	all := make(map[string]*kubefile.Snapshot, len(c.known))
	for name, known := range c.known {
		all[name] = known.snapshot
	}
	return all
}

func (c *clusters) setStale(name string, problem error) {
	c.cfg.Logger.Error("a cluster's objects cannot be used; the last good state stays", "cluster", name, "error", problem)
	known := c.known[name]
	c.mu.Lock()
	known.problem = problem
	if known.staleSince.IsZero() {
		known.staleSince = time.Now()
	}
	c.mu.Unlock()
	if err := c.mesh.SetStale(name, known.staleSince); err != nil {
		c.cfg.Logger.Error("a cluster cannot be marked", "cluster", name, "error", err)
	}
}
