package kubefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
)

// goSchema is the schema of a Go type with JSON tags.
type goSchema struct{ t reflect.Type }

var (
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	messageType     = reflect.TypeFor[proto.Message]()
)

// schemaOf returns the schema of a Go type.
func schemaOf(t reflect.Type) schema {
	if t.Implements(messageType) {
		m := reflect.Zero(t).Interface().(proto.Message)
		return messageSchema{m.ProtoReflect().Descriptor()}
	}
	if t.Kind() == reflect.Pointer {
		return schemaOf(t.Elem())
	}
	return goSchema{t}
}

// opaque reports whether the type reads its JSON itself.
func (s goSchema) opaque() bool { return reflect.PointerTo(s.t).Implements(unmarshalerType) }

func (s goSchema) kind() nodeKind {
	if s.opaque() {
		return nullNode
	}
	switch s.t.Kind() {
	case reflect.Struct, reflect.Map:
		return objectNode
	case reflect.Slice, reflect.Array:
		if s.t.Elem().Kind() != reflect.Uint8 {
			return listNode
		}
		return stringNode // base64
	case reflect.String:
		return stringNode
	case reflect.Bool:
		return boolNode
	case reflect.Interface:
		return nullNode
	}
	return numberNode
}

func (s goSchema) field(name string) schema {
	if s.t.Kind() == reflect.Map {
		return schemaOf(s.t.Elem())
	}
	if t, ok := fieldsOf(s.t)[name]; ok {
		return schemaOf(t)
	}
	return nil
}

func (s goSchema) fields() []string {
	if s.t.Kind() == reflect.Map {
		return nil
	}
	return slices.Sorted(maps.Keys(fieldsOf(s.t)))
}

func (s goSchema) item() schema { return schemaOf(s.t.Elem()) }

func (s goSchema) leaf(kind nodeKind, text []byte) leaf {
	if want := s.kind(); want != nullNode && want != kind {
		return leaf{err: errMismatch}
	}
	err := json.Unmarshal(text, reflect.New(s.t).Interface())
	if typed := new(json.UnmarshalTypeError); errors.As(err, &typed) {
		return leaf{err: fmt.Errorf("%s is not %s", typed.Value, typed.Type)}
	}
	return leaf{err: err}
}

// fieldCache keeps the fields of struct types: reflection is slow, and a
// directory holds thousands of objects of a few types.
var fieldCache sync.Map // reflect.Type to map[string]reflect.Type

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := fieldCache.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	fields := make(map[string]reflect.Type)
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inlined := f.Anonymous && name == "" || strings.Contains(options, "inline")
		if f.IsExported() && !inlined && name != "-" && reachable(t, f) {
			if name == "" {
				name = f.Name
			}
			fields[name] = f.Type
		}
	}
	fieldCache.Store(t, fields)
	return fields
}

// reachable reports whether a promoted field is a JSON field of t: every
// struct that it is promoted through must be inlined.
func reachable(t reflect.Type, f reflect.StructField) bool {
	for _, i := range f.Index[:len(f.Index)-1] {
		through := t.Field(i)
		if name, _, _ := strings.Cut(through.Tag.Get("json"), ","); name != "" {
			return false
		}
		if t = through.Type; t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
	}
	return true
}
