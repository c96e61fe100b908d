package istioca

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	capb "github.com/eastwest-mesh/eastwest/internal/pb/ca/v1"
)

// Istio's service by name. Our messages are in a proto package of our own, so
// that a program can link Istio's as well; on the wire they are the same.
const (
	serviceName   = "istio.v1.auth.IstioCertificateService"
	methodName    = "CreateCertificate"
	methodPath    = "/" + serviceName + "/" + methodName
	fieldIdentity = "ImpersonatedIdentity" // of the request's metadata
	fieldSigner   = "CertSigner"
	headerCluster = "clusterid" // of the gRPC metadata
)

type service interface {
	createCertificate(context.Context, *capb.IstioCertificateRequest) (*capb.IstioCertificateResponse, error)
}

var serviceDesc = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*service)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: methodName, Handler: handle}},
	Metadata:    "security/v1alpha1/ca.proto",
}

//nolint:revive // The order of parameters is gRPC's.
func handle(srv any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(capb.IstioCertificateRequest)
	if err := dec(in); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, req any) (any, error) {
		return srv.(service).createCertificate(ctx, req.(*capb.IstioCertificateRequest))
	}
	if intercept == nil {
		return call(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: methodPath}, call)
}

// field returns a string of the request's metadata; ok is false if there is
// something else under that name.
func field(md *structpb.Struct, name string) (value string, ok bool) {
	v := md.GetFields()[name]
	if v == nil {
		return "", true
	}
	s, ok := v.GetKind().(*structpb.Value_StringValue)
	if !ok {
		return "", false
	}
	return s.StringValue, true
}
