package identity

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/eastwest-mesh/eastwest/internal/strictpem"
)

// maxFile bounds a PEM file: 1 MiB holds some thousand certificates.
const maxFile = 1 << 20

// FilesConfig names the files of a source. All are PEM.
type FilesConfig struct {
	Certificates string // leaf first, then intermediates
	Key          string // PKCS #8, SEC 1 or PKCS #1
	Roots        string // of our own trust domain

	// Federated names a file of roots for each further trust domain.
	Federated map[spiffeid.TrustDomain]string

	// Interval is how often Run looks for changes. If zero, 10 s.
	Interval time.Duration

	// Logger is told about reloads and their failures. If nil, nobody is.
	Logger *slog.Logger
}

// IstioFiles returns the names of the files that Istio's agent writes.
func IstioFiles(dir string) FilesConfig {
	return FilesConfig{
		Certificates: filepath.Join(dir, "cert-chain.pem"),
		Key:          filepath.Join(dir, "key.pem"),
		Roots:        filepath.Join(dir, "root-cert.pem"),
	}
}

// SPIFFEFiles returns the names of the files that spiffe-helper writes.
func SPIFFEFiles(dir string) FilesConfig {
	return FilesConfig{
		Certificates: filepath.Join(dir, "svid.pem"),
		Key:          filepath.Join(dir, "svid_key.pem"),
		Roots:        filepath.Join(dir, "bundle.pem"),
	}
}

// Files is a Source that reads PEM files. What it serves changes only by Reload,
// as a whole: new files that do not fit together leave the old content in
// service. It is safe for concurrent use.
type Files struct {
	cfg    FilesConfig
	memory Memory
	files  watchedFiles
}

// OpenFiles reads the files and fails if they are not all good.
func OpenFiles(cfg FilesConfig) (*Files, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Files{cfg: cfg}
	f.files = watchedFiles{
		what:     "identity files",
		names:    []string{cfg.Certificates, cfg.Key, cfg.Roots},
		limit:    maxFile,
		interval: cfg.Interval,
		logger:   cfg.Logger,
		load:     f.load,
	}
	for _, td := range sortedDomains(cfg.Federated) {
		f.files.names = append(f.files.names, cfg.Federated[td])
	}
	if _, err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Run reloads what changed, until the context ends, whose cause it returns. It
// compares the contents of the files, so that it sees replaced files, renamed
// directories and Kubernetes' symlinks alike. Failures are logged, and tried
// again at the next interval.
func (f *Files) Run(ctx context.Context) error { return f.files.Run(ctx) }

// Reload reads the files and reports whether they changed. On an error the
// previous content stays in service.
func (f *Files) Reload() (changed bool, err error) { return f.files.Reload() }

// load takes new content into service as a whole.
func (f *Files) load(content [][]byte) error {
	byName := make(map[string][]byte, len(content))
	for i, b := range content {
		name := f.files.names[i]
		if _, err := strictpem.Blocks(b); err != nil { // go-spiffe passes over it
			return fmt.Errorf("identity: %s: %w", name, err)
		}
		byName[name] = b
	}
	svid, bundles, err := f.parse(byName)
	if err != nil {
		return err
	}
	f.memory.replace(svid, bundles)
	return nil
}

// parse checks that the key belongs to the certificate, that the certificate is
// valid now under our own roots (a writer may be halfway through), and that
// every file of roots has one.
func (f *Files) parse(content map[string][]byte) (*x509svid.SVID, []*x509bundle.Bundle, error) {
	key, err := toPKCS8(content[f.cfg.Key])
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %s: %w", f.cfg.Key, err)
	}
	svid, err := x509svid.Parse(content[f.cfg.Certificates], key)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %s with key %s: %w", f.cfg.Certificates, f.cfg.Key, err)
	}
	own, err := parseRoots(svid.ID.TrustDomain(), f.cfg.Roots, content)
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := x509svid.Verify(svid.Certificates, own, x509svid.WithTime(time.Now())); err != nil {
		return nil, nil, fmt.Errorf("identity: %s does not verify with %s: %w", f.cfg.Certificates, f.cfg.Roots, err)
	}
	bundles := []*x509bundle.Bundle{own}
	for _, td := range sortedDomains(f.cfg.Federated) {
		if td == svid.ID.TrustDomain() {
			return nil, nil, fmt.Errorf("identity: %s: trust domain %q is our own, its roots are in %s", f.cfg.Federated[td], td.Name(), f.cfg.Roots)
		}
		b, err := parseRoots(td, f.cfg.Federated[td], content)
		if err != nil {
			return nil, nil, err
		}
		bundles = append(bundles, b)
	}
	return svid, bundles, nil
}

// toPKCS8 rewrites a key of the older forms SEC 1 and PKCS #1, which Istio's
// agent and openssl write, to the only one that go-spiffe reads.
func toPKCS8(content []byte) ([]byte, error) {
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return content, nil
		}
		var key any
		var err error
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			return content, nil
		default: // such as EC PARAMETERS, which the key repeats
			continue
		}
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
}

func parseRoots(td spiffeid.TrustDomain, name string, content map[string][]byte) (*x509bundle.Bundle, error) {
	b, err := x509bundle.Parse(td, content[name])
	if err == nil && b.Empty() {
		err = errors.New("no certificates in it")
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", name, err)
	}
	return b, nil
}

// GetX509SVID implements x509svid.Source.
func (f *Files) GetX509SVID() (*x509svid.SVID, error) { return f.memory.GetX509SVID() }

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (f *Files) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return f.memory.GetX509BundleForTrustDomain(td)
}
