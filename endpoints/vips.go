package endpoints

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// VIPs hands out virtual addresses. Calls come one at a time, with the mesh locked: they must not call it.
type VIPs interface {
	// Assign returns the addresses of a host: always the same ones until it is released.
	Assign(hostname string) ([]netip.Addr, error)
	// Release says that a host needs its addresses no more.
	Release(hostname string)
}

// A vipTable remembers which hosts have addresses from the VIPs hook.
type vipTable struct {
	source VIPs
	hosts  map[string]*vipHost
}

type vipHost struct {
	addrs []netip.Addr
	users map[string]error // services of that hostname, and why they have no address
}

// complete returns the addresses of a service with its own virtual ones on a network, if it has none there.
func (t *vipTable) complete(key string, s *Service, network string) []NetworkAddress {
	if slices.ContainsFunc(s.Addresses, func(a NetworkAddress) bool { return a.Network == network }) {
		return s.Addresses
	}
	h := t.hosts[s.Hostname]
	if h == nil {
		h = &vipHost{users: make(map[string]error)}
		t.hosts[s.Hostname] = h
	}
	h.users[key] = t.assign(h, s.Hostname)
	addresses := slices.Clip(s.Addresses)
	for _, a := range h.addrs {
		addresses = append(addresses, HostAddress(network, a))
	}
	return addresses
}

// assign asks for the addresses of a host that has none yet.
func (t *vipTable) assign(h *vipHost, hostname string) error {
	if h.addrs != nil {
		return nil
	}
	addrs, err := t.source.Assign(hostname)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() }) {
		return fmt.Errorf("VIPs gave an invalid address for %s", hostname)
	}
	h.addrs = addrs
	return nil
}

// forgive forgets that a service could not be given an address: it is about to be looked at again.
func (t *vipTable) forgive(s *serviceState) {
	_, hostname, _ := strings.Cut(s.key, "/")
	if h := t.hosts[hostname]; h != nil && h.users[s.key] != nil {
		h.users[s.key] = nil
	}
}

// release gives the addresses of a service back once it is global nowhere, and reports whether there were any.
func (t *vipTable) release(s *serviceState) bool {
	_, hostname, _ := strings.Cut(s.key, "/")
	h := t.hosts[hostname]
	if h == nil {
		return false
	}
	delete(h.users, s.key)
	if len(h.users) > 0 {
		return false
	}
	delete(t.hosts, hostname)
	t.source.Release(hostname)
	return len(h.addrs) > 0
}

// failed returns the services that could not be given an address, and why.
func (t *vipTable) failed() map[string]error {
	all := make(map[string]error)
	for _, h := range t.hosts {
		for key, err := range h.users {
			if err != nil {
				all[key] = err
			}
		}
	}
	return all
}

func (t *vipTable) problems() []error {
	failed := t.failed()
	var all []error
	for _, key := range slices.Sorted(maps.Keys(failed)) {
		all = append(all, &VIPError{Service: key, Err: failed[key]})
	}
	return all
}
