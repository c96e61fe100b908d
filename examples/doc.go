// Package examples holds programs that compose the packages of eastwest into a
// mesh:
//
//	mesh      two clusters in one process, and a story that shows them at work
//	istiod    a control plane, from directories of Kubernetes objects
//	gateway   an east-west gateway
//	ztunnel   a node proxy
//	echo      an application to talk to
//
// Each main is wiring; what they do is in internal, where it is tested. This
// package itself holds the test that runs them as separate processes.
package examples
