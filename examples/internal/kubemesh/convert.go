package kubemesh

import (
	"errors"
	"net/netip"

	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/identity/authz"
	"github.com/eastwest-mesh/eastwest/scope"
)

// Config says how the objects of a cluster are to be read.
type Config struct {
	// Cluster is the cluster's ID. Required.
	Cluster string

	// Network replaces what the label topology.istio.io/network of the system
	// namespace says. Default: the label, or the network "".
	Network string

	// Home is the Snapshot of the control plane's own cluster. nil means that
	// the Snapshot to convert is that.
	Home *kubefile.Snapshot

	// Compat chooses to repeat what is odd about istiod: a workload without
	// labels gets every policy of its namespace that has a selector, a network
	// that one endpoint of a ServiceEntry names is that of those after it, too,
	// ServiceEntries are never global and read from Home only, as
	// WorkloadEntries are, pods are on the network of their cluster,
	// and the HBONE port of a gateway of class istio-east-west is not read.
	Compat endpoints.Compat

	// Domain is the DNS suffix of services. Default cluster.local.
	Domain string

	// SystemNamespace is where the control plane is installed. Default
	// istio-system.
	SystemNamespace string

	// Scope decides which Services are global. Default: the MeshConfig of
	// Home, read as istiod reads it.
	Scope ScopeEvaluator

	// Accepts are what other clusters say of scopes, by cluster: their clients
	// see what this one exports only if they accept it. Default: all accept
	// all. istiod asks but the own cluster.
	Accepts map[string]ScopeEvaluator

	// Imports are the services that clusters export, by namespace/name: see
	// NewImports. Default: none. They are nothing that istiod knows in ambient
	// mode: with Compat Istio they are not used.
	Imports Imports

	// VIPs gives addresses to the hosts of ServiceEntries that have none.
	// Default: such hosts stay without one, with a Warning.
	VIPs VIPs
}

// ScopeEvaluator is what *scope.Matcher is.
type ScopeEvaluator interface {
	Evaluate(scope.Object) scope.Scope
}

// VIPs gives a host the same addresses every time.
type VIPs interface {
	Assign(hostname string) ([]netip.Addr, error)
}

// Facts are what one cluster tells a mesh. They must not be changed.
type Facts struct {
	Cluster   endpoints.Cluster
	Services  []*endpoints.Service
	Workloads []*endpoints.Workload
	Gateways  []*endpoints.Gateway

	// Policies are the policies of Home's cluster, for all of its node proxies.
	// They are empty in the facts of a remote cluster.
	Policies []*wds.Authorization

	// Assigned are the hosts that Config.VIPs was asked for.
	Assigned []string

	// Warnings tell what has no effect, in the order of files and lines.
	Warnings []Warning
}

// Convert converts the objects of one cluster. Objects that cannot be used are
// left out with a Warning; an error means that the configuration as a whole
// cannot be used.
func Convert(config Config, snapshot *kubefile.Snapshot) (*Facts, error) {
	c, err := newConverter(config, snapshot)
	if err != nil {
		return nil, err
	}
	c.readNodes()
	c.readWaypoints()
	if err := c.readPolicies(); err != nil {
		return nil, err
	}
	c.convertServices()
	c.convertImports()
	c.convertPods()
	c.convertEndpointSlices()
	c.convertServiceEntryEndpoints()
	c.convertWorkloadEntries()
	c.convertGateways()
	c.unused()
	return c.finish(), nil
}

// converter holds what is needed while one cluster is converted.
type converter struct {
	config   Config
	snapshot *kubefile.Snapshot
	home     *kubefile.Snapshot
	isHome   bool
	mesh     *meshconfig.MeshConfig

	trustDomain string // as workloads have it: empty for cluster.local
	namespaces  map[string]*corev1.Namespace
	nodes       map[string]node
	services    map[string][]*service // by namespace; one for each hostname
	waypoints   map[string]*waypoint  // by namespace/name
	policies    *authz.Converted
	pods        map[string]bool // by namespace/name
	podNames    map[string]bool // services that are one pod
	uids        map[string]bool // of workloads

	facts *Facts
}

