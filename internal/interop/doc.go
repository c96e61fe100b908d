// Package interop holds eastwest to peers that others have written. It is a
// module of its own, because their dependencies are huge.
package interop
