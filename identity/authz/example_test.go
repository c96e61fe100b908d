package authz_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity/authz"
)

func Example() {
	const manifest = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-client, namespace: app}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/app/sa/client]}}]
    to: [{operation: {ports: ["8080"]}}]
`
	var resources authz.Resources
	if err := resources.Parse("policy.yaml", []byte(manifest)); err != nil {
		log.Fatal(err)
	}
	converted := resources.Convert(authz.DefaultRootNamespace)
	set, err := authz.Compile(converted.Policies)
	if err != nil {
		log.Fatal(err)
	}
	request := authz.Request{
		Namespace:   "app",
		Policies:    converted.PoliciesFor("app", map[string]string{"app": "reviews"}),
		Source:      netip.MustParseAddrPort("10.1.0.20:40000"),
		Destination: netip.MustParseAddrPort("10.1.0.10:8080"),
	}
	for _, who := range []string{"client", "stranger"} {
		request.Peer = spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/" + who)
		fmt.Println(who, "is", set.Check(request).Verdict)
	}
	fmt.Print(set.Explain(request))
	// Output:
	// client is allowed: allowed by policy app/only-client, group 0
	// stranger is refused: no ALLOW policy matches
	// spiffe://cluster.local/ns/app/sa/stranger from 10.1.0.20 to 10.1.0.10:8080: refused: no ALLOW policy matches
	//   app/only-client: WORKLOAD_SELECTOR, ALLOW: no match; group 0 fails at rule 1 (principals)
}
