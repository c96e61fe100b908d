// Package kubefile reads the objects of a cluster from a directory of
// ordinary Kubernetes YAML, as strictly as an API server would, and better
// where a person made a mistake:
//
//	clusters/east/             snapshot, err := kubefile.Load("clusters/east")
//	  cluster.yaml    ---->
//	  apps.yaml                snapshot.Pods, snapshot.Services, ...
//	  mesh.yaml                snapshot.Mesh
//
//	clusters/east/apps.yaml:14:5: Service app/reviews: spec.port: unknown field (did you mean "ports"?)
//
// Files end in .yaml, .yml or .json; others are not read, nor are names that
// start with a dot. Subdirectories are read too, and symbolic links are
// followed, so that a mounted ConfigMap works. A file holds any number of
// documents, and a document may be a List. An unknown kind, version or field,
// a value of the wrong type, a name that Kubernetes would refuse and an object
// that is there twice are errors, and every error of the directory is
// reported.
//
// What an API server fills in is filled in: a Service's type and target ports,
// a Pod's service account, the label with a Namespace's name.
//
// The MeshConfig is a file named mesh.yaml, mesh.yml or mesh.json, or the key
// "mesh" of the ConfigMap "istio".
//
// # What it does not do
//
// It does not assign addresses, run pods or write status: what a cluster's
// controllers would have written must be in the files. It keeps no kind that
// the examples have no use for.
package kubefile
