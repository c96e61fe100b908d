// Package cmdline holds the flags that the example programs share. Each flag
// takes its default from the environment variable that ztunnel or istiod has
// for the same thing.
package cmdline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

// A UsageError is a command line that makes no sense.
type UsageError struct {
	Err  error
	told bool // by the flag package
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong with it.
func (e *UsageError) Unwrap() error { return e.Err }

// NewFlagSet returns the flags of a program, which are explained on w.
func NewFlagSet(program string, w io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(program, flag.ContinueOnError)
	fs.SetOutput(w)
	return fs
}

// Parse parses a command line without arguments. Its errors are *UsageError,
// or flag.ErrHelp if only help was asked for.
func Parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return &UsageError{Err: err, told: true}
	}
	if fs.NArg() > 0 {
		return &UsageError{Err: fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	return nil
}

// Main runs a program with its command line and environment until it is
// interrupted, and exits. It is what a main function calls.
func Main(program string, run func(ctx context.Context, args []string, getenv Getenv, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := Exit(os.Stderr, program, run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
	stop()
	os.Exit(status)
}

// Exit tells of an error and returns the exit status: 2 for a *UsageError, 1
// for any other, 0 if there is none.
func Exit(w io.Writer, program string, err error) int {
	var usage *UsageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		if !usage.told {
			fmt.Fprintf(w, "%s: %v; -h explains\n", program, err)
		}
		return 2
	default:
		fmt.Fprintf(w, "%s: %v\n", program, err)
		return 1
	}
}

// WriteFile replaces a file that others read, at once.
func WriteFile(path string, data []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(0o644), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

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
		return nil, nil, &UsageError{Err: errors.New("-podnet and -underlay are required")}
	}
	var cidrs []netip.Prefix
	for _, text := range strings.Split(*p.cidrs, ",") {
		cidr, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, nil, &UsageError{Err: fmt.Errorf("-pod-cidrs: %w", err)}
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
