package kubefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	meshconfig "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	meshConfigMap = "istio"
	meshConfigKey = "mesh"
)

func isMeshFile(name string) bool {
	return slices.Contains([]string{"mesh.yaml", "mesh.yml", "mesh.json"}, path.Base(name))
}

func isMeshConfigMap(o metav1.Object) bool { return o.GetName() == meshConfigMap }

// mesh keeps a MeshConfig. start is where its text starts: errors in a
// ConfigMap's key are reported at the line of the file.
func (r *reader) mesh(n *node, text []byte, start Position) {
	const object = "MeshConfig"
	if r.snapshot.Mesh != nil {
		err := fmt.Errorf("%w: the first is at %s", ErrDuplicate, r.snapshot.Mesh.Position)
		r.fail(&Error{Position: start, Object: object, Err: err})
		return
	}
	m := &MeshConfig{MeshConfig: new(meshconfig.MeshConfig), Text: text, Position: start}
	schema := messageSchema{m.ProtoReflect().Descriptor()}
	ok := check(n, schema, "", func(e *Error) {
		e.File, e.Object = start.File, object
		if e.Line += start.Line - 1; start.Line > 1 {
			e.Column = 0 // the text is indented
		}
		r.fail(e)
	})
	if !ok {
		return
	}
	if err := protojson.Unmarshal(n.appendJSON(nil), m.MeshConfig); err != nil {
		r.fail(&Error{Position: start, Object: object, Err: protoError(err)})
		return
	}
	r.snapshot.Mesh = m
}

// meshFromConfigMap reads the MeshConfig in data.mesh of the ConfigMap istio.
func (r *reader) meshFromConfigMap(n *node, file string) {
	value := n.get("data").get(meshConfigKey)
	if value == nil {
		return
	}
	text := []byte(n.get("data").text(meshConfigKey))
	start := Position{File: file, Line: value.line}
	if value.block {
		start.Line++ // the text of a block starts below the key
	}
	var doc yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc)
	if errors.Is(err, io.EOF) {
		r.mesh(&node{kind: objectNode}, text, start)
		return
	}
	if err != nil {
		e := syntaxError(file, err)
		e.Object = "MeshConfig"
		e.Line += start.Line - 1
		r.fail(e)
		return
	}
	before := len(r.errs)
	b := newBuilder(len(text), func(y *yaml.Node, err error) {
		r.fail(&Error{Position: Position{file, start.Line + y.Line - 1, 0}, Object: "MeshConfig", Err: err})
	})
	if inside := b.build(doc.Content[0]); len(r.errs) == before {
		r.mesh(inside, text, start)
	}
}
