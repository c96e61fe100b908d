package istiod

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/identity"
)

// Config says what a Server is. Fields without a default are required.
type Config struct {
	Cluster string
	Dir     string // of the cluster's own objects

	// Authority certifies workloads, and this server. Control planes of one
	// mesh share its roots. Its trust domain is that of the MeshConfig.
	Authority *identity.CA
	// Tokens say who may call. The Server adds those of the node proxies and
	// gateways that its clusters have.
	Tokens *Tokens

	// Remotes are the directories of other clusters, by name: what a remote
	// secret is where clusters have API servers. Default: none.
	Remotes map[string]string
	// Network replaces what the label topology.istio.io/network of the own
	// cluster's istio-system namespace says. Default: the label.
	Network string
	// Compat chooses istiod's own way to show other networks. Default: ours.
	Compat endpoints.Compat
	// VIPs say where virtual addresses come from, and where they are kept.
	// Default: Istio's prefixes; they last as long as the Server, and come out
	// the same the next time unless hashes collide.
	VIPs dnsproxy.VIPConfig
	// KeepStale is how long the objects of a cluster count that cannot be read
	// any more. Default: for as long as it takes.
	KeepStale time.Duration
	// ServerNames are further DNS names and IP addresses that clients may know
	// this server by, besides istiod.istio-system.svc and localhost.
	ServerNames []string
	// Logger gets what goes wrong. Default: silent.
	Logger *slog.Logger
}

// complete returns the Config with its defaults, or what is wrong with it.
func (cfg Config) complete() (Config, error) {
	switch {
	case cfg.Cluster == "":
		return cfg, errors.New("istiod: the cluster has no name")
	case cfg.Dir == "":
		return cfg, errors.New("istiod: the cluster has no directory")
	case cfg.Authority == nil || cfg.Tokens == nil:
		return cfg, errors.New("istiod: Authority and Tokens are required")
	}
	for name, dir := range cfg.Remotes {
		if name == "" || dir == "" {
			return cfg, errors.New("istiod: a remote cluster needs a name and a directory")
		}
		if name == cfg.Cluster {
			return cfg, fmt.Errorf("istiod: the remote cluster %s has the name of the own one", name)
		}
	}
	for _, name := range cfg.ServerNames {
		if _, err := netip.ParseAddr(name); err != nil && !isHostname(name) {
			return cfg, fmt.Errorf("istiod: server name %q is neither a DNS name nor an IP address", name)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Remotes = maps.Clone(cfg.Remotes)
	return cfg, nil
}

func isHostname(name string) bool {
	return name != "" && !strings.Contains(name, "..") && !strings.HasPrefix(name, ".") &&
		strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}

// dirs are the directories of all clusters, by name.
func (cfg Config) dirs() map[string]string {
	dirs := map[string]string{cfg.Cluster: cfg.Dir}
	maps.Copy(dirs, cfg.Remotes)
	return dirs
}
