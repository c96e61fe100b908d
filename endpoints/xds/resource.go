package xds

import "net"

// Wildcard is the name that subscribes to all resources of a type.
const Wildcard = "*"

// Resource is one named thing of some type. This package never looks into its body.
type Resource struct {
	// Name is unique among the resources of one type that a client sees. It may be empty for
	// a type of which there is only one, such as a name table.
	Name string
	// Version is opaque: equal versions of one name mean equal bodies. It may be empty on a
	// client, because some servers send none.
	Version string
	// Body is the serialized protobuf message. It is shared: nobody may change it.
	Body []byte
	// Aliases are other names under which an on-demand client may ask for the resource. They are
	// sent to such clients only.
	Aliases []string
	// With names other resources that bring this one along: an on-demand client that gets one
	// of them gets this one too, as it gets the workloads of a service that it asks for.
	// It is never sent.
	With []string
}

// Node is what a client says about itself in the first request of a stream.
type Node struct {
	// ID has four parts in Istio's form: "ztunnel~10.0.0.1~pod.namespace~namespace.svc.cluster.local".
	// Required.
	ID string
	// Metadata is sent as a protobuf Struct: its values are nil, bool, float64 (or another
	// number), string, []any and map[string]any. Istio reads CLUSTER_ID, NETWORK, NAMESPACE,
	// NODE_NAME, ...
	Metadata map[string]any
	// Locality is optional.
	Locality Locality
}

// Locality is where a node runs.
type Locality struct {
	Region, Zone, Subzone string
}

// ClientInfo is what a Server knows of the client at the other end of a stream.
type ClientInfo struct {
	// Peer is what Server.Authenticate returned.
	Peer any
	// Node is what the client says about itself. It is not verified: compare it with Peer in
	// Server.Authorize.
	Node Node
	// Addr is the remote address of the connection.
	Addr net.Addr
}
