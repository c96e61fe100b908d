package istiod

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/identity"
)

// TrustDomain returns the trust domain that the MeshConfig in a directory
// names, to make a CA for it. Default cluster.local.
func TrustDomain(dir string) (spiffeid.TrustDomain, error) {
	snapshot, err := kubefile.Load(dir)
	if err != nil {
		return spiffeid.TrustDomain{}, err
	}
	return trustDomainOf(snapshot)
}

func trustDomainOf(s *kubefile.Snapshot) (spiffeid.TrustDomain, error) {
	if s.Mesh == nil || s.Mesh.GetTrustDomain() == "" {
		return spiffeid.TrustDomainFromString(endpoints.DefaultTrustDomain)
	}
	td, err := spiffeid.TrustDomainFromString(s.Mesh.GetTrustDomain())
	if err != nil {
		return td, &kubefile.Error{Position: s.Mesh.Position, Object: "MeshConfig", Field: "trustDomain", Err: err}
	}
	return td, nil
}

// checkTrustDomain refuses a MeshConfig that the CA does not fit: its
// certificates would not be what the workloads are expected to prove.
func checkTrustDomain(home *kubefile.Snapshot, authority *identity.CA) error {
	td, err := trustDomainOf(home)
	if err != nil {
		return err
	}
	if td == authority.TrustDomain() {
		return nil
	}
	at := kubefile.Position{File: home.Name}
	if home.Mesh != nil {
		at = home.Mesh.Position
	}
	return &kubefile.Error{Position: at, Object: "MeshConfig", Field: "trustDomain",
		Err: fmt.Errorf("is %s, but the CA was started for %s", td.Name(), authority.TrustDomain().Name())}
}
