package xds

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// The names of Envoy's service. They are what the wire knows; our messages have other names in
// protobuf's registry, so the service description is written by hand.
const (
	serviceName = "envoy.service.discovery.v3.AggregatedDiscoveryService"
	deltaName   = "DeltaAggregatedResources"
	sotwName    = "StreamAggregatedResources"
	deltaMethod = "/" + serviceName + "/" + deltaName
)

var deltaStreamDesc = grpc.StreamDesc{StreamName: deltaName, ServerStreams: true, ClientStreams: true}

// serviceDesc describes s to a grpc.Server.
func serviceDesc(s *Server) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: deltaName, Handler: s.serveDelta, ServerStreams: true, ClientStreams: true},
			{StreamName: sotwName, Handler: s.serveSotw, ServerStreams: true, ClientStreams: true},
		},
	}
}

// nodeToProto makes the message of a node. It fails if the metadata has a value that is not of
// JSON's types.
func nodeToProto(n Node) (*discoverypb.Node, error) {
	meta, err := structpb.NewStruct(n.Metadata)
	if err != nil {
		return nil, err
	}
	return &discoverypb.Node{
		Id:            n.ID,
		Metadata:      meta,
		Locality:      &discoverypb.Locality{Region: n.Locality.Region, Zone: n.Locality.Zone, SubZone: n.Locality.Subzone},
		UserAgentName: "eastwest",
	}, nil
}

func nodeFromProto(n *discoverypb.Node) Node {
	l := n.GetLocality()
	return Node{
		ID:       n.GetId(),
		Metadata: n.GetMetadata().AsMap(),
		Locality: Locality{Region: l.GetRegion(), Zone: l.GetZone(), Subzone: l.GetSubZone()},
	}
}
