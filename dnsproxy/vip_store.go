package dnsproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/boundedfile"
)

// Lease is an allocation, as a [Store] keeps it.
type Lease struct {
	Host string
	VIP  VIP
	// Released is when the host gave the addresses back: since then they are in
	// quarantine. Zero: in use.
	Released time.Time
}

func (l Lease) complete() bool { return l.VIP.IPv4.IsValid() && l.VIP.IPv6.IsValid() }

func (l Lease) addrs() []netip.Addr {
	var out []netip.Addr
	for _, a := range []netip.Addr{l.VIP.IPv4, l.VIP.IPv6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// without is l without the address a.
func (l Lease) without(a netip.Addr) Lease {
	if l.VIP.IPv4 == a {
		l.VIP.IPv4 = netip.Addr{}
	}
	if l.VIP.IPv6 == a {
		l.VIP.IPv6 = netip.Addr{}
	}
	return l
}

// Store keeps the leases of one [VIPs], one for each host; it is called from one
// goroutine at a time. Clusters that are to agree even where hashes collide read
// each other's stores and adopt what they find, see [VIPs.Adopt].
type Store interface {
	// Load returns all leases.
	Load() ([]Lease, error)
	// Save keeps the changed leases in place of those of their hosts, and drops
	// those of the hosts that are forgotten: all of it, or nothing and an error.
	Save(changed []Lease, forgotten []string) error
}

// MemoryStore is a [Store] that lasts as long as it is referenced. The zero value
// is empty. It is safe for concurrent use.
type MemoryStore struct {
	mu     sync.Mutex
	leases map[string]Lease
}

// Load implements [Store].
func (s *MemoryStore) Load() ([]Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedLeases(s.leases), nil
}

// Save implements [Store].
func (s *MemoryStore) Save(changed []Lease, forgotten []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases == nil {
		s.leases = make(map[string]Lease)
	}
	applyLeases(s.leases, changed, forgotten)
	return nil
}

func applyLeases(m map[string]Lease, changed []Lease, forgotten []string) {
	for _, l := range changed {
		m[l.Host] = l
	}
	for _, host := range forgotten {
		delete(m, host)
	}
}

// FileStore is a [Store] in a file of JSON, which every Save replaces atomically:
// it costs as much as the file is long, so change many hosts at a time. One
// process may use a file. A file that is not there is an empty store.
type FileStore struct {
	Path string

	loaded bool
	leases map[string]Lease
}

// FileError says what is wrong with a file of leases.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }

// Unwrap returns what is wrong with the file.
func (e *FileError) Unwrap() error { return e.Err }

// leaseFile is the format of the file.
type leaseFile struct {
	Version int         `json:"version"`
	Leases  []fileLease `json:"leases"`
}

type fileLease struct {
	Host     string     `json:"host"`
	IPv4     netip.Addr `json:"ipv4,omitzero"`
	IPv6     netip.Addr `json:"ipv6,omitzero"`
	Released time.Time  `json:"released,omitzero"`
}

const (
	leaseFileVersion = 1

	// maxLeaseFile has room for half a million leases.
	maxLeaseFile = 64 << 20
)

// Load implements [Store].
func (s *FileStore) Load() ([]Lease, error) {
	raw, err := boundedfile.Read(s.Path, maxLeaseFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	leases := make(map[string]Lease)
	if err == nil {
		if err := decodeLeases(raw, leases); err != nil {
			return nil, &FileError{s.Path, err}
		}
	}
	s.leases, s.loaded = leases, true
	return sortedLeases(leases), nil
}

func decodeLeases(raw []byte, into map[string]Lease) error {
	var f leaseFile
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return err
	}
	if f.Version != leaseFileVersion {
		return fmt.Errorf("version %d, not %d", f.Version, leaseFileVersion)
	}
	for i, l := range f.Leases {
		if _, twice := into[l.Host]; twice {
			return fmt.Errorf("leases[%d]: %s comes twice", i, l.Host)
		}
		into[l.Host] = Lease{Host: l.Host, VIP: VIP{l.IPv4, l.IPv6}, Released: l.Released}
	}
	return nil
}

// Save implements [Store].
func (s *FileStore) Save(changed []Lease, forgotten []string) error {
	if !s.loaded {
		if _, err := s.Load(); err != nil {
			return err
		}
	}
	next := make(map[string]Lease, len(s.leases)+len(changed))
	for host, l := range s.leases {
		next[host] = l
	}
	applyLeases(next, changed, forgotten)
	f := leaseFile{Version: leaseFileVersion, Leases: []fileLease{}}
	for _, l := range sortedLeases(next) {
		f.Leases = append(f.Leases, fileLease{l.Host, l.VIP.IPv4, l.VIP.IPv6, l.Released})
	}
	raw, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	if err := replaceFile(s.Path, append(raw, '\n')); err != nil {
		return err
	}
	s.leases = next
	return nil
}

// replaceFile replaces the file at path so that, whatever happens, there is the
// old content or the new one.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails when it was renamed
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir last. Systems that cannot do it need not.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
