package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/eastwest-mesh/eastwest/internal/strictpem"
)

// Files of a CA's directory, named as in Istio's secret cacerts.
const (
	caCertFile   = "ca-cert.pem"
	caKeyFile    = "ca-key.pem"
	caRootFile   = "root-cert.pem"
	caChainFile  = "cert-chain.pem" // may be missing
	certBlock    = "CERTIFICATE"
	keyBlock     = "PRIVATE KEY"
	privateMode  = 0o600
	publicMode   = 0o644
	othersWrite  = 0o022
	othersAccess = 0o077
)

// OpenCA returns a CA out of a directory in the layout of Istio's secret
// cacerts: ca-cert.pem and ca-key.pem sign, root-cert.pem is what verifiers
// trust, cert-chain.pem stands between. If the directory is empty or not there,
// a self-signed root is made in it, for its owner alone to read; of several
// processes that do so at once, one makes it for all.
//
// Files that are replaced later are taken into service by Run or Reload.
func OpenCA(dir string, cfg CAConfig) (*CA, error) {
	if cfg.Certificate != nil || cfg.Key != nil || cfg.Chain != nil || cfg.Roots != nil {
		return nil, errors.New("identity: OpenCA reads the authority from the directory: CAConfig must have none")
	}
	ca, err := newCA(cfg)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("identity: CA: %w", err)
	}
	if len(entries) == 0 {
		if err := ca.createRoot(dir); err != nil {
			return nil, fmt.Errorf("identity: new root of a CA: %w", err)
		}
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	ca.fromDir = true
	ca.files = watchedFiles{
		what:     "the files of the CA",
		names:    []string{path(caCertFile), path(caKeyFile), path(caRootFile)},
		optional: []string{path(caChainFile)},
		limit:    maxFile,
		interval: cfg.Interval,
		logger:   ca.cfg.Logger,
		load:     ca.load,
	}
	if _, err := ca.files.Reload(); err != nil {
		return nil, err
	}
	ca.files.changed = ca.cfg.Changed // from now on
	return ca, nil
}

// Reload reads the directory of OpenCA and reports whether it changed. On an
// error the previous authority stays in service.
func (ca *CA) Reload() (changed bool, err error) {
	if !ca.fromDir {
		return false, errors.New("identity: the CA has no directory")
	}
	return ca.files.Reload()
}

// Run takes changed files of the directory of OpenCA into service, until the
// context ends, whose cause it returns. Failures are logged, and tried again.
func (ca *CA) Run(ctx context.Context) error {
	if !ca.fromDir {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return ca.files.Run(ctx)
}

// load puts the authority of the files into service.
func (ca *CA) load(content [][]byte) error {
	names := slices.Concat(ca.files.names, ca.files.optional)
	if err := ca.checkMode(names[1]); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return fmt.Errorf("identity: %s with %s: %w", names[0], names[1], err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("identity: %s holds a key that cannot sign", names[1])
	}
	roots, err := strictpem.Certificates(content[2])
	if err != nil {
		return fmt.Errorf("identity: %s: %w", names[2], err)
	}
	var chain []*x509.Certificate
	if content[3] != nil {
		if chain, err = strictpem.Certificates(content[3]); err != nil {
			return fmt.Errorf("identity: %s: %w", names[3], err)
		}
	}
	if err := ca.use(pair.Leaf, key, chain, roots); err != nil {
		return fmt.Errorf("%w (in %s)", err, filepath.Dir(names[0]))
	}
	return nil
}

// checkMode refuses a key that others could have put there. That others can
// read it is told only: volumes of Kubernetes are readable by default.
func (ca *CA) checkMode(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	mode := info.Mode().Perm()
	switch {
	case runtime.GOOS == "windows":
		return nil
	case mode&othersWrite != 0:
		return fmt.Errorf("identity: %s may be written by others than its owner (mode %#o)", name, mode)
	case mode&othersAccess != 0:
		ca.cfg.Logger.Warn("the key of the CA may be read by others than its owner", "file", name, "mode", fmt.Sprintf("%#o", mode))
	}
	return nil
}

// createRoot makes the files in a directory beside dir and moves that there:
// dir then holds all of them or none.
func (ca *CA) createRoot(dir string) error {
	cert, key, err := ca.newRoot()
	if err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".ca-*") // with mode 0700
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := writeRoot(temp, cert, key); err != nil {
		return err
	}
	_ = os.Remove(dir) // which succeeds if it is empty: Rename wants it gone
	err = os.Rename(temp, dir)
	if _, stat := os.Stat(filepath.Join(dir, caKeyFile)); err != nil && stat == nil {
		return nil // another process was first
	}
	return err
}

func writeRoot(dir string, cert *x509.Certificate, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := encodePEM([]*x509.Certificate{cert})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, caKeyFile), pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), privateMode),
		os.WriteFile(filepath.Join(dir, caCertFile), certPEM, publicMode),
		os.WriteFile(filepath.Join(dir, caRootFile), certPEM, publicMode),
	)
}

func encodePEM(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw})...)
	}
	return out
}