const (
	networkLabel       = "topology.istio.io/network"
	defaultTrustDomain = endpoints.DefaultTrustDomain
)

func newConverter(config Config, snapshot *kubefile.Snapshot) (*converter, error) {
	if config.Cluster == "" {
		return nil, errors.New("kubemesh: a cluster needs an ID")
	}
	c := &converter{
		config: config, snapshot: snapshot, home: config.Home,
		isHome:     config.Home == nil || config.Home == snapshot,
		namespaces: make(map[string]*corev1.Namespace),
		services:   make(map[string][]*service),
		pods:       make(map[string]bool),
		podNames:   make(map[string]bool),
		uids:       make(map[string]bool),
		facts:      new(Facts),
	}
	if c.isHome {
		c.home = snapshot
	}
	c.config.Domain = orDefault(config.Domain, "cluster.local")
	c.config.SystemNamespace = orDefault(config.SystemNamespace, "istio-system")
	c.mesh = new(meshconfig.MeshConfig)
	if c.home.Mesh != nil {
		c.mesh = c.home.Mesh.MeshConfig
	}
	for _, n := range snapshot.Namespaces {
		c.namespaces[n.Name] = n
	}
	c.readCluster()
	if err := checkVisibility(c.mesh.ServiceEntryVisibility); err != nil {
		return nil, &kubefile.Error{Position: c.home.Mesh.Position, Object: "MeshConfig", Err: err}
	}
	return c, c.readScope()
}

// readCluster finds the cluster's network and trust domain. An empty trust
// domain is cluster.local, on the wire as well. Another cluster may be a mesh of
// its own that this one is federated with: Istio takes it to have our trust
// domain, we believe its MeshConfig.
func (c *converter) readCluster() {
	mesh := c.mesh
	if c.config.Compat == endpoints.Native && c.snapshot.Mesh != nil {
		mesh = c.snapshot.Mesh.MeshConfig
	}
	if mesh.TrustDomain != defaultTrustDomain {
		c.trustDomain = mesh.TrustDomain
	}
	network := c.config.Network
	if ns := c.namespaces[c.config.SystemNamespace]; network == "" && ns != nil {
		network = ns.Labels[networkLabel]
	}
	c.facts.Cluster = endpoints.Cluster{ID: c.config.Cluster, Network: network, TrustDomain: c.trustDomain, Local: c.isHome}
	c.readMeshNetworks()
}

// readScope compiles the MeshConfig unless the caller did.
func (c *converter) readScope() (err error) {
	if c.config.Scope == nil {
		c.config.Scope, err = Scopes(c.home, scope.Options{Domain: c.config.Domain})
	}
	return err
}

// Scopes compiles what the MeshConfig of a Snapshot says of scopes. Lines in
// its errors are lines of the file, also where the MeshConfig is in a
// ConfigMap.
func Scopes(s *kubefile.Snapshot, options scope.Options) (*scope.Matcher, error) {
	config := scope.Default()
	if s.Mesh != nil {
		var err error
		if config, err = scope.Parse(s.Mesh.Text); err != nil {
			return nil, inFile(err, s.Mesh.Position)
		}
	}
	return config.Compile(options)
}

// inFile names the file in the errors of a text that starts somewhere in it.
func inFile(err error, start kubefile.Position) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, inFile(e, start))
		}
		return errors.Join(all...)
	}
	parse := new(scope.ParseError)
	if !errors.As(err, &parse) {
		return err
	}
	at := *parse
	at.File = start.File
	if at.Line > 0 {
		at.Line += start.Line - 1
	}
	return &at
}

// rootNamespace is where policies are for the whole mesh.
func (c *converter) rootNamespace() string {
	return orDefault(c.mesh.RootNamespace, c.config.SystemNamespace)
}

func (c *converter) hostname(name, namespace string) string {
	return name + "." + namespace + ".svc." + c.config.Domain
}

// labelsOf returns the labels and annotations of a namespace.
func (c *converter) labelsOf(namespace string) (labels, annotations map[string]string) {
	if ns := c.namespaces[namespace]; ns != nil {
		return ns.Labels, ns.Annotations
	}
	return nil, nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
