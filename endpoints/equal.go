package endpoints

import (
	"bytes"
	"slices"
)

// Equal reports whether s and o are the same, also in what is not on the wire.
func (s *Service) Equal(o *Service) bool {
	if s == o || s == nil || o == nil {
		return s == o
	}
	return s.Name == o.Name && s.Namespace == o.Namespace && s.Hostname == o.Hostname &&
		s.IPFamilies == o.IPFamilies && s.IngressUseWaypoint == o.IngressUseWaypoint &&
		s.Canonical == o.Canonical && s.Visibility == o.Visibility &&
		s.Scope == o.Scope && s.Instance == o.Instance && s.Created.Equal(o.Created) &&
		slices.Equal(s.Addresses, o.Addresses) &&
		slices.Equal(s.Ports, o.Ports) &&
		slices.Equal(s.SubjectAltNames, o.SubjectAltNames) &&
		slices.Equal(s.Refused, o.Refused) &&
		s.LoadBalancing.equal(o.LoadBalancing) &&
		equalTo(s.Waypoint, o.Waypoint) &&
		slices.Equal(s.WeightedWaypoints, o.WeightedWaypoints) &&
		slices.EqualFunc(s.Extensions, o.Extensions, Extension.equal) &&
		bytes.Equal(s.Unknown, o.Unknown)
}

// Equal reports whether w and o are the same.
func (w *Workload) Equal(o *Workload) bool {
	if w == o || w == nil || o == nil {
		return w == o
	}
	return w.UID == o.UID && w.Name == o.Name && w.Namespace == o.Namespace && w.Cluster == o.Cluster &&
		w.Network == o.Network && w.Hostname == o.Hostname && w.Health == o.Health &&
		w.TrustDomain == o.TrustDomain && w.ServiceAccount == o.ServiceAccount &&
		w.Tunnel == o.Tunnel && w.NativeTunnel == o.NativeTunnel && w.NetworkMode == o.NetworkMode &&
		w.Locality == o.Locality && w.Node == o.Node && w.Type == o.Type && w.WorkloadName == o.WorkloadName &&
		w.CanonicalName == o.CanonicalName && w.CanonicalRevision == o.CanonicalRevision &&
		slices.Equal(w.Addresses, o.Addresses) &&
		slices.EqualFunc(w.Services, o.Services, ServicePorts.equal) &&
		equalTo(w.Capacity, o.Capacity) &&
		equalTo(w.ApplicationTunnel, o.ApplicationTunnel) &&
		equalTo(w.Waypoint, o.Waypoint) &&
		equalTo(w.NetworkGateway, o.NetworkGateway) &&
		slices.Equal(w.AuthorizationPolicies, o.AuthorizationPolicies) &&
		slices.EqualFunc(w.Extensions, o.Extensions, Extension.equal) &&
		bytes.Equal(w.Unknown, o.Unknown)
}

// Equal reports whether g and o are the same.
func (g *Gateway) Equal(o *Gateway) bool {
	if g == o || g == nil || o == nil {
		return g == o
	}
	return g.Namespace == o.Namespace && g.Name == o.Name && g.Network == o.Network &&
		g.HBONEPort == o.HBONEPort && g.NoHBONE == o.NoHBONE && g.SNIPort == o.SNIPort && g.ServiceAccount == o.ServiceAccount &&
		g.Weight == o.Weight && g.Health == o.Health &&
		slices.Equal(g.Addresses, o.Addresses) && slices.Equal(g.Hostnames, o.Hostnames)
}

func (l *LoadBalancing) equal(o *LoadBalancing) bool {
	if l == nil || o == nil {
		return l == o
	}
	return l.Mode == o.Mode && l.HealthPolicy == o.HealthPolicy && slices.Equal(l.Preference, o.Preference)
}

func (p ServicePorts) equal(o ServicePorts) bool {
	return p.Service == o.Service && slices.Equal(p.Ports, o.Ports)
}

func (e Extension) equal(o Extension) bool {
	return e.Name == o.Name && e.TypeURL == o.TypeURL && bytes.Equal(e.Value, o.Value)
}

func equalTo[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
