package mcs

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Export is a ServiceExport, with the Service of its namespace and name.
type Export struct {
	Cluster string
	Created time.Time // when it was exported: decides between clusters; one of unknown age is younger than all

	Labels, Annotations map[string]string // spec.exportedLabels and exportedAnnotations

	Service *Service // nil: there is none
}

// A Service is what of a Service counts for others.
type Service struct {
	Type  Type
	Ports []Port

	SessionAffinity        string        // None or ClientIP; empty: None
	SessionAffinityTimeout time.Duration // of sessionAffinityConfig; 0: none is said

	InternalTrafficPolicy string   // Cluster or Local; empty: Cluster
	TrafficDistribution   string   // empty: none
	IPFamilies            []string // IPv4, IPv6; in the order of preference
}

// A Type is the type of a Service, as far as it matters here.
type Type uint8

// The types of services.
const (
	ClusterSetIP Type = iota // it has virtual addresses, whatever else it has
	Headless
	ExternalName // which cannot be exported
)

// String returns ClusterSetIP, Headless or ExternalName.
func (t Type) String() string {
	names := []string{"ClusterSetIP", "Headless", "ExternalName"}
	if int(t) < len(names) {
		return names[t]
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// A Port is a port of a service.
type Port struct {
	Name        string
	Protocol    string // empty: TCP
	Port        uint16
	AppProtocol string
}

// String returns e.g. "http 80/TCP" and what the application speaks.
func (p Port) String() string {
	return strings.TrimSpace(p.Name + " " + strconv.Itoa(int(p.Port)) + "/" + p.protocol() + " " + p.AppProtocol)
}

func (p Port) protocol() string { return cmp.Or(p.Protocol, "TCP") }

// An Import is a service of all clusters that export it.
type Import struct {
	Namespace, Name     string
	Service             // as it is for all: of type ClusterSetIP or Headless
	Labels, Annotations map[string]string
	Clusters            []string  // that export it, sorted
	Created             time.Time // when it was exported first
}

// Merge merges the exports of one namespace and name, at most one of each cluster. The Import is nil if none
// is valid. The conditions are those of each export's status, by cluster. What is given in which order does
// not matter.
func Merge(namespace, name string, exports []Export) (*Import, map[string][]Condition) {
	conditions := make(map[string][]Condition, len(exports))
	var valid []Export
	for _, e := range exports {
		if problem := invalid(e); problem != nil {
			conditions[e.Cluster] = []Condition{*problem, notReady(problem.Message), noConflicts()}
		} else {
			valid = append(valid, e)
		}
	}
	if len(valid) == 0 {
		return nil, conditions
	}
	slices.SortFunc(valid, compareAge)
	conflict := findConflicts(valid)
	for _, e := range valid {
		conditions[e.Cluster] = []Condition{isValid(), isReady(), conflict}
	}
	return merge(namespace, name, valid), conditions
}

// compareAge puts the oldest first, and those of which it is not known last.
func compareAge(a, b Export) int {
	if a.Created.IsZero() != b.Created.IsZero() {
		if a.Created.IsZero() {
			return 1
		}
		return -1
	}
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Cluster, b.Cluster))
}

// merge makes one of valid exports, oldest first.
func merge(namespace, name string, exports []Export) *Import {
	first := exports[0]
	merged := &Import{
		Namespace: namespace, Name: name, Service: *first.Service,
		Labels: first.Labels, Annotations: first.Annotations, Created: first.Created,
	}
	merged.SessionAffinity = cmp.Or(merged.SessionAffinity, "None")
	merged.InternalTrafficPolicy = cmp.Or(merged.InternalTrafficPolicy, "Cluster")
	merged.Ports = nil
	for _, e := range exports {
		merged.Clusters = append(merged.Clusters, e.Cluster)
		for _, p := range e.Service.Ports {
			p.Protocol = p.protocol()
			taken := func(o Port) bool { return o.Name == p.Name || o.Port == p.Port && o.Protocol == p.Protocol }
			if !slices.ContainsFunc(merged.Ports, taken) {
				merged.Ports = append(merged.Ports, p)
			}
		}
	}
	slices.Sort(merged.Clusters)
	return merged
}
