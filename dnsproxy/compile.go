package dnsproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// record is one name of a table with its addresses.
type record struct {
	name   string // canonical; for wildcards the literal one
	entry  *Entry
	pod    bool // a name of one pod
	v4, v6 []net.IP
}

// posting is a record, where it can be found.
type posting struct {
	index  index
	key    string
	record *record
}

// EntryError says what is wrong with an entry that a table was given.
type EntryError struct {
	Key   Key
	Field string // "Host", "Addresses[2]", "Pods[0].Name" ...
	Err   error
}

func (e *EntryError) Error() string {
	return fmt.Sprintf("dnsproxy: entry %q of namespace %q: %s: %v", e.Key.Host, e.Key.Namespace, e.Field, e.Err)
}

// Unwrap returns what is wrong with the field.
func (e *EntryError) Unwrap() error { return e.Err }

// index is the key under which a table has the entry. Hosts hold no slash.
func (k Key) index() string { return k.Host + "/" + k.Namespace }

// compile checks e and says where its records belong.
func compile(e *Entry) ([]posting, error) {
	if field, err := check(e); err != nil {
		return nil, &EntryError{Key: e.Key(), Field: field, Err: err}
	}
	host := canonical(e.Host)
	service := newRecord(e, host, addressesOf(e))
	postings := []posting{{inHosts, host, service}}
	if below, wildcard := strings.CutPrefix(host, "*."); wildcard {
		postings = []posting{{inWild, below, service}}
	}
	for _, alt := range e.AltHosts {
		if alt = canonical(alt); alt != host {
			postings = append(postings, posting{inHosts, alt, service})
		}
	}
	short := shortName(e, host)
	if short != "" {
		postings = append(postings, posting{inShort, short + "." + canonical(e.Namespace), service})
	}
	if service.name[0] != '*' {
		postings = appendReverse(postings, service, e.Addresses)
	}
	for _, p := range e.Pods {
		label := podLabel(p)
		pod := newRecord(e, label+"."+host, p.Addresses)
		pod.pod = true
		postings = append(postings, posting{inHosts, pod.name, pod})
		if short != "" {
			postings = append(postings, posting{inShort, label + "." + short + "." + canonical(e.Namespace), pod})
		}
		postings = appendReverse(postings, pod, p.Addresses)
	}
	return postings, nil
}

func newRecord(e *Entry, name string, addrs []netip.Addr) *record {
	r := &record{name: name, entry: e}
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			r.v4 = append(r.v4, a.AsSlice())
		} else {
			r.v6 = append(r.v6, a.AsSlice())
		}
	}
	return r
}

// addressesOf are the answers for the host itself.
func addressesOf(e *Entry) []netip.Addr {
	if !e.Headless || len(e.Addresses) > 0 {
		return e.Addresses
	}
	var addrs []netip.Addr
	for _, p := range e.Pods {
		addrs = append(addrs, p.Addresses...)
	}
	return addrs
}

// clusterSet ends the names that are meant for all clusters (KEP-1645). They have
// no short names: those belong to the cluster's own service of the same name.
const clusterSet = ".svc.clusterset.local"

// shortName is e.ShortName, or what stands before .namespace.svc. in the host.
func shortName(e *Entry, host string) string {
	if e.Namespace == "" || strings.HasSuffix(host, clusterSet) {
		return ""
	}
	if e.ShortName != "" {
		return canonical(e.ShortName)
	}
	short, _, ok := strings.Cut(host, "."+canonical(e.Namespace)+".svc.")
	if !ok || strings.HasPrefix(short, "*") {
		return ""
	}
	return short
}

// podLabel is the pod's name, or its address with dashes, as in Kubernetes' own DNS.
func podLabel(p Pod) string {
	if p.Name != "" || len(p.Addresses) == 0 {
		return canonical(p.Name)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(p.Addresses[0].Unmap().String())
}

func appendReverse(postings []posting, r *record, addrs []netip.Addr) []posting {
	for _, a := range addrs {
		if arpa, err := dns.ReverseAddr(a.Unmap().String()); err == nil {
			postings = append(postings, posting{inReverse, canonical(arpa), r})
		}
	}
	return postings
}

var (
	errNoAddress = errors.New("not an IP address without a zone")
	errNoName    = errors.New("without a name it needs an address")
)

// check returns the first field of e that is wrong.
func check(e *Entry) (field string, err error) {
	if err := checkName(strings.TrimPrefix(canonical(e.Host), "*.")); err != nil {
		return "Host", err
	}
	if e.ShortName != "" {
		if err := checkName(canonical(e.ShortName)); err != nil {
			return "ShortName", err
		}
	}
	for i, alt := range e.AltHosts {
		if err := checkName(canonical(alt)); err != nil {
			return fmt.Sprintf("AltHosts[%d]", i), err
		}
	}
	if i, err := checkAddresses(e.Addresses); err != nil {
		return fmt.Sprintf("Addresses[%d]", i), err
	}
	for i, p := range e.Pods {
		if field, err := checkPod(p, e.Host); err != nil {
			return fmt.Sprintf("Pods[%d].%s", i, field), err
		}
	}
	for i, p := range e.Ports {
		if p.Number == 0 {
			return fmt.Sprintf("Ports[%d].Number", i), errors.New("zero")
		}
	}
	return "", nil
}

func checkPod(p Pod, host string) (field string, err error) {
	if i, err := checkAddresses(p.Addresses); err != nil {
		return fmt.Sprintf("Addresses[%d]", i), err
	}
	if p.Name == "" && len(p.Addresses) == 0 {
		return "Name", errNoName
	}
	if err := checkName(podLabel(p) + "." + canonical(host)); err != nil {
		return "Name", err
	}
	return "", nil
}

func checkAddresses(addrs []netip.Addr) (int, error) {
	for i, a := range addrs {
		if !a.IsValid() || a.Zone() != "" {
			return i, errNoAddress
		}
	}
	return 0, nil
}

// checkName holds a canonical name to what a DNS message can carry (RFC 1035
// section 2.3.4) and to the characters of host names, underscores included.
func checkName(name string) error {
	const longest = 253
	if name == "" || len(name) > longest {
		return fmt.Errorf("%q: a name has 1 to %d characters", name, longest)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q: a label has 1 to 63 characters", name)
		}
		if i := slices.IndexFunc([]byte(label), notInLabel); i >= 0 {
			return fmt.Errorf("%q: %q cannot be in a name", name, label[i])
		}
	}
	return nil
}

func notInLabel(c byte) bool {
	letterOrDigit := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
	return !letterOrDigit && c != '-' && c != '_'
}
