package kubefile

import (
	meshconfig "istio.io/api/mesh/v1alpha1"
	istiometa "istio.io/api/meta/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceEntry is a networking.istio.io ServiceEntry of any version.
type ServiceEntry struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              *networking.ServiceEntry       `json:"spec,omitempty"`
	Status            *networking.ServiceEntryStatus `json:"status,omitempty"`
}

// WorkloadEntry is a networking.istio.io WorkloadEntry of any version.
type WorkloadEntry struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              *networking.WorkloadEntry `json:"spec,omitempty"`
	Status            *istiometa.IstioStatus    `json:"status,omitempty"`
}

// AuthorizationPolicy is a security.istio.io AuthorizationPolicy of any version.
type AuthorizationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              *security.AuthorizationPolicy `json:"spec,omitempty"`
	Status            *istiometa.IstioStatus        `json:"status,omitempty"`
}

// PeerAuthentication is a security.istio.io PeerAuthentication of any version.
type PeerAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              *security.PeerAuthentication `json:"spec,omitempty"`
	Status            *istiometa.IstioStatus       `json:"status,omitempty"`
}

// ServiceExport is a multicluster.x-k8s.io ServiceExport of any version. Its
// status is what a control plane writes, and not read.
type ServiceExport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ServiceExportSpec   `json:"spec,omitempty"`
	Status            ServiceExportStatus `json:"status,omitempty"`
}

// ServiceExportSpec says what goes along with the Service.
type ServiceExportSpec struct {
	ExportedLabels      map[string]string `json:"exportedLabels,omitempty"`
	ExportedAnnotations map[string]string `json:"exportedAnnotations,omitempty"`
}

// ServiceExportStatus is what became of the export.
type ServiceExportStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MeshConfig is Istio's MeshConfig.
type MeshConfig struct {
	*meshconfig.MeshConfig

	// Text is the MeshConfig as it is written, for parsers that report lines.
	// Its first line is at Position.
	Text []byte
	Position
}
