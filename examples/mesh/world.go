package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
	"github.com/eastwest-mesh/eastwest/identity"
)

// The names of the two clusters, which are also those of their directories.
const (
	east = "east"
	west = "west"
)

// A world is two clusters and the network between them.
type world struct {
	clusters  map[string]*cluster
	underlay  *podnet.Network
	authority *identity.CA // one root for both
	tap       *tap
	events    *events
	settings  settings
	temp      string // holds what the control planes watch
}

// settings change how a world is built. The zero value is what the story shows;
// tests break one thing at a time with them.
type settings struct {
	logger *slog.Logger
	// directory is where the clusters' objects come from, as errors call it.
	directory string
	// rewrite changes the clusters' objects before anything starts, behind the
	// back of the facts that the story expects.
	rewrite func(dirs map[string]workdir) error
	// requests is how many a step makes that shows who answers. Default: 1000.
	requests int
	// maxTunnelAge is that of the node proxies' tunnels.
	maxTunnelAge time.Duration
	// deafTap leaves the gateways without their tap.
	deafTap bool
	// wrapApp comes between an application and its pod.
	wrapApp appWrapper
}

// newWorld reads both clusters and starts everything in them. config holds one
// directory for each cluster.
func newWorld(ctx context.Context, config iofs.FS, s settings) (_ *world, err error) {
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	w := &world{clusters: map[string]*cluster{}, tap: newTap(), events: newEvents(), settings: s}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.temp, err = os.MkdirTemp("", "eastwest-mesh-"); err != nil {
		return nil, err
	}
	if w.underlay, err = podnet.New(podnet.Config{Name: "underlay"}); err != nil {
		return nil, err
	}
	if err := w.readClusters(config); err != nil {
		return nil, err
	}
	if s.rewrite != nil {
		if err := s.rewrite(w.dirs()); err != nil {
			return nil, err
		}
	}
	td, err := spiffeid.TrustDomainFromString(w.clusters[east].facts.trustDomain())
	if err != nil {
		return nil, err
	}
	if w.authority, err = identity.NewCA(identity.CAConfig{TrustDomain: td}); err != nil {
		return nil, err
	}
	for _, c := range w.sorted() {
		if err := c.start(ctx); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.name, err)
		}
	}
	if err := w.ready(ctx); err != nil {
		return nil, err
	}
	w.remember()
	return w, nil
}

// readClusters copies each cluster's directory, so that the story can change
// it, and reads the facts.
func (w *world) readClusters(config iofs.FS) error {
	var errs []error
	for _, name := range []string{east, west} {
		sub, err := iofs.Sub(config, name)
		if err != nil {
			return err
		}
		facts, err := loadFacts(sub, name, path.Join(w.settings.directory, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		dir := filepath.Join(w.temp, name)
		if err := os.CopyFS(dir, sub); err != nil {
			return err
		}
		w.clusters[name] = &cluster{world: w, name: name, dir: workdir(dir), facts: facts}
	}
	return errors.Join(errs...)
}

func (w *world) dirs() map[string]workdir {
	dirs := map[string]workdir{}
	for name, c := range w.clusters {
		dirs[name] = c.dir
	}
	return dirs
}

func (w *world) sorted() []*cluster { return []*cluster{w.clusters[east], w.clusters[west]} }

func (w *world) other(c *cluster) *cluster {
	if c.name == east {
		return w.clusters[west]
	}
	return w.clusters[east]
}

// ready waits until every node proxy serves its pods and every gateway knows
// its cluster.
func (w *world) ready(ctx context.Context) error {
	return w.await(ctx, "both clusters to be ready", func() bool {
		return !slices.ContainsFunc(w.sorted(), func(c *cluster) bool { return !c.ready() })
	})
}

// await waits for a condition that follows from what was done before.
func (w *world) await(ctx context.Context, what string, condition func() bool) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

func (w *world) close() {
	var closing sync.WaitGroup
	for _, c := range w.clusters {
		closing.Go(c.close)
	}
	closing.Wait()
	if w.underlay != nil {
		w.underlay.Close()
	}
	os.RemoveAll(w.temp)
}
