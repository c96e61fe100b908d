// Package cmdline holds the flags that the example programs share. Each flag
// takes its default from the environment variable that ztunnel or istiod has
// for the same thing.
package cmdline

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

// Getenv reads an environment variable, as os.Getenv does.
type Getenv func(string) string

// String defines a flag whose default is an environment variable or, if that
// is not set, fallback. An empty env means that there is none.
func String(fs *flag.FlagSet, getenv Getenv, name, env, fallback, usage string) *string {
	value := fallback
	if env != "" {
		usage += " (env " + env + ")"
		if v := getenv(env); v != "" {
			value = v
		}
	}
	return fs.String(name, value, usage)
}

// PodNetwork are the flags of a pod network that processes share.
type PodNetwork struct {
	pods, underlay, cidrs *string
}

// AddPodNetwork defines -podnet, -pod-cidrs and -underlay.
func AddPodNetwork(fs *flag.FlagSet) PodNetwork {
	return PodNetwork{
		pods:     fs.String("podnet", "", "directory of the cluster's pod network, shared by all processes of the cluster"),
		cidrs:    fs.String("pod-cidrs", "10.0.0.0/8", "addresses of the pod network, separated by commas"),
		underlay: fs.String("underlay", "", "directory of the network between clusters, shared by the processes of all of them"),
	}
}

// Open opens the networks. Closing the first leaves the second alone.
func (p PodNetwork) Open() (pods, underlay *podnet.Network, err error) {
	if *p.pods == "" || *p.underlay == "" {
		return nil, nil, errors.New("-podnet and -underlay are required")
	}
	var cidrs []netip.Prefix
	for _, text := range strings.Split(*p.cidrs, ",") {
		cidr, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, nil, fmt.Errorf("-pod-cidrs: %w", err)
		}
		cidrs = append(cidrs, cidr)
	}
	underlay, err = podnet.New(podnet.Config{Name: "underlay", Dir: *p.underlay})
	if err != nil {
		return nil, nil, err
	}
	pods, err = podnet.New(podnet.Config{Name: "pods", CIDRs: cidrs, Parent: underlay, Dir: *p.pods})
	if err != nil {
		underlay.Close()
		return nil, nil, err
	}
	return pods, underlay, nil
}

// ControlPlane are the flags of a proxy's way to its istiod.
type ControlPlane struct {
	Cluster *string

	address, rootCert, serverName, token *string
}

// AddControlPlane defines -xds-address, -root-cert, -xds-hostname, -token and -cluster.
func AddControlPlane(fs *flag.FlagSet, getenv Getenv) ControlPlane {
	return ControlPlane{
		Cluster:    String(fs, getenv, "cluster", "CLUSTER_ID", "Kubernetes", "name of the cluster"),
		address:    String(fs, getenv, "xds-address", "XDS_ADDRESS", "localhost:15012", "host:port of istiod, which is also the CA"),
		rootCert:   String(fs, getenv, "root-cert", "XDS_ROOT_CA", "./var/run/secrets/istio/root-cert.pem", "file of the roots that istiod's certificate leads to"),
		serverName: String(fs, getenv, "xds-hostname", "ALT_XDS_HOSTNAME", "istiod.istio-system.svc", "name that istiod's certificate must be for"),
		token:      String(fs, getenv, "token", "", "./var/run/secrets/tokens/istio-token", "file of the token that istiod knows us by, read anew for each call"),
	}
}

// Config reads the files that the flags name.
func (c ControlPlane) Config() (discovery.ControlPlane, error) {
	roots, err := os.ReadFile(*c.rootCert)
	if err != nil {
		return discovery.ControlPlane{}, fmt.Errorf("-root-cert: %w", err)
	}
	return discovery.ControlPlane{
		Address:    strings.TrimPrefix(*c.address, "https://"),
		RootCerts:  roots,
		ServerName: *c.serverName,
		Token:      discovery.TokenFile(*c.token),
		ClusterID:  *c.Cluster,
	}, nil
}

// AddLogger defines -log-level and returns how to make the logger.
func AddLogger(fs *flag.FlagSet) func(w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	fs.TextVar(&level, "log-level", slog.LevelInfo, "least severe message to log: debug, info, warn or error")
	return func(w io.Writer) *slog.Logger {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
}
