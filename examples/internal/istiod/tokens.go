package istiod

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Tokens are the bearer tokens of a mesh that has no API server to issue and
// review them. All methods may be called concurrently.
type Tokens struct {
	dir string

	mu      sync.Mutex
	tokens  map[Caller]string
	callers map[[sha256.Size]byte]Caller // by the hash of the token
}

// OpenTokens keeps the tokens in a directory, one file each, which only its
// owner may read. Several processes may share it: they give a caller the same
// token. An empty dir keeps them in memory.
func OpenTokens(dir string) (*Tokens, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("istiod: tokens: %w", err)
		}
	}
	return &Tokens{dir: dir, tokens: map[Caller]string{}, callers: map[[sha256.Size]byte]Caller{}}, nil
}

// Path returns the file of a caller's token: CLUSTER.NAMESPACE.ACCOUNT, and
// .NODE if it has one. A dot in one of the first three is written %2E, so that
// no two callers have one file.
func (t *Tokens) Path(c Caller) string {
	var parts []string
	for _, part := range []string{c.Cluster, c.Namespace, c.ServiceAccount} {
		parts = append(parts, strings.ReplaceAll(url.PathEscape(part), ".", "%2E"))
	}
	if c.Node != "" {
		parts = append(parts, url.PathEscape(c.Node))
	}
	return filepath.Join(t.dir, strings.Join(parts, "."))
}

// Issue returns the token of a caller, and makes one if there is none.
func (t *Tokens) Issue(c Caller) (string, error) {
	if c.Cluster == "" || c.Namespace == "" || c.ServiceAccount == "" {
		return "", fmt.Errorf("istiod: token of %s: a caller has a cluster, a namespace and a service account", c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if token := t.tokens[c]; token != "" {
		return token, nil
	}
	token := newToken()
	if t.dir != "" {
		var err error
		if token, err = keepToken(t.Path(c), token); err != nil {
			return "", fmt.Errorf("istiod: token of %s: %w", c, err)
		}
	}
	if other, known := t.callers[sha256.Sum256([]byte(token))]; known {
		return "", fmt.Errorf("istiod: token of %s: %s is that of %s", c, t.Path(c), other)
	}
	t.tokens[c] = token
	t.callers[sha256.Sum256([]byte(token))] = c
	return token, nil
}

// Withdraw makes the token of a caller good for nothing until it is issued
// again. Its file stays: another process may serve the caller.
func (t *Tokens) Withdraw(c Caller) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.callers, sha256.Sum256([]byte(t.tokens[c])))
	delete(t.tokens, c)
}

// ErrToken says that nobody has a token.
var ErrToken = errors.New("istiod: the token is not known")

// Lookup returns whose token it is. Looking up its hash tells nothing about
// other tokens by the time that it takes.
func (t *Tokens) Lookup(token string) (Caller, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	caller, ok := t.callers[sha256.Sum256([]byte(token))]
	if !ok {
		return Caller{}, ErrToken
	}
	return caller, nil
}

const tokenBytes = 32

func newToken() string {
	random := make([]byte, tokenBytes)
	_, _ = rand.Read(random) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(random)
}

// keepToken writes a token to a file, unless there is one already. It returns
// the one that is in the file. The file appears whole: of two processes that
// make one at once, one is first, and both get the same.
func keepToken(path, token string) (string, error) {
	if have, err := readToken(path); !errors.Is(err, fs.ErrNotExist) {
		return have, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with mode 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.WriteString(token)
	if err := errors.Join(err, temp.Close()); err != nil {
		return "", err
	}
	if err := os.Link(temp.Name(), path); errors.Is(err, fs.ErrExist) {
		return readToken(path)
	} else if err != nil {
		return "", err
	}
	return token, nil
}

// readToken refuses what newToken has not made, and what others may have read.
func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("%s may be used by others than its owner (mode %#o, want 0600)", path, mode)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if raw, err := base64.RawURLEncoding.DecodeString(token); err != nil || len(raw) != tokenBytes {
		return "", fmt.Errorf("%s does not hold a whole token; remove it to get a new one", path)
	}
	return token, nil
}
