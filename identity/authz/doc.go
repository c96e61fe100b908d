// Package authz decides at layer 4 who may connect to a workload, with the
// semantics of Istio's AuthorizationPolicy and PeerAuthentication in ambient
// mode.
//
//	AuthorizationPolicy, PeerAuthentication (YAML)      policies from a control
//	            |                                       plane, over the wire
//	          Parse                                               |
//	            |                                                 |
//	     Resources.Convert ---> Converted.PoliciesFor(workload)   |
//	            |                          |                      |
//	        []Policy <--------------------------------------------+
//	            |                          |
//	         Compile                       | the workload's list of policy names
//	            |                          v
//	           Set  ---- Check(Request{namespace, names, peer, addresses, port})
//	                                       |
//	                                    Decision
//
// A Set is immutable. When policies change, compile a new one and check the
// live connections again with it, and with the current list of policy names of
// their workload: a list that was remembered at connect time misses policies
// that select the workload since.
//
// # Semantics
//
// To a workload apply the GLOBAL policies, the NAMESPACE policies of its
// namespace, and those that it names (a control plane fills the names in from
// workload selectors). If a rule of a DENY policy matches, the connection is
// refused. Otherwise, if there is no ALLOW policy, it is allowed; if there is
// one, it is allowed if a rule of any ALLOW policy matches. So a policy without
// rules matches nothing: with ALLOW, it refuses everything that no other policy
// allows.
//
// A policy is groups of which one must match; a group is rules that must all
// match (none: it matches); a rule is matches of which one must match (none: it
// matches); a match is fields that must all match, of which each is values of
// which one must match and Not values of which none may. An empty match matches
// nothing. Without an identity (plaintext), every principal and service account
// is unmatched, the namespace is "", and so Not fields hold.
//
// Namespaces and service accounts are compared without their trust domain, as
// ztunnel does: where identities of another mesh are accepted, a namesake there
// is the same to them. Principals tell them apart.
//
// In one thing we differ from ztunnel on purpose: a policy that the workload
// names but that is missing from the Set refuses the connection. ztunnel logs
// and goes on without it, which opens the workload if the missing policy is its
// only one.
//
// # What it does not do
//
// It knows no HTTP: rules with HTTP attributes are converted as istiod does for
// ztunnel, with a warning (see Warning). It does not enforce: the caller
// refuses the connection. It does not evaluate policies that target a waypoint,
// a Gateway or a Service.
package authz
