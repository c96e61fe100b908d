package endpoints

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Conflict is a field of a global service that clusters disagree about. Addresses and subject alternative
// names are never in conflict: they are united.
type Conflict struct {
	Service string         // "namespace/hostname"
	Field   string         // of Service, or Headless (it has no address), or TrustDomain (of the cluster)
	Values  []ClusterValue // of each cluster that has the service, sorted by cluster
	Winner  string         // the cluster whose value is seen where no copy is closer: from the local cluster, if there is one
	Rule    string         // why: RuleLocal, RuleOldest or RuleClusterID
}

// A ClusterValue is what one cluster says.
type ClusterValue struct {
	Cluster string
	Value   string
}

// The rules that decide between the copies of a service, in this order.
const (
	RuleLocal     = "local copy"       // the copy in the client's own cluster, else in the control plane's
	RuleOldest    = "oldest copy"      // the one made first; one of unknown age is younger than all
	RuleClusterID = "first cluster ID" // of copies made at the same time
)

// A conflictField is something that copies may differ in, as a person would write it.
type conflictField struct {
	name  string
	value func(m *Mesh, c serviceCopy) string
}

func conflictFields() []conflictField {
	return []conflictField{
		{"Canonical", func(_ *Mesh, c serviceCopy) string { return strconv.FormatBool(c.Canonical) }},
		{"Extensions", func(_ *Mesh, c serviceCopy) string { return formatExtensions(c.Extensions) }},
		{"Headless", func(_ *Mesh, c serviceCopy) string { return strconv.FormatBool(len(c.Addresses) == 0) }},
		{"IPFamilies", func(_ *Mesh, c serviceCopy) string { return c.IPFamilies.String() }},
		{"IngressUseWaypoint", func(_ *Mesh, c serviceCopy) string { return strconv.FormatBool(c.IngressUseWaypoint) }},
		{"LoadBalancing", func(_ *Mesh, c serviceCopy) string { return c.LoadBalancing.String() }},
		{"Name", func(_ *Mesh, c serviceCopy) string { return c.Name }},
		{"Ports", func(_ *Mesh, c serviceCopy) string { return formatPorts(c.Ports) }},
		{"Scope", func(_ *Mesh, c serviceCopy) string { return c.Scope.String() }},
		{"TrustDomain", func(m *Mesh, c serviceCopy) string { return m.clusters[c.cluster].TrustDomain }},
		{"Visibility", func(_ *Mesh, c serviceCopy) string { return c.Visibility.String() }},
		{"Waypoint", func(_ *Mesh, c serviceCopy) string { return formatWaypoints(c.Service) }},
	}
}

// findConflicts compares the copies of a service: all of them by scope, the global ones by everything else.
func (m *Mesh) findConflicts(s *serviceState) []Conflict {
	global := s.globals()
	if len(global) == 0 || len(s.copies) < 2 {
		return nil
	}
	var found []Conflict
	for _, f := range conflictFields() {
		among := global
		if f.name == "Scope" {
			among = s.copies
		}
		c := Conflict{Service: s.key, Field: f.name}
		differ := false
		for _, copy := range among {
			c.Values = append(c.Values, ClusterValue{copy.cluster, f.value(m, copy)})
			differ = differ || c.Values[0].Value != c.Values[len(c.Values)-1].Value
		}
		if differ {
			winner, rule := base(among, m.local, m.local)
			c.Winner, c.Rule = winner.cluster, rule
			found = append(found, c)
		}
	}
	return found
}

// String returns e.g. "FAILOVER NETWORK,REGION,ZONE ONLY_HEALTHY"; "none" of nil.
func (l *LoadBalancing) String() string {
	if l == nil {
		return "none"
	}
	var preference []string
	for _, p := range l.Preference {
		preference = append(preference, p.String())
	}
	return strings.Join([]string{l.Mode.String(), strings.Join(preference, ","), l.HealthPolicy.String()}, " ")
}

// formatPorts does not depend on the order of ports.
func formatPorts(ports []Port) string {
	var all []string
	for _, p := range ports {
		all = append(all, fmt.Sprintf("%d:%d/%s", p.ServicePort, p.TargetPort, p.AppProtocol))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func formatWaypoints(s *Service) string {
	if s.Waypoint == nil {
		return "none"
	}
	all := []string{s.Waypoint.String()}
	for _, w := range s.WeightedWaypoints {
		all = append(all, fmt.Sprintf("%s=%d", w.Destination, w.Weight))
	}
	return strings.Join(all, " ")
}

func formatExtensions(extensions []Extension) string {
	var all []string
	for _, e := range extensions {
		all = append(all, fmt.Sprintf("%s %s %x", e.Name, e.TypeURL, e.Value))
	}
	return strings.Join(all, "; ")
}
