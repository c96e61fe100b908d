// Package lb chooses the endpoint that a new connection goes to, in a mesh of
// clusters and networks, by the rules of Istio's ambient mode.
//
//	targets (network, cluster, region ... weight, health)
//	        |
//	     Update          DrainSet ("no more to cluster west")
//	        v                |
//	    Balancer  <----------+------- ejections, learnt from Done
//	        |  rank by Policy as seen from Config.Source; best rank first
//	        v
//	      Pick  --> Pick.Value --> connect --> Pick.Done(Outcome)
//
// A Balancer serves one source and one service. Its Policy ranks the targets:
// Failover uses the targets that share the longest prefix of the preferences
// with the source, Strict those that share all of them, Standard all targets.
// Traffic.Policy makes a Policy of what Kubernetes and Istio let users say:
// trafficDistribution, its annotation, internalTrafficPolicy. Within the best
// rank the Algorithm chooses by weight.
//
// Pick waits for no lock and allocates nothing, and takes the same time whatever
// the number of targets. (With Exclude, and when LeastRequest draws the same
// target twice, that grows with its logarithm.) The work is done when something
// changes, by Update, in time about linear in the targets.
//
// # What it does not do
//
// The package opens no connections and probes nothing: health comes from
// outside, and from the outcomes that callers report. It does not know
// services or ports; filter the targets before Update. All traffic goes to the
// best rank until nothing of it is left, as in ztunnel: there is no spilling
// over by load.
package lb
