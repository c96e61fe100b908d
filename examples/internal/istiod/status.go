package istiod

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A Status is what the control plane knows and serves, for people and tools.
type Status struct {
	Cluster   string           `json:"cluster"`
	Clusters  []ClusterStatus  `json:"clusters"`
	Services  []ServiceStatus  `json:"services"`
	Conflicts []ConflictStatus `json:"conflicts"` // what clusters disagree about
	Exports   []ExportStatus   `json:"exports"`   // by the Multi-Cluster Services API
	Problems  []string         `json:"problems"`  // of the mesh as a whole
	Clients   []ClientStatus   `json:"clients"`
}

// ClusterStatus is what is known of a cluster.
type ClusterStatus struct {
	Name       string     `json:"name"`
	Network    string     `json:"network"`
	Services   int        `json:"services"`
	Workloads  int        `json:"workloads"`
	Gateways   int        `json:"gateways"`
	StaleSince *time.Time `json:"staleSince,omitempty"` // its directory cannot be used since
	Problem    string     `json:"problem,omitempty"`    // why
	Expired    bool       `json:"expired,omitempty"`    // for so long that its objects count no more
	Warnings   []string   `json:"warnings"`             // objects without effect, by file and line
}

// ServiceStatus is how node proxies of the own cluster see a service.
type ServiceStatus struct {
	Name      string   `json:"name"` // namespace/hostname
	Scope     string   `json:"scope"`
	Addresses []string `json:"addresses"`
	Endpoints int      `json:"endpoints"` // on the own network
	Remote    int      `json:"remote"`    // that stand for other networks, behind gateways
}

// ConflictStatus is a field of a global service that clusters disagree about.
type ConflictStatus struct {
	Service string            `json:"service"`
	Field   string            `json:"field"`
	Values  map[string]string `json:"values"` // by cluster
	Winner  string            `json:"winner"`
	Rule    string            `json:"rule"`
}

// ExportStatus is the status of a cluster's ServiceExport.
type ExportStatus struct {
	Service    string            `json:"service"` // namespace/name
	Cluster    string            `json:"cluster"`
	Conditions []ConditionStatus `json:"conditions"`
}

// ConditionStatus is a condition as KEP-1645 has it.
type ConditionStatus struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
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
	st := Status{
		Cluster:   s.cfg.Cluster,
		Clusters:  s.clusterStatus(),
		Services:  s.serviceStatus(),
		Conflicts: []ConflictStatus{},
		Exports:   s.clusters.exportStatus(),
		Problems:  []string{},
		Clients:   s.clientStatus(),
	}
	for _, c := range s.mesh.Conflicts() {
		status := ConflictStatus{Service: c.Service, Field: c.Field, Values: map[string]string{}, Winner: c.Winner, Rule: c.Rule}
		for _, v := range c.Values {
			status.Values[v.Cluster] = v.Value
		}
		st.Conflicts = append(st.Conflicts, status)
	}
	for _, err := range s.mesh.Problems() {
		st.Problems = append(st.Problems, err.Error())
	}
	return st
}

// StatusHandler serves the Status as JSON. It shows names and addresses, but no
// secrets.
func (s *Server) StatusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(s.Status()); err != nil {
			s.cfg.Logger.Debug("a status was not sent", "error", err)
		}
	})
}

func (s *Server) clusterStatus() []ClusterStatus {
	all := []ClusterStatus{}
	for _, c := range s.mesh.Clusters() {
		cs := ClusterStatus{Name: c.ID, Network: c.Network, Services: c.Services, Workloads: c.Workloads, Gateways: c.Gateways, Expired: c.Expired}
		s.clusters.describe(&cs)
		all = append(all, cs)
	}
	return all
}

func (c *clusters) exportStatus() []ExportStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []ExportStatus{}
	for _, key := range slices.Sorted(maps.Keys(c.imports)) {
		conditions := c.imports[key].Conditions
		for _, cluster := range slices.Sorted(maps.Keys(conditions)) {
			status := ExportStatus{Service: key, Cluster: cluster}
			for _, condition := range conditions[cluster] {
				status.Conditions = append(status.Conditions, ConditionStatus(condition))
			}
			all = append(all, status)
		}
	}
	return all
}

// describe adds what the mesh does not know: what is wrong with the objects.
func (c *clusters) describe(cs *ClusterStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.known[cs.Name]
	cs.Warnings = known.warnings()
	if known.problem != nil {
		since := known.staleSince
		cs.StaleSince, cs.Problem = &since, known.problem.Error()
	}
}

// warnings are what of the last good state has no effect.
func (c *cluster) warnings() []string {
	all := []string{}
	for _, w := range c.facts.Warnings {
		all = append(all, w.String())
	}
	if c.refused != nil {
		all = append(all, c.refused.Error())
	}
	return all
}

func (s *Server) serviceStatus() []ServiceStatus {
	client := s.views.client(audience{cluster: s.cfg.Cluster, role: endpoints.NodeProxy})
	view := s.mesh.View(client)
	snapshot := view.Snapshot()
	_ = view.Close() // which never fails
	byName := map[string]*ServiceStatus{}
	for r := range snapshot.All() {
		if r.Service != nil {
			byName[r.Name()] = &ServiceStatus{
				Name: r.Name(), Scope: r.Service.Scope.String(), Addresses: append([]string{}, addressesOn(r.Service, client.Network)...),
			}
		}
	}
	for r := range snapshot.All() {
		if r.Workload == nil {
			continue
		}
		for _, of := range r.Workload.Services {
			switch status := byName[of.Service]; {
			case status == nil:
			case r.Workload.Network == client.Network:
				status.Endpoints++
			default:
				status.Remote++
			}
		}
	}
	all := []ServiceStatus{}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, *byName[name])
	}
	return all
}

func (s *Server) clientStatus() []ClientStatus {
	all := []ClientStatus{}
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
		all = append(all, client)
	}
	return all
}
