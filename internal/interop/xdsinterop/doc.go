// Package xdsinterop holds endpoints/xds, wds and eds to Istio's own programs.
//
//	xds.Client ──> pilot's FakeDiscoveryServer, a live istiod with its ambient index
//	pkg/adsc   ──> xds.Server, with what wds and eds encode
//	eds.Build  ══  pilot's EndpointBuilder: the same assignments from the same endpoints
//	wds        ══  pkg/workloadapi: the same bytes, and which is faster
//
// There is nothing in it but tests.
package xdsinterop
