package scope_test

import (
	"errors"
	"fmt"

	"github.com/eastwest-mesh/eastwest/scope"
)

const meshConfig = `
trustDomain: cluster.local
serviceScopeConfigs:
- servicesSelector:
    matchLabels:
      istio.io/global: "true"
  scope: GLOBAL
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: bank
  scope: LOCAL
`

func Example() {
	config, err := scope.Parse([]byte(meshConfig))
	if err != nil {
		fmt.Println(err)
		return
	}
	matcher, err := config.Compile(scope.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(matcher.Evaluate(scope.Object{
		Namespace:      "app",
		Name:           "reviews",
		Labels:         map[string]string{"istio.io/global": "true"},
		NamespaceKnown: true,
	}))
	// Output: GLOBAL
}

// What Istio would drop without a word is an error that says where it is and
// what was probably meant.
func ExampleParse_strict() {
	_, err := scope.Parse([]byte(`serviceScopeConfigs:
- namespacesSelector:
    matchExpressions:
    - {key: istio.io/global, operator: In, values: ["true"]}
  scope: GLOBAL
`))
	var parseErr *scope.ParseError
	if errors.As(err, &parseErr) {
		fmt.Println(parseErr.Line, parseErr.Path)
	}
	fmt.Println(err)
	// Output:
	// 2 serviceScopeConfigs[0].namespacesSelector
	// mesh config line 2, column 3: serviceScopeConfigs[0].namespacesSelector: unknown field (did you mean namespaceSelector?)
}

// For istiod a LOCAL entry changes nothing. LocalWins lets it take services
// back.
func ExampleMatcher_Explain() {
	config, err := scope.Parse([]byte(meshConfig))
	if err != nil {
		fmt.Println(err)
		return
	}
	account := scope.Object{
		Namespace:       "bank",
		Name:            "account",
		Labels:          map[string]string{"istio.io/global": "true"},
		NamespaceKnown:  true,
		NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": "bank"},
	}
	for _, precedence := range []scope.Precedence{scope.GlobalWins, scope.LocalWins} {
		matcher, err := config.Compile(scope.Options{Precedence: precedence})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(matcher.Explain(account))
	}
	// Output:
	// GLOBAL: serviceScopeConfigs[0] (line 4) matches
	// LOCAL: serviceScopeConfigs[1] (line 8) matches, and LOCAL wins
}

// A Tracker follows a cluster and says what changes.
func ExampleTracker() {
	matcher, err := scope.Default().Compile(scope.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tracker := scope.NewTracker(matcher)
	tracker.SetService(scope.Key{Namespace: "app", Name: "ratings"}, nil)
	tracker.SetService(scope.Key{Namespace: "app", Name: "reviews"}, map[string]string{"istio.io/global": "true"})
	for _, c := range tracker.SetNamespace("app", nil) {
		fmt.Printf("%v: %v -> %v\n", c.Key, c.Before, c.After)
	}
	if c, changed := tracker.RemoveService(scope.Key{Namespace: "app", Name: "reviews"}); changed {
		fmt.Printf("%v: %v -> %v\n", c.Key, c.Before, c.After)
	}
	// Output:
	// app/reviews: LOCAL -> GLOBAL
	// app/reviews: GLOBAL -> LOCAL
}

// A service of one cluster is visible in another if the first exports it and
// the second accepts it.
func ExampleScope_And() {
	exported, accepted := scope.Global, scope.Local
	fmt.Println(exported.And(accepted))
	// Output: LOCAL
}
