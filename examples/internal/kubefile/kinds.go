package kubefile

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// kind is one kind of object that may be in a directory.
type kind struct {
	group      string
	versions   []string
	name       string
	clusterly  bool // it has no namespace
	checkName  func(string) []string
	make       func() metav1.Object
	add        func(*Snapshot, metav1.Object)
	apiVersion string // the preferred one, for hints
}

// kinds are all that is known, by name. No two groups share one.
var kinds = kindTable(
	kindOf("", "Namespace", func(s *Snapshot) *[]*corev1.Namespace { return &s.Namespaces }, inCluster, label, "v1"),
	kindOf("", "Node", func(s *Snapshot) *[]*corev1.Node { return &s.Nodes }, inCluster, subdomain, "v1"),
	kindOf("", "Pod", func(s *Snapshot) *[]*corev1.Pod { return &s.Pods }, inNamespace, subdomain, "v1"),
	kindOf("", "Service", func(s *Snapshot) *[]*corev1.Service { return &s.Services }, inNamespace, serviceName, "v1"),
	kindOf("", "ServiceAccount", func(s *Snapshot) *[]*corev1.ServiceAccount { return &s.ServiceAccounts }, inNamespace, subdomain, "v1"),
	kindOf("", "ConfigMap", func(s *Snapshot) *[]*corev1.ConfigMap { return &s.ConfigMaps }, inNamespace, subdomain, "v1"),
	kindOf("discovery.k8s.io", "EndpointSlice", func(s *Snapshot) *[]*discoveryv1.EndpointSlice { return &s.EndpointSlices }, inNamespace, subdomain, "v1"),
	kindOf("gateway.networking.k8s.io", "Gateway", func(s *Snapshot) *[]*gatewayv1.Gateway { return &s.Gateways }, inNamespace, subdomain, "v1", "v1beta1"),
	kindOf("gateway.networking.k8s.io", "GatewayClass", func(s *Snapshot) *[]*gatewayv1.GatewayClass { return &s.GatewayClasses }, inCluster, subdomain, "v1", "v1beta1"),
	kindOf("networking.istio.io", "ServiceEntry", func(s *Snapshot) *[]*ServiceEntry { return &s.ServiceEntries }, inNamespace, subdomain, "v1", "v1beta1", "v1alpha3"),
	kindOf("networking.istio.io", "WorkloadEntry", func(s *Snapshot) *[]*WorkloadEntry { return &s.WorkloadEntries }, inNamespace, subdomain, "v1", "v1beta1", "v1alpha3"),
	kindOf("multicluster.x-k8s.io", "ServiceExport", func(s *Snapshot) *[]*ServiceExport { return &s.ServiceExports }, inNamespace, serviceName, "v1beta1", "v1alpha1"),
	kindOf("security.istio.io", "AuthorizationPolicy", func(s *Snapshot) *[]*AuthorizationPolicy { return &s.AuthorizationPolicies }, inNamespace, subdomain, "v1", "v1beta1"),
	kindOf("security.istio.io", "PeerAuthentication", func(s *Snapshot) *[]*PeerAuthentication { return &s.PeerAuthentications }, inNamespace, subdomain, "v1", "v1beta1"),
)

const (
	inCluster   = true
	inNamespace = false
)

var (
	label       = validation.IsDNS1123Label
	subdomain   = validation.IsDNS1123Subdomain
	serviceName = validation.IsDNS1035Label
)

// kindOf describes the kind whose objects a field of Snapshot holds.
func kindOf[T any, P interface {
	*T
	metav1.Object
}](group, name string, field func(*Snapshot) *[]P, clusterly bool, checkName func(string) []string, versions ...string) *kind {
	k := &kind{group: group, versions: versions, name: name, clusterly: clusterly, checkName: checkName}
	k.apiVersion = k.apiVersions()[0]
	k.make = func() metav1.Object { return P(new(T)) }
	k.add = func(s *Snapshot, o metav1.Object) {
		objects := field(s)
		*objects = append(*objects, o.(P))
	}
	return k
}

// apiVersions returns what apiVersion may say, the preferred one first.
func (k *kind) apiVersions() []string {
	all := make([]string, len(k.versions))
	for i, v := range k.versions {
		all[i] = v
		if k.group != "" {
			all[i] = k.group + "/" + v
		}
	}
	return all
}

func kindTable(all ...*kind) map[string]*kind {
	table := make(map[string]*kind, len(all))
	for _, k := range all {
		table[k.name] = k
	}
	return table
}
