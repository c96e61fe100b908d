// Command istiod is a control plane for a cluster that is described by a
// directory of Kubernetes objects, and for what other clusters share with it:
//
//	istiod -cluster east -config clusters/east -remote west=clusters/west -state state/east -ca state/ca
//
// It serves discovery and certificates on one TLS port to the proxies that it
// wrote tokens for, below the state directory:
//
//	state/east/root-cert.pem             what proxies trust
//	state/east/tokens/CLUSTER.NAMESPACE.ACCOUNT[.NODE]   what they prove themselves by
//
// Control planes that have the same -ca directory make one mesh.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
	"github.com/eastwest-mesh/eastwest/examples/internal/istiod"
	"github.com/eastwest-mesh/eastwest/identity"
)

func main() { cmdline.Main("istiod", run) }

type options struct {
	cluster, config, network, state, ca, listen, admin, bundle *string

	keepStale time.Duration

	remotes map[string]string
	names   []string
	compat  endpoints.Compat
	logger  *slog.Logger
}

func parse(args []string, getenv cmdline.Getenv, stderr io.Writer) (*options, error) {
	fs := cmdline.NewFlagSet("istiod", stderr)
	o := &options{remotes: map[string]string{}}
	o.cluster = cmdline.String(fs, getenv, "cluster", "CLUSTER_ID", "Kubernetes", "name of the cluster")
	o.config = fs.String("config", "", "directory of the cluster's objects, as YAML; watched (required)")
	fs.Func("remote", "another cluster and the directory of its objects, as `NAME=DIR`; may be repeated", o.addRemote)
	fs.DurationVar(&o.keepStale, "keep-stale", 0, "how long the objects of a cluster count that cannot be read any more (default: for as long as it takes)")
	o.network = fs.String("network", "", "network of the cluster (default: the label topology.istio.io/network of its namespace istio-system)")
	o.state = fs.String("state", "", "directory for tokens, the root certificate and virtual addresses (required)")
	o.ca = fs.String("ca", "", "directory of the CA, in the layout of Istio's secret cacerts; a root is made there if there is none (default: ca below -state)")
	o.listen = fs.String("listen", "127.0.0.1:15012", "address to serve discovery and certificates on")
	o.admin = fs.String("admin", "", "address to serve the status on, as JSON (default: none)")
	o.bundle = fs.String("bundle", "", "address to serve the roots of the mesh on, as a SPIFFE bundle endpoint (HTTPS), to meshes that federate with it (default: none)")
	fs.Func("server-name", "a further DNS `NAME` or IP address that clients know this server by; may be repeated", func(v string) error {
		o.names = append(o.names, v)
		return nil
	})
	fs.BoolFunc("istio-compat", "show other networks exactly as Istio's own istiod does", func(v string) error {
		yes, err := strconv.ParseBool(v)
		if yes {
			o.compat = endpoints.Istio
		}
		return err
	})
	logger := cmdline.AddLogger(fs)
	if err := cmdline.Parse(fs, args); err != nil {
		return nil, err
	}
	if *o.config == "" || *o.state == "" {
		return nil, &cmdline.UsageError{Err: errors.New("-config and -state are required")}
	}
	if o.remotes[*o.cluster] != "" {
		return nil, &cmdline.UsageError{Err: fmt.Errorf("-remote %s: that is the name of the own cluster; see -cluster", *o.cluster)}
	}
	if *o.ca == "" {
		*o.ca = filepath.Join(*o.state, "ca")
	}
	o.logger = logger(stderr)
	return o, nil
}

func (o *options) addRemote(v string) error {
	name, dir, ok := strings.Cut(v, "=")
	if !ok || name == "" || dir == "" {
		return errors.New("want NAME=DIR")
	}
	if o.remotes[name] != "" {
		return fmt.Errorf("cluster %s is there twice", name)
	}
	o.remotes[name] = dir
	return nil
}

func run(ctx context.Context, args []string, getenv cmdline.Getenv, stdout, stderr io.Writer) error {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	server, err := o.server()
	if err != nil {
		return err
	}
	var ls listeners
	defer ls.close()
	ready, err := o.open(&ls)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, ready); err != nil {
		return err
	}
	return ls.serve(ctx, server)
}

// listeners are where the control plane serves. All but the first may be nil.
type listeners struct{ discovery, admin, bundle net.Listener }

// open listens, and says where.
func (o *options) open(ls *listeners) (ready string, err error) {
	if ls.discovery, err = net.Listen("tcp", *o.listen); err != nil {
		return "", fmt.Errorf("-listen: %w", err)
	}
	ready = fmt.Sprintf("istiod of %s serves on %s", *o.cluster, ls.discovery.Addr())
	if *o.admin != "" {
		if ls.admin, err = net.Listen("tcp", *o.admin); err != nil {
			return "", fmt.Errorf("-admin: %w", err)
		}
		ready += fmt.Sprintf(", status on http://%s%s", ls.admin.Addr(), statusPath)
	}
	if *o.bundle != "" {
		if ls.bundle, err = net.Listen("tcp", *o.bundle); err != nil {
			return "", fmt.Errorf("-bundle: %w", err)
		}
		ready += fmt.Sprintf(", roots on https://%s/", ls.bundle.Addr())
	}
	return ready, nil
}

func (ls *listeners) close() {
	for _, l := range []net.Listener{ls.discovery, ls.admin, ls.bundle} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// server makes the control plane, and writes what its clients need.
func (o *options) server() (*istiod.Server, error) {
	td, err := istiod.TrustDomain(*o.config)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(*o.state, 0o700); err != nil {
		return nil, fmt.Errorf("-state: %w", err)
	}
	authority, err := o.authority(td)
	if err != nil {
		return nil, err
	}
	tokens, err := istiod.OpenTokens(filepath.Join(*o.state, "tokens"))
	if err != nil {
		return nil, err
	}
	return istiod.New(istiod.Config{
		Cluster:     *o.cluster,
		Dir:         *o.config,
		Remotes:     o.remotes,
		Network:     *o.network,
		KeepStale:   o.keepStale,
		Authority:   authority,
		Tokens:      tokens,
		Compat:      o.compat,
		VIPs:        dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: filepath.Join(*o.state, "vips.json")}},
		ServerNames: o.names,
		Logger:      o.logger,
	})
}

// authority opens the CA, and writes what clients must trust: now, and when
// its files were replaced.
func (o *options) authority(td spiffeid.TrustDomain) (ca *identity.CA, err error) {
	publish := func() error {
		return cmdline.WriteFile(filepath.Join(*o.state, "root-cert.pem"), ca.RootsPEM())
	}
	ca, err = identity.OpenCA(*o.ca, identity.CAConfig{
		TrustDomain: td,
		Logger:      o.logger,
		Changed: func() {
			if err := publish(); err != nil {
				o.logger.Error("the new roots are not published", "error", err)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return ca, publish()
}

const statusPath = "/debug/status"

// serve serves until ctx ends, or one of the listeners fails.
func (ls *listeners) serve(ctx context.Context, server *istiod.Server) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	part := func(name string, f func() error) {
		running.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if ls.admin != nil {
		part("status", func() error { return serveStatus(ctx, server, ls.admin) })
	}
	if ls.bundle != nil {
		part("roots", func() error { return server.ServeBundle(ctx, ls.bundle) })
	}
	err := server.Serve(ctx, ls.discovery)
	cancel(err)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func serveStatus(ctx context.Context, server *istiod.Server, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET "+statusPath, server.StatusHandler())
	s := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	return s.Serve(l)
}
