package scope

import "fmt"

// Scope says who may use a service: clients of its own cluster, or clients of
// every cluster of the mesh. The zero value is Local, the default of Istio.
type Scope int

const (
	// Local services are seen by clients of their own cluster only.
	Local Scope = iota
	// Global services are seen by clients of every cluster.
	Global
)

// String returns the name that MeshConfig uses: LOCAL or GLOBAL.
func (s Scope) String() string {
	switch s {
	case Local:
		return "LOCAL"
	case Global:
		return "GLOBAL"
	}
	return fmt.Sprintf("Scope(%d)", int(s))
}

// MarshalText encodes s as MeshConfig spells it.
func (s Scope) MarshalText() ([]byte, error) {
	if s != Local && s != Global {
		return nil, fmt.Errorf("scope: %s has no name", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText accepts LOCAL and GLOBAL and nothing else.
func (s *Scope) UnmarshalText(text []byte) error {
	switch string(text) {
	case "LOCAL":
		*s = Local
	case "GLOBAL":
		*s = Global
	default:
		return fmt.Errorf("scope: unknown scope %q: want LOCAL or GLOBAL", text)
	}
	return nil
}

// And is Global only if both scopes are. It is how both sides are honoured: a
// service of one cluster is visible in another if the first exports it (its
// own configuration says Global) and the second accepts it (so does the
// other's). Istio asks the second only.
func (s Scope) And(other Scope) Scope {
	if s == Global && other == Global {
		return Global
	}
	return Local
}

// An Object is a service as its scope is judged.
type Object struct {
	Namespace string
	Name      string

	// Labels of the service.
	Labels map[string]string

	// NamespaceKnown says that the namespace's labels were read, even if there
	// are none. A service whose namespace is not known yet is Local, so that
	// nothing is exposed by being early.
	NamespaceKnown bool

	// NamespaceLabels are those of the service's namespace in the cluster that
	// the service is in.
	NamespaceLabels map[string]string

	// Host is matched with the host rules of serviceSettings. Default:
	// <Name>.<Namespace>.svc.<Options.Domain>.
	Host string
}
