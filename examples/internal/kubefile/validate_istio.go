package kubefile

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (report validator) serviceEntry(s *ServiceEntry) {
	if s.Spec == nil {
		report("spec", errRequired)
		return
	}
	if len(s.Spec.Hosts) == 0 {
		report("spec.hosts", errRequired)
	}
	for i, host := range s.Spec.Hosts {
		report.host(fmt.Sprintf("spec.hosts[%d]", i), host)
	}
	for i, address := range s.Spec.Addresses {
		report.ipOrPrefix(fmt.Sprintf("spec.addresses[%d]", i), address)
	}
	if len(s.Spec.Ports) == 0 {
		report("spec.ports", errRequired)
	}
	names := map[string]bool{}
	for i, port := range s.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		report.port(field+".number", int64(port.Number))
		if port.TargetPort != 0 {
			report.port(field+".targetPort", int64(port.TargetPort))
		}
		if port.Name == "" {
			report(field+".name", errRequired)
		} else if names[port.Name] {
			report(field+".name", fmt.Errorf("%q %w", port.Name, ErrDuplicate))
		}
		names[port.Name] = true
	}
	report.serviceEntryEndpoints(s.Spec)
}

func (report validator) serviceEntryEndpoints(s *networking.ServiceEntry) {
	if s.WorkloadSelector != nil && len(s.Endpoints) > 0 {
		report("spec.workloadSelector", errors.New("cannot be used together with endpoints"))
	}
	if s.Resolution == networking.ServiceEntry_NONE && len(s.Endpoints) > 0 {
		report("spec.endpoints", errors.New("have no use with resolution NONE: want STATIC or DNS"))
	}
	for i, e := range s.Endpoints {
		field := fmt.Sprintf("spec.endpoints[%d].address", i)
		_, err := netip.ParseAddr(e.Address)
		switch {
		case e.Address == "" && e.Network == "":
			report(field, errRequired)
		case e.Address == "" || err == nil || strings.HasPrefix(e.Address, "unix://"):
		case s.Resolution == networking.ServiceEntry_STATIC:
			report(field, fmt.Errorf("%q is not an IP address, which resolution STATIC needs", e.Address))
		default:
			report.messages(field, e.Address, validation.IsDNS1123Subdomain)
		}
	}
}

// host accepts a DNS name, with a wildcard as its first label or not.
func (report validator) host(field, host string) {
	if host == "*" {
		report(field, errors.New("a ServiceEntry cannot be for every host"))
		return
	}
	report.messages(field, strings.ToLower(strings.TrimPrefix(host, "*.")), validation.IsDNS1123Subdomain)
}

func (report validator) ipOrPrefix(field, text string) {
	_, errAddr := netip.ParseAddr(text)
	_, errPrefix := netip.ParsePrefix(text)
	if errAddr != nil && errPrefix != nil {
		report(field, fmt.Errorf("%q is neither an IP address nor a CIDR", text))
	}
}
