package istiod

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// vips give addresses to hosts that have none, for several users: each cluster
// whose ServiceEntries need them, and the mesh, for services that only other
// networks have. A host gives its addresses back when its last user does.
type vips struct {
	pool     *dnsproxy.VIPs
	prefixes []netip.Prefix
	logger   *slog.Logger

	mu     sync.Mutex
	users  map[string]map[string]bool // by host: who was given its addresses
	claims claims
}

// claims are addresses of the pool that the objects themselves give to hosts:
// their users did, or a control plane before us. Nobody else gets them.
type claims map[string][]netip.Addr

func openVIPs(cfg dnsproxy.VIPConfig, logger *slog.Logger) (*vips, error) {
	cfg.IPv4 = cmp.Or(cfg.IPv4, netip.MustParsePrefix("240.240.0.0/16"))
	cfg.IPv6 = cmp.Or(cfg.IPv6, netip.MustParsePrefix("2001:2::/48"))
	pool, err := dnsproxy.OpenVIPs(cfg)
	if err != nil {
		return nil, fmt.Errorf("istiod: virtual addresses: %w", err)
	}
	return &vips{
		pool: pool, prefixes: []netip.Prefix{cfg.IPv4, cfg.IPv6}, logger: logger,
		users: map[string]map[string]bool{}, claims: claims{},
	}, nil
}

// A vipUser is one user's hand on the vips. It implements endpoints.VIPs and
// kubemesh.VIPs.
type vipUser struct {
	vips *vips
	name string
}

// meshUser is no name of a cluster, which have no slash.
const meshUser = "/mesh"

func (v *vips) as(user string) vipUser { return vipUser{v, user} }

// Assign returns the addresses of a host: the ones that are claimed for it, if
// there are any.
func (u vipUser) Assign(hostname string) ([]netip.Addr, error) {
	v, host := u.vips, canonicalHost(hostname)
	v.mu.Lock()
	defer v.mu.Unlock()
	addrs := v.claims[host]
	if len(addrs) == 0 {
		got, err := v.pool.Allocate(host)
		if err != nil {
			return nil, err
		}
		addrs = []netip.Addr{got[0].IPv4, got[0].IPv6}
	}
	if v.users[host] == nil {
		v.users[host] = map[string]bool{}
	}
	v.users[host][u.name] = true
	return slices.Clone(addrs), nil
}

// Release says that the user needs the addresses of a host no more.
func (u vipUser) Release(hostname string) {
	u.vips.mu.Lock()
	defer u.vips.mu.Unlock()
	u.vips.release(u.name, canonicalHost(hostname))
}

// keep releases all hosts of the user but these.
func (u vipUser) keep(hostnames []string) {
	kept := map[string]bool{}
	for _, name := range hostnames {
		kept[canonicalHost(name)] = true
	}
	u.vips.mu.Lock()
	defer u.vips.mu.Unlock()
	for _, host := range slices.Sorted(maps.Keys(u.vips.users)) {
		if !kept[host] {
			u.vips.release(u.name, host)
		}
	}
}

func (v *vips) release(user, host string) {
	if !v.users[host][user] {
		return
	}
	delete(v.users[host], user)
	if len(v.users[host]) > 0 {
		return
	}
	delete(v.users, host)
	if len(v.claims[host]) > 0 {
		return // it has no others
	}
	if err := v.pool.Release(host); err != nil {
		// It stays the host's own, which costs an address and harms nobody.
		v.logger.Error("a virtual address cannot be given back", "host", host, "error", err)
	}
}

// claim makes these the claims, instead of those before. It returns the hosts
// that users were given other addresses for than they would be given now.
func (v *vips) claim(next claims) (moved []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, host := range slices.Sorted(maps.Keys(v.claims)) {
		if next[host] == nil {
			errs = append(errs, v.claimHost(host, nil, &moved))
		}
	}
	for _, host := range slices.Sorted(maps.Keys(next)) {
		if !slices.Equal(v.claims[host], next[host]) {
			errs = append(errs, v.claimHost(host, next[host], &moved))
		}
	}
	moved = slices.DeleteFunc(moved, func(host string) bool { return v.users[host] == nil })
	slices.Sort(moved)
	return slices.Compact(moved), errors.Join(errs...)
}

func (v *vips) claimHost(host string, addrs []netip.Addr, moved *[]string) error {
	moves, err := v.pool.Claim(host, addrs...)
	if err != nil {
		return fmt.Errorf("istiod: addresses of %s: %w", host, err)
	}
	if len(addrs) == 0 {
		delete(v.claims, host)
	} else {
		v.claims[host] = addrs
	}
	*moved = append(*moved, host)
	for _, m := range moves {
		*moved = append(*moved, m.Host)
	}
	return nil
}

// claimed reads what ServiceEntries say about addresses of the pool. Those of
// remote clusters act there only.
func (v *vips) claimed(home *kubefile.Snapshot) claims {
	found := claims{}
	for _, entry := range home.ServiceEntries {
		for _, host := range entry.Spec.GetHosts() {
			v.claimFrom(entry, host, found)
		}
	}
	return found
}

// claimFrom takes the user's addresses of a host, else those in the status.
func (v *vips) claimFrom(entry *kubefile.ServiceEntry, host string, into claims) {
	texts := entry.Spec.GetAddresses()
	if len(texts) == 0 {
		for _, a := range entry.Status.GetAddresses() {
			if a.GetHost() == host {
				texts = append(texts, a.GetValue())
			}
		}
	}
	host = canonicalHost(host)
	for _, text := range texts {
		addr, err := netip.ParseAddr(strings.TrimSuffix(text, "/32")) // other blocks are no host's
		inPool := slices.ContainsFunc(v.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
		if err == nil && inPool && !slices.Contains(into[host], addr) {
			into[host] = append(into[host], addr)
		}
	}
}

func canonicalHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
