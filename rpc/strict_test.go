package rpc

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/vigilpb"
)

func TestDecodeStrict(t *testing.T) {
	document := func(n int) []byte { // n documents of nothing
		return bytes.Repeat([]byte{0x1a, 0}, n)
	}
	for name, c := range map[string]struct {
		b    []byte
		to   proto.Message
		good bool
	}{
		"nothing":                  {nil, &vigilpb.SignRequest{}, true},
		"packed numbers":           {[]byte{0x0a, 2, 0, 1}, &vigilpb.SignRequest{}, true},
		"numbers one by one":       {[]byte{0x08, 0, 0x08, 1}, &vigilpb.SignRequest{}, true},
		"as many fields as may be": {document(maxFields), &vigilpb.SignRequest{}, true},
		"one more":                 {document(maxFields + 1), &vigilpb.SignRequest{}, false},
		"an unknown field":         {[]byte{0x78, 1}, &vigilpb.SignRequest{}, false},
		"a field of another type":  {[]byte{0x10, 1}, &vigilpb.SignRequest{}, false},
		"an unknown nested field":  {[]byte{0x1a, 2, 0x78, 1}, &vigilpb.SignRequest{}, false},
		"a group":                  {[]byte{0x1b, 0x1c}, &vigilpb.SignRequest{}, false},
		"cut in a tag":             {[]byte{0x80}, &vigilpb.SignRequest{}, false},
		"cut in a value":           {[]byte{0x12, 5, 1}, &vigilpb.SignRequest{}, false},
		"text that is none":        {[]byte{0x12, 1, 0xff}, &vigilpb.RecoverRequest{}, false},
		"field 0":                  {[]byte{0x02, 0}, &vigilpb.SignRequest{}, false},
	} {
		err := decodeStrict(c.b, c.to)
		if c.good && err != nil || !c.good && vigil.CodeOf(err) != vigil.CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every kind of field that our messages have is one that fits knows, and none is
// nested deeper than payloads may be.
func TestStrictKnowsEveryKind(t *testing.T) {
	var walk func(d protoreflect.MessageDescriptor, depth int)
	walk = func(d protoreflect.MessageDescriptor, depth int) {
		if depth > maxNesting {
			t.Fatalf("%s lies too deep", d.FullName())
		}
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			typ := protowire.VarintType
			if f.Kind() == protoreflect.BytesKind || f.Kind() == protoreflect.StringKind || f.Message() != nil {
				typ = protowire.BytesType
			}
			if !fits(f, typ) || fits(f, protowire.Fixed32Type) || fits(f, protowire.StartGroupType) || f.IsMap() {
				t.Errorf("%s: a %v", f.FullName(), f.Kind())
			}
			if f.Message() != nil {
				walk(f.Message(), depth+1)
			}
		}
	}
	messages := vigilpb.File_vigil_v1_wallet_proto.Messages()
	for i := range messages.Len() {
		walk(messages.Get(i), 0)
	}
}

// unknown says whether a message, or one within it, has a field that was not
// decoded.
func unknown(m protoreflect.Message) (found bool) {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || unknown(v.List().Get(i).Message())
			}
		default:
			found = found || unknown(v.Message())
		}
		return !found
	})
	return found
}

// What is decoded has no field that this version does not know, and comes out of
// its own encoding as it was.
func FuzzDecodeStrict(f *testing.F) {
	messages := vigilpb.File_vigil_v1_wallet_proto.Messages()
	for i := range messages.Len() {
		f.Add(uint(i), []byte{0x0a, 1, 0x41, 0x12, 1, 0x42})
	}
	seed, err := proto.Marshal(&vigilpb.SignRequest{
		Signers: []uint32{0, 1}, Session: make([]byte, 32), Nonces: [][]byte{make([]byte, 66)},
		Documents: []*vigilpb.Document{{Document: &vigilpb.Document_Forfeit{Forfeit: &vigilpb.ForfeitDocument{
			Forfeits: []string{"cHNidP8="}, Batch: &vigilpb.BatchProof{Nodes: []*vigilpb.TreeNode{{Tx: "x", Children: []*vigilpb.TreeChild{{Output: 1, Txid: "t"}}}}},
		}}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	for i := range messages.Len() {
		if messages.Get(i).Name() == "SignRequest" {
			f.Add(uint(i), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which uint, b []byte) {
		typ, err := protoregistry.GlobalTypes.FindMessageByName(messages.Get(int(which % uint(messages.Len()))).FullName())
		if err != nil {
			t.Fatal(err)
		}
		m := typ.New().Interface()
		if err := decodeStrict(b, m); err != nil {
			if vigil.CodeOf(err) != vigil.CodeMalformed {
				t.Error(err)
			}
			return
		}
		if unknown(m.ProtoReflect()) {
			t.Errorf("%x holds what is not known", b)
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		n := typ.New().Interface()
		if err := decodeStrict(again, n); err != nil || !proto.Equal(m, n) {
			t.Errorf("%x is %v, and %v in its own encoding: %v", b, m, n, err)
		}
	})
}

// What the replay's memory gives back is an answer or a refusal, whatever it
// holds.
func FuzzRecall(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{keptAnswer, 0x0a, 1, 1})
	f.Add([]byte{keptRefusal, 0x0a, 1, 'X', 0x12, 1, 'y'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := recall(b); (a == nil) == (err == nil) {
			t.Errorf("%v, %v", a, err)
		}
	})
}
