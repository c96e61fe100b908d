package identity

import (
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Aliases are further names of trust domains: each key stands for its value.
// They let a mesh change its name, or take in workloads that still have another
// one, as trustDomainAliases of Istio's MeshConfig do.
//
// A member of an alias is accepted as the same member of what the alias stands
// for, and the other way round. Its certificate must lead to the roots of the
// alias if the source or the bundles know any, else to those of what it stands
// for.
type Aliases map[spiffeid.TrustDomain]spiffeid.TrustDomain

// Canonical returns an identity by the name that its trust domain has when
// aliases are resolved. It is what policies should be asked about.
func (a Aliases) Canonical(id spiffeid.ID) spiffeid.ID {
	to, ok := a[id.TrustDomain()]
	if !ok {
		return id
	}
	renamed, err := spiffeid.FromPath(to, id.Path())
	if err != nil { // cannot be: the path is that of an ID
		return id
	}
	return renamed
}

// resolve returns what a trust domain stands for: itself if it is no alias.
func (a Aliases) resolve(td spiffeid.TrustDomain) spiffeid.TrustDomain {
	if to, ok := a[td]; ok {
		return to
	}
	return td
}

// check refuses aliases of aliases: one step must lead to the canonical name.
func (a Aliases) check() error {
	for _, from := range sortedDomains(a) {
		to := a[from]
		switch {
		case from.IsZero() || to.IsZero():
			return fmt.Errorf("Config.Aliases: an empty trust domain in %q = %q", from.Name(), to.Name())
		case from == to:
			return fmt.Errorf("Config.Aliases: %q stands for itself", from.Name())
		}
		if next, ok := a[to]; ok {
			return fmt.Errorf("Config.Aliases: %q stands for %q, which is itself an alias of %q", from.Name(), to.Name(), next.Name())
		}
	}
	return nil
}

// key is a canonical form, for Credentials.Key.
func (a Aliases) key() string {
	parts := make([]string, 0, len(a))
	for _, from := range sortedDomains(a) {
		parts = append(parts, from.Name()+"="+a[from].Name())
	}
	return strings.Join(parts, ",")
}
