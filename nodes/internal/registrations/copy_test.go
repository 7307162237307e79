package registrations

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestCopied fails when a field is added to records and not to the copy that a change works on.
func TestCopied(t *testing.T) {
	rec := &Record{}
	fill(rec.ProtoReflect(), 3)
	rec.Owed, rec.Subscriptions = nil, nil // else the whole is cloned
	before := proto.Clone(rec)
	c := copied(rec)
	if !proto.Equal(c, rec) {
		t.Errorf("the copy differs:\n%v\n%v", c, rec)
	}
	c.Nonces[0].Nc++
	c.Announced = append(c.Announced[:0], "other")
	c.Bindings[0] = &Binding{}
	if !proto.Equal(before, rec) {
		t.Error("a change of the copy is one of the original")
	}
}

// fill gives every field a value.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			if f.Kind() != protoreflect.MessageKind {
				list.Append(scalar(f))
			} else if depth > 0 {
				fill(list.AppendMutable().Message(), depth-1)
			}
		case f.Kind() == protoreflect.MessageKind:
			if depth > 0 {
				fill(m.Mutable(f).Message(), depth-1)
			}
		default:
			m.Set(f, scalar(f))
		}
	}
}

func scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	default:
		panic("a kind that the test does not know: " + f.Kind().String())
	}
}
