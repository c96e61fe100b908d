package kubefile

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var errRequired = errors.New("required")

// validator reports what is wrong with a field of an object whose types are
// right.
type validator func(field string, err error)

func validate(o metav1.Object, k *kind, report validator) {
	validateMeta(o, k, report)
	switch o := o.(type) {
	case *corev1.Pod:
		report.pod(o)
	case *corev1.Service:
		report.service(o)
	case *discoveryv1.EndpointSlice:
		report.endpointSlice(o)
	case *gatewayv1.Gateway:
		report.gateway(o)
	case *ServiceEntry:
		report.serviceEntry(o)
	case *WorkloadEntry:
		if o.Spec == nil {
			report("spec", errRequired)
		} else if o.Spec.Address == "" && o.Spec.Network == "" {
			report("spec.address", errRequired)
		}
	case *AuthorizationPolicy:
		if o.Spec != nil && o.Spec.Selector != nil && (len(o.Spec.TargetRefs) > 0 || o.Spec.TargetRef != nil) {
			report("spec.selector", errors.New("cannot be used together with targetRefs"))
		}
	}
}

func validateMeta(o metav1.Object, k *kind, report validator) {
	report.messages("metadata.name", o.GetName(), k.checkName)
	switch {
	case k.clusterly && o.GetNamespace() != "":
		report("metadata.namespace", fmt.Errorf("a %s has no namespace", k.name))
	case !k.clusterly:
		report.messages("metadata.namespace", o.GetNamespace(), validation.IsDNS1123Label)
	}
	for _, key := range slices.Sorted(maps.Keys(o.GetLabels())) {
		field := join("metadata.labels", key)
		report.messages(field, key, validation.IsQualifiedName)
		if value := o.GetLabels()[key]; value != "" {
			report.messages(field, value, validation.IsValidLabelValue)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.GetAnnotations())) {
		report.messages(join("metadata.annotations", key), strings.ToLower(key), validation.IsQualifiedName)
	}
}

// messages reports what a check of Kubernetes says about a required value.
func (report validator) messages(field, value string, check func(string) []string) {
	if value == "" {
		report(field, errRequired)
		return
	}
	for _, message := range check(value) {
		report(field, fmt.Errorf("%q: %s", value, message))
	}
}

func (report validator) pod(p *corev1.Pod) {
	if len(p.Spec.Containers) == 0 {
		report("spec.containers", errRequired)
	}
	for i, ip := range p.Status.PodIPs {
		report.ip(fmt.Sprintf("status.podIPs[%d].ip", i), ip.IP)
	}
	if len(p.Status.PodIPs) > 0 && p.Status.PodIP != p.Status.PodIPs[0].IP {
		report("status.podIP", fmt.Errorf("%s is not the first of podIPs", p.Status.PodIP))
	}
	report.containers("spec.containers", p.Spec.Containers)
	report.containers("spec.initContainers", p.Spec.InitContainers)
}

func (report validator) containers(field string, containers []corev1.Container) {
	for i, c := range containers {
		for j, port := range c.Ports {
			report.port(fmt.Sprintf("%s[%d].ports[%d].containerPort", field, i, j), int64(port.ContainerPort))
		}
	}
}

func (report validator) service(s *corev1.Service) {
	for i, ip := range s.Spec.ClusterIPs {
		if ip != corev1.ClusterIPNone && ip != "" {
			report.ip(fmt.Sprintf("spec.clusterIPs[%d]", i), ip)
		}
	}
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIP != s.Spec.ClusterIPs[0] {
		report("spec.clusterIP", fmt.Errorf("%s is not the first of clusterIPs", s.Spec.ClusterIP))
	}
	if len(s.Spec.Ports) == 0 && s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.Type != corev1.ServiceTypeExternalName {
		report("spec.ports", errRequired)
	}
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, port := range s.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		report.port(field+".port", int64(port.Port))
		if port.TargetPort.Type == intstr.Int && s.Spec.Type != corev1.ServiceTypeExternalName {
			report.port(field+".targetPort", int64(port.TargetPort.IntVal))
		}
		if port.Name == "" && len(s.Spec.Ports) > 1 {
			report(field+".name", errors.New("required where there are several ports"))
		}
		if names[port.Name] && port.Name != "" {
			report(field+".name", fmt.Errorf("%q %w", port.Name, ErrDuplicate))
		}
		number := fmt.Sprintf("%s %d", port.Protocol, port.Port)
		if numbers[number] {
			report(field+".port", fmt.Errorf("%s %w", number, ErrDuplicate))
		}
		names[port.Name], numbers[number] = true, true
	}
}

func (report validator) endpointSlice(s *discoveryv1.EndpointSlice) {
	families := []string{string(discoveryv1.AddressTypeIPv4), string(discoveryv1.AddressTypeIPv6), string(discoveryv1.AddressTypeFQDN)}
	if !slices.Contains(families, string(s.AddressType)) {
		report("addressType", fmt.Errorf("%q is none of %v", s.AddressType, families))
		return
	}
	for i, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			report(fmt.Sprintf("endpoints[%d].addresses", i), errRequired)
		}
		for j, address := range e.Addresses {
			field := fmt.Sprintf("endpoints[%d].addresses[%d]", i, j)
			if s.AddressType == discoveryv1.AddressTypeFQDN {
				report.messages(field, address, validation.IsDNS1123Subdomain)
			} else if ip := report.ip(field, address); ip.IsValid() && ip.Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4) {
				report(field, fmt.Errorf("%s is not of the addressType %s", ip, s.AddressType))
			}
		}
	}
	for i, port := range s.Ports {
		if port.Port != nil {
			report.port(fmt.Sprintf("ports[%d].port", i), int64(*port.Port))
		}
	}
}

func (report validator) gateway(g *gatewayv1.Gateway) {
	report.messages("spec.gatewayClassName", string(g.Spec.GatewayClassName), validation.IsDNS1123Subdomain)
	if len(g.Spec.Listeners) == 0 {
		report("spec.listeners", errRequired)
	}
	for i, l := range g.Spec.Listeners {
		report.port(fmt.Sprintf("spec.listeners[%d].port", i), int64(l.Port))
		report.messages(fmt.Sprintf("spec.listeners[%d].name", i), string(l.Name), validation.IsDNS1123Subdomain)
		if l.Protocol == "" {
			report(fmt.Sprintf("spec.listeners[%d].protocol", i), errRequired)
		}
	}
	for i, a := range g.Status.Addresses {
		field := fmt.Sprintf("status.addresses[%d].value", i)
		switch {
		case a.Type != nil && *a.Type == gatewayv1.IPAddressType:
			report.ip(field, a.Value)
		case a.Type != nil && *a.Type == gatewayv1.HostnameAddressType:
			report.messages(field, a.Value, validation.IsDNS1123Subdomain)
		}
	}
}

func (report validator) ip(field, text string) netip.Addr {
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		report(field, fmt.Errorf("%q is not an IP address", text))
		return netip.Addr{}
	}
	return ip
}

func (report validator) port(field string, number int64) {
	if number < 1 || number > 65535 {
		report(field, fmt.Errorf("%d is not a port: want 1 to 65535", number))
	}
}
