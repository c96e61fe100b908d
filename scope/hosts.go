package scope

import (
	"fmt"
	"regexp"
	"strings"
)

// hostRules are the hosts of serviceSettings and Istio's defaults.
type hostRules struct {
	exact  map[string]hostRule
	suffix map[string]hostRule // what follows the * of a wildcard
}

type hostRule struct {
	host         string
	clusterLocal bool
	line         int // of the setting; 0 for a default
}

func (r *hostRules) set(rule hostRule) {
	if suffix, ok := strings.CutPrefix(rule.host, "*"); ok {
		r.suffix[suffix] = rule
	} else {
		r.exact[rule.host] = rule
	}
}

// lookup returns the most specific rule for host: an exact one, else the
// wildcard with the longest suffix. It is bounded by the length of host
// whatever the number of rules.
func (r *hostRules) lookup(host string) (hostRule, bool) {
	host = strings.ToLower(host)
	if rule, ok := r.exact[host]; ok {
		return rule, true
	}
	for i := 0; i <= len(host); i++ {
		if rule, ok := r.suffix[host[i:]]; ok {
			return rule, true
		}
	}
	return hostRule{}, false
}

func compileHosts(settings []ServiceSetting, opts Options) (hostRules, error) {
	rules := hostRules{exact: map[string]hostRule{}, suffix: map[string]hostRule{}}
	defaults := defaultClusterLocal(opts)
	for i, s := range settings {
		for j, host := range s.Hosts {
			if err := validateHost(host); err != nil {
				path := fmt.Sprintf("serviceSettings[%d].hosts[%d]", i, j)
				return hostRules{}, &CompileError{Path: path, Line: s.Line, Err: err}
			}
			host = strings.ToLower(host)
			if !s.ClusterLocal {
				defaults = withoutDefault(defaults, host)
			}
			// As in istiod, the last rule for a host counts.
			rules.set(hostRule{host: host, clusterLocal: s.ClusterLocal, line: s.Line})
		}
	}
	// The defaults that are left come last, as in istiod: a default cannot be
	// weakened by anything but its removal.
	for _, host := range defaults {
		rules.set(hostRule{host: host, clusterLocal: true})
	}
	return rules, nil
}

// defaultClusterLocal lists what istiod takes as cluster-local unless told
// otherwise.
func defaultClusterLocal(opts Options) []string {
	discovery := strings.ToLower(opts.DiscoveryHost)
	if discovery == "" {
		discovery = "istiod.istio-system.svc"
	}
	if !strings.HasSuffix(discovery, "."+opts.Domain) {
		discovery += "." + opts.Domain
	}
	return []string{
		"*.kube-system.svc." + opts.Domain,
		"kubernetes.default.svc." + opts.Domain,
		discovery,
	}
}

// withoutDefault removes the defaults that clusterLocal: false for host takes
// back: an equal one, or a wildcard that host is covered by. As in istiod, the
// latter makes every other host of that wildcard mesh-wide too.
func withoutDefault(defaults []string, host string) []string {
	var kept []string
	for _, d := range defaults {
		suffix, wildcard := strings.CutPrefix(d, "*")
		if host == d || (wildcard && strings.HasSuffix(host, suffix)) {
			continue
		}
		kept = append(kept, d)
	}
	return kept
}

// hostPattern is what Istio accepts as a host: a DNS name whose first label
// may be, or begin with, a star.
var hostPattern = regexp.MustCompile(
	`^(\*|(\*-?)?` + dnsLabel + `)(\.` + dnsLabel + `)*$`)

const dnsLabel = `[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?`

func validateHost(host string) error {
	if len(host) > 253 || !hostPattern.MatchString(host) {
		return fmt.Errorf("%.60q is not a host: want a DNS name, whose first label may start with a star", host)
	}
	return nil
}
