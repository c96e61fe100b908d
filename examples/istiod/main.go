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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
	"github.com/eastwest-mesh/eastwest/examples/internal/istiod"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cmdline.Exit(os.Stderr, "istiod", run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)))
}

type options struct {
	cluster, config, network, state, ca, listen, admin *string
	remotes                                            map[string]string
	names                                              *string
	compat                                             *bool
	logger                                             *slog.Logger
}

func parse(args []string, getenv cmdline.Getenv, stderr io.Writer) (*options, error) {
	fs := cmdline.NewFlagSet("istiod", stderr)
	o := &options{remotes: map[string]string{}}
	o.cluster = cmdline.String(fs, getenv, "cluster", "CLUSTER_ID", "Kubernetes", "name of the cluster")
	o.config = fs.String("config", "", "directory of the cluster's objects, as YAML; watched (required)")
	fs.Func("remote", "another cluster and the directory of its objects, as `NAME=DIR`; may be repeated", func(v string) error {
		name, dir, ok := strings.Cut(v, "=")
		if !ok || name == "" || dir == "" {
			return errors.New("want NAME=DIR")
		}
		if o.remotes[name] != "" {
			return fmt.Errorf("cluster %s is there twice", name)
		}
		o.remotes[name] = dir
		return nil
	})
	o.network = fs.String("network", "", "network of the cluster (default: the label topology.istio.io/network of its namespace istio-system)")
	o.state = fs.String("state", "", "directory for tokens, the root certificate and virtual addresses (required)")
	o.ca = fs.String("ca", "", "directory of the CA, in the layout of Istio's secret cacerts; a root is made there if there is none (default: ca below -state)")
	o.listen = fs.String("listen", "127.0.0.1:15012", "address to serve discovery and certificates on")
	o.admin = fs.String("admin", "", "address to serve the status on, as JSON (default: none)")
	o.names = fs.String("server-names", "", "further DNS names and IP addresses of this server, separated by commas")
	o.compat = fs.Bool("istio-compat", false, "show other networks exactly as Istio's own istiod does")
	logger := cmdline.AddLogger(fs)
	if err := cmdline.Parse(fs, args); err != nil {
		return nil, err
	}
	if *o.config == "" || *o.state == "" {
		return nil, &cmdline.UsageError{Err: errors.New("-config and -state are required")}
	}
	if *o.ca == "" {
		*o.ca = filepath.Join(*o.state, "ca")
	}
	o.logger = logger(stderr)
	return o, nil
}

func run(ctx context.Context, args []string, getenv cmdline.Getenv, stdout, stderr io.Writer) error {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	server, authority, err := o.server()
	if err != nil {
		return err
	}
	if err := cmdline.WriteFile(filepath.Join(*o.state, "root-cert.pem"), authority.RootPEM()); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *o.listen)
	if err != nil {
		return err
	}
	status, err := o.serveStatus(ctx, server)
	if err != nil {
		l.Close()
		return err
	}
	fmt.Fprintf(stdout, "istiod of %s serves on %s%s\n", *o.cluster, l.Addr(), status)
	if err := server.Serve(ctx, l); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (o *options) server() (*istiod.Server, *istiod.Authority, error) {
	td, err := o.trustDomain()
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(*o.state, 0o700); err != nil {
		return nil, nil, err
	}
	authority, err := istiod.OpenAuthority(*o.ca, td)
	if err != nil {
		return nil, nil, err
	}
	tokens, err := istiod.OpenTokens(filepath.Join(*o.state, "tokens"))
	if err != nil {
		return nil, nil, err
	}
	cfg := istiod.Config{
		Cluster:   *o.cluster,
		Dir:       *o.config,
		Remotes:   o.remotes,
		Network:   *o.network,
		Authority: authority,
		Tokens:    tokens,
		VIPStore:  filepath.Join(*o.state, "vips.json"),
		Logger:    o.logger,
	}
	if *o.names != "" {
		cfg.ServerNames = strings.Split(*o.names, ",")
	}
	if *o.compat {
		cfg.Compat = endpoints.Istio
	}
	server, err := istiod.New(cfg)
	return server, authority, err
}

// trustDomain reads the MeshConfig, which is needed before anything else.
func (o *options) trustDomain() (spiffeid.TrustDomain, error) {
	snapshot, err := kubefile.Load(*o.config)
	if err != nil {
		return spiffeid.TrustDomain{}, err
	}
	name := endpoints.DefaultTrustDomain
	if snapshot.Mesh != nil && snapshot.Mesh.GetTrustDomain() != "" {
		name = snapshot.Mesh.GetTrustDomain()
	}
	return spiffeid.TrustDomainFromString(name)
}

// serveStatus serves what the control plane knows, until ctx ends. It returns
// what to say about it.
func (o *options) serveStatus(ctx context.Context, server *istiod.Server) (string, error) {
	if *o.admin == "" {
		return "", nil
	}
	l, err := net.Listen("tcp", *o.admin)
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(server.Status()); err != nil {
			o.logger.Debug("status was not sent", "error", err)
		}
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l)
	context.AfterFunc(ctx, func() { s.Close() })
	return ", status on http://" + l.Addr().String() + "/debug/status", nil
}
