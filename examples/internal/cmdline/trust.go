package cmdline

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/federation"
)

// Trust are the flags that say whom a proxy trusts, and what it does not trust
// any more.
type Trust struct {
	domain, crl, roots, dir, policy *string

	aliases   identity.Aliases
	endpoints []federation.Endpoint
}

// AddTrust defines -trust-domain, -trust-domain-alias, -federate,
// -federation-roots, -federation-dir, -crl and -compliance-policy.
func AddTrust(fs *flag.FlagSet, getenv Getenv) *Trust {
	t := &Trust{aliases: identity.Aliases{}}
	t.domain = String(fs, getenv, "trust-domain", "TRUST_DOMAIN", "cluster.local", "trust domain of the mesh")
	t.crl = String(fs, getenv, "crl", "CRL_PATH", "", "file of certificate revocation lists, PEM or DER; watched, and open connections that rely on a revoked certificate end (default: none)")
	t.policy = String(fs, getenv, "compliance-policy", "COMPLIANCE_POLICY", "", `"pqc" accepts no key exchange but X25519MLKEM768`)
	fs.Func("trust-domain-alias", "a further `NAME` of the trust domain; may be repeated", func(v string) error {
		alias, err := spiffeid.TrustDomainFromString(v)
		t.aliases[alias] = spiffeid.TrustDomain{} // of -trust-domain, which may come later
		return err
	})
	fs.Func("federate", "another mesh, as `DOMAIN=URL`: its trust domain and its SPIFFE bundle endpoint; may be repeated", t.addEndpoint)
	t.roots = fs.String("federation-roots", "", "file of the roots that verify bundle endpoints (default: those of the system)")
	t.dir = fs.String("federation-dir", "", "directory to keep the bundles of other meshes in, so that a restart needs no endpoint (default: none)")
	return t
}

func (t *Trust) addEndpoint(v string) error {
	name, url, ok := strings.Cut(v, "=")
	if !ok || url == "" {
		return errors.New("want DOMAIN=URL")
	}
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return err
	}
	t.endpoints = append(t.endpoints, federation.Endpoint{TrustDomain: td, URL: url})
	return nil
}

// Trusted is what came of the flags. Run keeps it current.
type Trusted struct {
	Domain    spiffeid.TrustDomain
	Federated []spiffeid.TrustDomain

	// Config has what all credentials of the proxy have, besides a source and
	// peers.
	Config identity.Config

	parts []func(context.Context) error
}

// Open reads the files that the flags name.
func (t *Trust) Open(logger *slog.Logger) (*Trusted, error) {
	td, err := spiffeid.TrustDomainFromString(*t.domain)
	if err != nil {
		return nil, &UsageError{Err: fmt.Errorf("-trust-domain: %w", err)}
	}
	out := &Trusted{Domain: td}
	for alias := range t.aliases {
		if alias == td {
			return nil, &UsageError{Err: fmt.Errorf("-trust-domain-alias: %s is the trust domain itself", td.Name())}
		}
		t.aliases[alias] = td
	}
	out.Config.Aliases = t.aliases
	switch *t.policy {
	case "":
	case "pqc":
		out.Config.RequirePQ = true
	default:
		return nil, &UsageError{Err: fmt.Errorf("-compliance-policy: %q is not known, want pqc", *t.policy)}
	}
	return out, errors.Join(t.openCRLs(out, logger), t.openFederation(out, logger))
}

func (t *Trust) openCRLs(out *Trusted, logger *slog.Logger) error {
	if *t.crl == "" {
		return nil
	}
	crls, err := identity.OpenCRLs(identity.CRLConfig{Files: []string{*t.crl}, Logger: logger})
	if err != nil {
		return fmt.Errorf("-crl: %w", err)
	}
	out.Config.Revocations = crls
	out.parts = append(out.parts, crls.Run)
	return nil
}

func (t *Trust) openFederation(out *Trusted, logger *slog.Logger) error {
	if len(t.endpoints) == 0 {
		return nil
	}
	roots, err := t.endpointRoots()
	if err != nil {
		return err
	}
	for i := range t.endpoints {
		e := &t.endpoints[i]
		if e.TrustDomain == out.Domain {
			return &UsageError{Err: fmt.Errorf("-federate: %s is our own trust domain", e.TrustDomain.Name())}
		}
		e.Roots = roots
		out.Federated = append(out.Federated, e.TrustDomain)
	}
	bundles, err := federation.New(federation.Config{Endpoints: t.endpoints, Dir: *t.dir, Logger: logger})
	if err != nil {
		return &UsageError{Err: fmt.Errorf("-federate: %w", err)}
	}
	out.Config.Bundles = bundles
	out.parts = append(out.parts, bundles.Run)
	return nil
}

func (t *Trust) endpointRoots() (*x509.CertPool, error) {
	if *t.roots == "" {
		return nil, nil
	}
	data, err := os.ReadFile(*t.roots)
	if err != nil {
		return nil, fmt.Errorf("-federation-roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("-federation-roots: no certificates in %s", *t.roots)
	}
	return pool, nil
}

// Peers are everybody of the mesh and of those that it is federated with.
func (t *Trusted) Peers() identity.Peers {
	return identity.Peers{TrustDomains: append([]spiffeid.TrustDomain{t.Domain}, t.Federated...)}
}

// Run keeps revocation lists and bundles current until ctx ends, whose cause it
// returns.
func (t *Trusted) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, part := range t.parts {
		running.Go(func() { _ = part(ctx) }) // each ends with ctx only
	}
	<-ctx.Done()
	running.Wait()
	return context.Cause(ctx)
}
