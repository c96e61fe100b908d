package kubefile

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A Snapshot holds the objects of a directory, each kind sorted by namespace
// and name. It must not be changed.
type Snapshot struct {
	Name string // the directory

	Namespaces            []*corev1.Namespace
	Nodes                 []*corev1.Node
	Pods                  []*corev1.Pod
	Services              []*corev1.Service
	ServiceAccounts       []*corev1.ServiceAccount
	ConfigMaps            []*corev1.ConfigMap
	EndpointSlices        []*discoveryv1.EndpointSlice
	Gateways              []*gatewayv1.Gateway
	GatewayClasses        []*gatewayv1.GatewayClass
	ServiceEntries        []*ServiceEntry
	WorkloadEntries       []*WorkloadEntry
	ServiceExports        []*ServiceExport
	AuthorizationPolicies []*AuthorizationPolicy
	PeerAuthentications   []*PeerAuthentication
	Mesh                  *MeshConfig // nil if there is none
	sources               map[metav1.Object]source
	digest                [32]byte // of the files
}

// source is where an object comes from.
type source struct {
	position Position
	node     *node
}

// Position returns where an object of the snapshot starts.
func (s *Snapshot) Position(o metav1.Object) Position { return s.sources[o].position }

// Locate returns where a field of an object is, such as spec.ports[0].port, or
// where the last part of the path is that is there.
func (s *Snapshot) Locate(o metav1.Object, field string) Position {
	from, ok := s.sources[o]
	if !ok {
		return Position{}
	}
	at := from.node.at(field)
	return Position{from.position.File, at.line, at.column}
}

// JSON returns an object of the snapshot as it was read: without what was
// filled in.
func (s *Snapshot) JSON(o metav1.Object) []byte {
	if from, ok := s.sources[o]; ok {
		return from.node.appendJSON(nil)
	}
	return nil
}

// Objects returns how many objects the snapshot holds.
func (s *Snapshot) Objects() int { return len(s.sources) }

func (s *Snapshot) sort() {
	sortObjects(s.Namespaces)
	sortObjects(s.Nodes)
	sortObjects(s.Pods)
	sortObjects(s.Services)
	sortObjects(s.ServiceAccounts)
	sortObjects(s.ConfigMaps)
	sortObjects(s.EndpointSlices)
	sortObjects(s.Gateways)
	sortObjects(s.GatewayClasses)
	sortObjects(s.ServiceEntries)
	sortObjects(s.WorkloadEntries)
	sortObjects(s.ServiceExports)
	sortObjects(s.AuthorizationPolicies)
	sortObjects(s.PeerAuthentications)
}

func sortObjects[T metav1.Object](objects []T) {
	slices.SortFunc(objects, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}
