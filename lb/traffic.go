package lb

import (
	"fmt"
	"strings"
)

// Annotation is the annotation of Services, ServiceEntries and Namespaces that
// says how traffic is distributed.
const Annotation = "networking.istio.io/traffic-distribution"

// Traffic is what Kubernetes and Istio let users say about where the traffic of
// a service goes.
type Traffic struct {
	// InternalLocal: the service's internalTrafficPolicy is Local.
	InternalLocal bool

	// Distribution is the service's spec.trafficDistribution: PreferClose,
	// PreferSameZone, PreferSameNode, or one of ours, PreferSameCluster and
	// PreferSameNetwork. Case counts, as in Kubernetes.
	Distribution string

	// Annotation is the value of Annotation on the service. It takes the same
	// values and Any, whatever the case.
	Annotation string

	// NamespaceAnnotation is the same on the service's namespace.
	NamespaceAnnotation string

	// PublishNotReady: the service's publishNotReadyAddresses.
	PublishNotReady bool

	// Unresolved: the service is a ServiceEntry of resolution NONE.
	Unresolved bool
}

// An UnknownDistributionError names values that Traffic.Policy passed over.
type UnknownDistributionError struct {
	Field string // Distribution, Annotation or NamespaceAnnotation
	Value string
}

func (e *UnknownDistributionError) Error() string {
	return fmt.Sprintf("lb: %s: unknown traffic distribution %.60q", e.Field, e.Value)
}

// Policy returns the Policy that istiod derives. The first of Distribution,
// Annotation and NamespaceAnnotation that is set decides; an unknown
// Distribution is passed over, and an unknown annotation stands for Any.
//
// The error, if any, is an *UnknownDistributionError that names the first value
// that was not understood. The Policy is what istiod would use even then.
func (t Traffic) Policy() (Policy, error) {
	if t.Unresolved {
		return Policy{Mode: Passthrough, Health: AllowAll}, nil
	}
	preferences, err := t.preferences()
	p := Policy{Preferences: preferences}
	if len(preferences) > 0 {
		p.Mode = Failover
	}
	if t.InternalLocal {
		p = Policy{Mode: Strict, Preferences: []Scope{Node}}
	}
	if t.PublishNotReady {
		p.Health = AllowAll
	}
	return p, err
}

func (t Traffic) preferences() (prefs []Scope, err error) {
	if t.Distribution != "" {
		exact := func(a, b string) bool { return a == b }
		if prefs, ok := distribution(t.Distribution, exact); ok && prefs != nil {
			return prefs, nil
		}
		err = &UnknownDistributionError{"Distribution", t.Distribution}
	}
	field, value := "Annotation", t.Annotation
	if value == "" {
		field, value = "NamespaceAnnotation", t.NamespaceAnnotation
	}
	if value == "" {
		return nil, err
	}
	prefs, ok := distribution(value, strings.EqualFold)
	if !ok && err == nil {
		err = &UnknownDistributionError{field, value}
	}
	return prefs, err
}

// distribution returns the preferences that a value stands for, none for Any.
func distribution(value string, equal func(a, b string) bool) (prefs []Scope, ok bool) {
	for _, d := range []struct {
		name  string
		prefs []Scope
	}{
		{"PreferClose", []Scope{Network, Region, Zone}},
		{"PreferSameZone", []Scope{Network, Region, Zone}},
		{"PreferSameNode", []Scope{Network, Region, Zone, Subzone, Node}},
		// Ours: stay in the cluster, and in it prefer what needs no gateway.
		{"PreferSameCluster", []Scope{Cluster, Network}},
		// Ours: whatever needs no gateway, in any cluster of the network.
		{"PreferSameNetwork", []Scope{Network}},
		{"Any", nil},
	} {
		if equal(d.name, value) {
			return d.prefs, true
		}
	}
	return nil, false
}
