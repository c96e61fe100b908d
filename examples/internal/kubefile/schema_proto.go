package kubefile

import (
	"fmt"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// messageSchema is the schema of a protobuf message in JSON.
type messageSchema struct {
	d protoreflect.MessageDescriptor
}

// wellKnown reports whether the message has a JSON form of its own, such as a
// Duration.
func (s messageSchema) wellKnown() bool { return s.d.ParentFile().Package() == "google.protobuf" }

func (s messageSchema) kind() nodeKind {
	if s.wellKnown() {
		return nullNode
	}
	return objectNode
}

func (s messageSchema) field(name string) schema {
	f := s.d.Fields().ByJSONName(name)
	if f == nil {
		f = s.d.Fields().ByTextName(name)
	}
	if f == nil {
		return nil
	}
	return fieldSchema{f}
}

func (s messageSchema) fields() []string {
	var names []string
	for i := range s.d.Fields().Len() {
		names = append(names, s.d.Fields().Get(i).JSONName())
	}
	return names
}

func (s messageSchema) item() schema { return nil }

func (s messageSchema) leaf(_ nodeKind, text []byte) leaf {
	return leaf{err: protoError(protojson.Unmarshal(text, newMessage(s.d)))}
}

// newMessage prefers the generated type: custom JSON is its own.
func newMessage(d protoreflect.MessageDescriptor) protoreflect.ProtoMessage {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil {
		return t.New().Interface()
	}
	return dynamicpb.NewMessage(d)
}

// fieldSchema is the schema of a protobuf field: a list, a map or one value.
type fieldSchema struct{ d protoreflect.FieldDescriptor }

func (s fieldSchema) kind() nodeKind {
	switch {
	case s.d.IsMap():
		return objectNode
	case s.d.IsList():
		return listNode
	}
	return s.item().kind()
}

func (s fieldSchema) field(name string) schema {
	if s.d.IsMap() {
		return fieldSchema{s.d.MapValue()}
	}
	return s.item().field(name)
}

func (s fieldSchema) fields() []string {
	if s.d.IsMap() {
		return nil
	}
	return s.item().fields()
}

// item returns the schema of one value, of a list or not.
func (s fieldSchema) item() schema {
	if s.d.Message() != nil {
		return messageSchema{s.d.Message()}
	}
	return scalarSchema(s)
}

func (s fieldSchema) leaf(kind nodeKind, text []byte) leaf { return s.item().leaf(kind, text) }

// scalarSchema is the schema of one scalar of a protobuf field.
type scalarSchema struct{ d protoreflect.FieldDescriptor }

func (s scalarSchema) kind() nodeKind {
	switch s.d.Kind() {
	case protoreflect.BoolKind:
		return boolNode
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.EnumKind:
		return stringNode
	}
	return numberNode
}

func (scalarSchema) field(string) schema { return nil }
func (scalarSchema) fields() []string    { return nil }
func (scalarSchema) item() schema        { return nil }

// leaf lets protojson decide, in a message that has nothing but this field:
// numbers may be strings and enums may be numbers.
func (s scalarSchema) leaf(kind nodeKind, text []byte) leaf {
	if want := s.kind(); (want == stringNode || want == boolNode) && want != kind && s.d.Kind() != protoreflect.EnumKind {
		return leaf{err: errMismatch}
	}
	if s.d.Kind() == protoreflect.EnumKind && kind == stringNode {
		return s.enum(text)
	}
	value := string(text)
	if s.d.IsList() {
		value = "[" + value + "]"
	}
	if s.d.ContainingMessage().IsMapEntry() {
		return leaf{} // there is no message of one map value; decoding decides
	}
	object := fmt.Sprintf("{%q:%s}", s.d.JSONName(), value)
	return leaf{err: protoError(protojson.Unmarshal([]byte(object), newMessage(s.d.ContainingMessage())))}
}

func (s scalarSchema) enum(text []byte) leaf {
	name := string(text[1 : len(text)-1])
	values := s.d.Enum().Values()
	if values.ByName(protoreflect.Name(name)) != nil {
		return leaf{}
	}
	var names []string
	for i := range values.Len() {
		names = append(names, string(values.Get(i).Name()))
	}
	return leaf{err: fmt.Errorf("%q is none of %v", name, names), hint: suggest(name, names)}
}

// protoNoise is what protojson puts before an error: its name, and a position
// in JSON that nobody wrote. Some of its spaces are U+00A0, some of the time.
var protoNoise = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error[\s\x{a0}]*)?(\(line \d+:\d+\):[\s\x{a0}]*)?`)

func protoError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s", protoNoise.ReplaceAllString(err.Error(), ""))
}
