package mcs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Condition is one of the status of a ServiceExport.
type Condition struct {
	Type    string // Valid, Ready or Conflict
	Status  string // True or False
	Reason  string
	Message string
}

// The types of conditions.
const (
	Valid    = "Valid"
	Ready    = "Ready"
	Conflict = "Conflict"
)

const yes, no = "True", "False"

func isValid() Condition { return Condition{Valid, yes, "Valid", ""} }

// isReady says that clusters see it: an export takes effect when it is merged.
func isReady() Condition { return Condition{Ready, yes, "Exported", ""} }

func notReady(why string) Condition { return Condition{Ready, no, "Failed", why} }

func noConflicts() Condition { return Condition{Conflict, no, "NoConflicts", ""} }

func invalid(e Export) *Condition {
	switch {
	case e.Service == nil:
		return &Condition{Valid, no, "NoService", "there is no Service of this name"}
	case e.Service.Type == ExternalName:
		return &Condition{Valid, no, "InvalidServiceType", "a Service of type ExternalName cannot be exported"}
	}
	return nil
}

// A property is something that exports may disagree about.
type property struct {
	reason string
	value  func(Export) string
}

func properties() []property {
	return []property{
		{"PortConflict", func(e Export) string { return formatPorts(e.Service.Ports) }},
		{"TypeConflict", func(e Export) string { return e.Service.Type.String() }},
		{"SessionAffinityConflict", func(e Export) string { return cmp.Or(e.Service.SessionAffinity, "None") }},
		{"SessionAffinityConfigConflict", func(e Export) string { return e.Service.SessionAffinityTimeout.String() }},
		{"AnnotationsConflict", func(e Export) string { return formatMap(e.Annotations) }},
		{"LabelsConflict", func(e Export) string { return formatMap(e.Labels) }},
		{"InternalTrafficPolicyConflict", func(e Export) string { return cmp.Or(e.Service.InternalTrafficPolicy, "Cluster") }},
		{"TrafficDistributionConflict", func(e Export) string { return cmp.Or(e.Service.TrafficDistribution, "none") }},
		{"IPFamilyConflict", func(e Export) string { return strings.Join(slices.Sorted(slices.Values(e.Service.IPFamilies)), ",") }},
	}
}

// findConflicts compares valid exports, oldest first, and returns the condition that all of them have.
func findConflicts(exports []Export) Condition {
	var reasons, messages []string
	for _, p := range properties() {
		var values []string
		differ := false
		for _, e := range exports {
			differ = differ || p.value(e) != p.value(exports[0])
			values = append(values, fmt.Sprintf("%q in cluster %s", p.value(e), e.Cluster))
		}
		if differ {
			reasons = append(reasons, p.reason)
			messages = append(messages, fmt.Sprintf("%s: %s", p.reason, strings.Join(values, ", ")))
		}
	}
	if len(reasons) == 0 {
		return noConflicts()
	}
	message := strings.Join(messages, "; ") + ". What cluster " + exports[0].Cluster + " says counts, which exported first; ports are united."
	return Condition{Conflict, yes, strings.Join(reasons, ","), message}
}

// formatPorts does not depend on the order of ports.
func formatPorts(ports []Port) string {
	all := make([]string, len(ports))
	for i, p := range ports {
		all[i] = p.String()
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func formatMap(m map[string]string) string {
	all := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, ",")
}
