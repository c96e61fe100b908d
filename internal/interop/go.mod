module github.com/eastwest-mesh/eastwest/internal/interop

go 1.26.0

require (
	github.com/eastwest-mesh/eastwest v0.0.0
	github.com/summerwind/h2spec v2.2.1+incompatible
)

require (
	github.com/fatih/color v1.19.0 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.22 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/eastwest-mesh/eastwest => ../..

replace istio.io/api => istio.io/api v1.31.0-alpha.1.0.20260819121012-5803fb6accf7

replace istio.io/client-go => istio.io/client-go v1.31.0-alpha.0.0.20260807010324-676a810f2c1f

replace github.com/envoyproxy/go-control-plane/envoy => github.com/envoyproxy/go-control-plane/envoy v1.37.1-0.20260731231718-6c0b035a1609

replace github.com/envoyproxy/go-control-plane/contrib => github.com/envoyproxy/go-control-plane/contrib v1.36.1-0.20260731231718-6c0b035a1609
