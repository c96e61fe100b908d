package ztunnel

import "github.com/eastwest-mesh/eastwest/hbone"

// Direction of a connection, as seen from the pod.
type Direction string

// Directions.
const (
	Outbound Direction = "outbound"
	Inbound  Direction = "inbound"
)

// A Connection is what became of one connection of a pod.
type Connection struct {
	Direction Direction
	Workload  string // UID of the pod

	Wanted string // outbound: the host:port that the application asked for
	Target string // outbound: UID of the workload chosen, if one was

	Authority string           // of the CONNECT, if there was one
	Hops      []hbone.HopState // how it goes, nearest first
	Peer      string           // inbound: SPIFFE ID of the client
	Status    int              // inbound: the answer to the CONNECT
	Err       error            // why it was not connected; nil if it was
}
