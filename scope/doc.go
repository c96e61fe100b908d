// Package scope decides which services of a multicluster mesh other clusters
// may see: ServiceScope, as Istio's MeshConfig describes it.
//
//	MeshConfig YAML/JSON          services and namespaces, with labels
//	        |                                    |
//	     Parse                                   |
//	        v                                    |
//	     Config --Compile--> Matcher --Evaluate--+--> LOCAL | GLOBAL
//	                            |    --Explain---+--> which entry, which line
//	                            |                |
//	                            +--> Tracker <---+--> only what changed
//
// Parse is strict: what Istio drops silently (a misspelt selector, an unknown
// operator, an unquoted true) is a ParseError here, with line, column, path and
// what was probably meant. Evaluate judges one service and keeps nothing.
// A Tracker keeps the services of one cluster and reports changes of scope as
// labels and configuration change. Scope.And honours both sides: the cluster
// that exports a service and the one that imports it.
//
// By default the semantics are those of istiod: a service is Global if any
// GLOBAL entry selects it. LocalWins follows Istio's documentation instead: a
// LOCAL entry, or a cluster-local host of serviceSettings, overrides that.
//
// # What it does not do
//
// Scope is about visibility, not security: use authorization policies to keep
// clients out. ServiceEntries have no scope in Istio; whether to evaluate them
// is up to the caller. The package does not watch files or Kubernetes, and
// reads nothing of MeshConfig but serviceScopeConfigs and serviceSettings.
package scope
