package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

// A workdir is a cluster's directory of objects, which the control planes
// watch. The story changes it as an operator would with kubectl.
type workdir string

// An object is what an edit needs to see of one.
type object struct {
	Kind     string
	Metadata struct {
		Namespace, Name string
	}
}

func (o object) is(kind, namespace, name string) bool {
	return o.Kind == kind && o.Metadata.Namespace == namespace && o.Metadata.Name == name
}

// edit changes every object of the directory by f, which may alter the node and
// says whether to keep it. Each file is replaced at once.
func (d workdir) edit(f func(o object, node *yaml.Node) (keep bool, err error)) error {
	return filepath.WalkDir(string(d), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		before, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		after, err := editDocuments(before, f)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if after == nil {
			return nil
		}
		return replaceFile(path, after)
	})
}

// editDocuments returns nil if f left everything as it was.
func editDocuments(data []byte, f func(object, *yaml.Node) (bool, error)) ([]byte, error) {
	var documents []*yaml.Node
	changed := false
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var node yaml.Node
		if err := dec.Decode(&node); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		var o object
		if err := node.Decode(&o); err != nil {
			return nil, err
		}
		before, err := yaml.Marshal(&node)
		if err != nil {
			return nil, err
		}
		keep, err := f(o, &node)
		if err != nil {
			return nil, err
		}
		after, err := yaml.Marshal(&node)
		if err != nil {
			return nil, err
		}
		changed = changed || !keep || !bytes.Equal(before, after)
		if keep {
			documents = append(documents, &node)
		}
	}
	if !changed {
		return nil, nil
	}
	return encodeDocuments(documents)
}

func encodeDocuments(documents []*yaml.Node) ([]byte, error) {
	if len(documents) == 0 {
		return []byte{}, nil // the encoder cannot write nothing
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for _, d := range documents {
		if err := enc.Encode(d); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), enc.Close()
}

// replaceFile writes beside the file and renames, so that no reader sees half
// of it.
func replaceFile(path string, data []byte) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// set gives a field of one object a string as its value, or, if the value is
// empty, removes it. A field that is not there is added.
func (d workdir) set(kind, namespace, name string, value string, path ...string) error {
	found := false
	err := d.edit(func(o object, node *yaml.Node) (bool, error) {
		if o.is(kind, namespace, name) {
			found = true
			setField(node.Content[0], value, path)
		}
		return true, nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: no %s %s/%s", d, kind, namespace, name)
	}
	return err
}

func setField(mapping *yaml.Node, value string, path []string) {
	field := fieldOf(mapping, path[0])
	switch {
	case len(path) == 1 && value == "":
		removeField(mapping, path[0])
	case len(path) == 1 && field != nil:
		field.SetString(value)
	case len(path) == 1:
		mapping.Content = append(mapping.Content, scalar(path[0]), scalar(value))
	default:
		if field == nil {
			field = &yaml.Node{Kind: yaml.MappingNode}
			mapping.Content = append(mapping.Content, scalar(path[0]), field)
		}
		setField(field, value, path[1:])
	}
}

// fieldOf returns the value of a key. Keys stand at even places, each before
// its value.
func fieldOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func removeField(mapping *yaml.Node, key string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content = slices.Delete(mapping.Content, i, i+2)
			return
		}
	}
}

func scalar(value string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(value)
	return n
}

// deleteEach deletes the objects of a kind that f says are gone.
func (d workdir) deleteEach(kind string, gone func(namespace, name string) bool) error {
	return d.edit(func(o object, _ *yaml.Node) (bool, error) {
		return o.Kind != kind || !gone(o.Metadata.Namespace, o.Metadata.Name), nil
	})
}
