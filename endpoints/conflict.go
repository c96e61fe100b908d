package endpoints

// A Conflict is a field of a global service that clusters disagree about.
type Conflict struct {
	Service string         // "namespace/hostname"
	Field   string         // Ports, Scope, Waypoint, LoadBalancing, Headless, TrustDomain, ...
	Values  []ClusterValue // one for each cluster that has the service, sorted by cluster
	Winner  string         // the cluster whose value clients of the local cluster see
	Rule    string         // why: RuleLocal, RuleOldest or RuleClusterID
}

// A ClusterValue is what one cluster says.
type ClusterValue struct {
	Cluster string
	Value   string
}

// The rules that decide between copies of a service, in this order. Addresses and SubjectAltNames are never in conflict: they are united.
const (
	RuleLocal     = "local copy"       // the copy in the client's own cluster
	RuleOldest    = "oldest copy"      // the one made first; not known is younger than all
	RuleClusterID = "first cluster ID" // of copies made at the same time
)
