package rpc

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/vigil-ark/vigil"
)

const (
	// maxFields bounds the fields of a payload, nested ones counted: a signature
	// over 512 messages and the deepest proofs of a batch need under half. A
	// field takes two bytes on the wire and up to a hundred in memory.
	maxFields = 16_384
	// maxNesting bounds messages within messages. None of ours is within itself;
	// the deepest, a tree node's child in a signature, lies 6 deep.
	maxNesting = 8
)

// decodeStrict decodes a payload and refuses what this version does not know: a
// field that is dropped in silence may be the one that the sender relied on.
// Errors are *vigil.Error with CodeMalformed.
func decodeStrict(b []byte, to proto.Message) error {
	left := maxFields
	if err := known(b, to.ProtoReflect().Descriptor(), &left); err != nil {
		return err
	}
	if err := proto.Unmarshal(b, to); err != nil {
		return vigil.Errorf(vigil.CodeMalformed, "the payload is not a %s: %w", to.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// known walks the encoding of a message of type d before anything is allocated.
func known(b []byte, d protoreflect.MessageDescriptor, left *int) error {
	bad := func(what string) error {
		return vigil.Errorf(vigil.CodeMalformed, "the payload is not a %s of this version: %s", d.FullName(), what)
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return bad("a field cannot be read")
		}
		if *left--; *left < 0 {
			return bad("it has too many fields")
		}
		f := d.Fields().ByNumber(num)
		if f == nil || !fits(f, typ) {
			return vigil.Errorf(vigil.CodeMalformed, "the payload is not a %s of this version: it has an unknown field, number %d", d.FullName(), num)
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return bad("field " + string(f.Name()) + " cannot be read")
		}
		if f.Message() != nil {
			inner, _ := protowire.ConsumeBytes(b[n:])
			if err := known(inner, f.Message(), left); err != nil {
				return err
			}
		}
		b = b[n+size:]
	}
	return nil
}

// fits says whether a field may be encoded so, packed numbers included.
func fits(f protoreflect.FieldDescriptor, typ protowire.Type) bool {
	switch f.Kind() {
	case protoreflect.BytesKind, protoreflect.StringKind, protoreflect.MessageKind:
		return typ == protowire.BytesType
	case protoreflect.BoolKind, protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Uint32Kind:
		return typ == protowire.VarintType || f.IsList() && typ == protowire.BytesType
	}
	return false // no other kind is in use; a test decodes every message
}
