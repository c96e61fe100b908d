package nds

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	ndspb "github.com/eastwest-mesh/eastwest/internal/pb/nds/v1"
)

// TypeURL is the xDS type of a name table.
const TypeURL = "type.googleapis.com/istio.networking.nds.v1.NameTable"

// Error says what is wrong with a table.
type Error struct {
	Host  string // empty: the table as a whole
	Field string // "ips[1]"
	Err   error
}

func (e *Error) Error() string {
	if e.Host == "" {
		return fmt.Sprintf("nds: %v", e.Err)
	}
	return fmt.Sprintf("nds: %s: %s: %v", e.Host, e.Field, e.Err)
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

var errTwice = errors.New("another entry has the same host")

// Decode reads a NameTable. The entries are sorted by host. The error joins an
// [*Error] for everything that is wrong; then there are no entries.
func Decode(raw []byte) ([]dnsproxy.Entry, error) {
	table := new(ndspb.NameTable)
	if err := proto.Unmarshal(raw, table); err != nil {
		return nil, &Error{Err: err}
	}
	entries := make([]dnsproxy.Entry, 0, len(table.GetTable()))
	var errs []error
	for host, info := range table.GetTable() {
		addrs, err := parseIPs(host, info.GetIps())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries = append(entries, dnsproxy.Entry{
			Host:      host,
			Namespace: info.GetNamespace(),
			ShortName: info.GetShortname(),
			Registry:  dnsproxy.Registry(info.GetRegistry()),
			Addresses: addrs,
			AltHosts:  info.GetAltHosts(),
		})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(entries, func(a, b dnsproxy.Entry) int { return strings.Compare(a.Host, b.Host) })
	return entries, nil
}

func parseIPs(host string, ips []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for i, ip := range ips {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, &Error{Host: host, Field: fmt.Sprintf("ips[%d]", i), Err: err}
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// Encode writes entries as a NameTable, always in the same bytes. Pods become
// entries of their own; entries without addresses are left out, as istiod does.
// Two entries with one host are an [*Error].
func Encode(entries []dnsproxy.Entry) ([]byte, error) {
	table := &ndspb.NameTable{Table: make(map[string]*ndspb.NameTable_NameInfo)}
	for i := range entries {
		for _, e := range entries[i].Flatten() {
			if len(e.Addresses) == 0 {
				continue
			}
			host := strings.ToLower(strings.TrimSuffix(e.Host, "."))
			if table.Table[host] != nil {
				return nil, &Error{Host: host, Field: "table", Err: errTwice}
			}
			table.Table[host] = infoOf(e)
		}
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(table)
	if err != nil {
		return nil, &Error{Err: err}
	}
	return raw, nil
}

func infoOf(e dnsproxy.Entry) *ndspb.NameTable_NameInfo {
	info := &ndspb.NameTable_NameInfo{Registry: string(e.Registry), AltHosts: e.AltHosts}
	for _, a := range e.Addresses {
		info.Ips = append(info.Ips, a.Unmap().String())
	}
	// Agents make short names of these, and only Kubernetes hosts have any.
	if e.Registry == dnsproxy.Kubernetes && e.ShortName != "" {
		info.Shortname, info.Namespace = e.ShortName, e.Namespace
	}
	return info
}
