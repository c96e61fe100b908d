package istiod

import (
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A Status is what the control plane knows and serves, for people and tools.
type Status struct {
	Cluster   string               `json:"cluster"`
	Clusters  []ClusterStatus      `json:"clusters"`
	Conflicts []endpoints.Conflict `json:"conflicts"`
	Problems  []string             `json:"problems"`
	Clients   []ClientStatus       `json:"clients"`
}

// ClusterStatus is what is known of a cluster.
type ClusterStatus struct {
	Name       string     `json:"name"`
	Network    string     `json:"network"`
	Services   int        `json:"services"`
	Workloads  int        `json:"workloads"`
	Gateways   int        `json:"gateways"`
	StaleSince *time.Time `json:"staleSince,omitempty"` // its directory cannot be read since
}

// ClientStatus is a proxy that is connected.
type ClientStatus struct {
	Node      string    `json:"node"`
	Caller    string    `json:"caller"`
	Connected time.Time `json:"connected"`
	Sent      uint64    `json:"sent"`     // resources
	Rejected  uint64    `json:"rejected"` // responses that the client did not take whole
	LastError string    `json:"lastError,omitempty"`
}

// Status returns the state of this moment.
func (s *Server) Status() Status {
	st := Status{Cluster: s.cfg.Cluster, Conflicts: s.mesh.Conflicts()}
	for _, c := range s.mesh.Clusters() {
		cs := ClusterStatus{Name: c.ID, Network: c.Network, Services: c.Services, Workloads: c.Workloads, Gateways: c.Gateways}
		if c.Stale {
			cs.StaleSince = &c.StaleSince
		}
		st.Clusters = append(st.Clusters, cs)
	}
	for _, err := range s.mesh.Problems() {
		st.Problems = append(st.Problems, err.Error())
	}
	for _, c := range s.xds.Clients() {
		client := ClientStatus{Node: c.Node.ID, Connected: c.Connected}
		if caller, ok := c.Peer.(Caller); ok {
			client.Caller = caller.String()
		}
		for _, t := range c.Types {
			client.Sent += t.Resources
			client.Rejected += t.Rejected
			if t.LastError != "" {
				client.LastError = t.LastError
			}
		}
		st.Clients = append(st.Clients, client)
	}
	return st
}
