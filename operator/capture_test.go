package operator

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/vigil-ark/vigil/ark/batch"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

const (
	capturedMessages = 48
	capturedEvents   = 26
	capturedBatch    = "b767fcc3-9c07-4cce-93a8-671825cdb0e7"
)

type capture struct {
	Method  string          `json:"method"`
	Dir     string          `json:"dir"`
	Message json.RawMessage `json:"message"`
}

func lines(t testing.TB, name string) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		out = append(out, bytes.Clone(s.Bytes()))
	}
	return out
}

// encode writes a message that was decoded without a schema: field numbers to
// strings, numbers, messages, or lists of them.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	fields := v.(map[string]any)
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		n, err := strconv.ParseInt(k, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		values, isList := fields[k].([]any)
		if !isList {
			values = []any{fields[k]}
		}
		for _, v := range values {
			switch v := v.(type) {
			case json.Number:
				u, err := strconv.ParseUint(v.String(), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(n), protowire.VarintType), u)
			case string:
				b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(n), protowire.BytesType), v)
			default:
				b = protowire.AppendBytes(protowire.AppendTag(b, protowire.Number(n), protowire.BytesType), encode(t, v))
			}
		}
	}
	return b
}

// decoded reads one captured message into the type that our proto files give it.
func decoded(t testing.TB, line []byte) (capture, proto.Message, []byte) {
	t.Helper()
	var c capture
	if err := json.Unmarshal(line, &c); err != nil {
		t.Fatal(err)
	}
	service, method, _ := strings.Cut(strings.TrimPrefix(c.Method, "/"), "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		t.Fatal(err)
	}
	rpc := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	typ := rpc.Input()
	if c.Dir == "response" {
		typ = rpc.Output()
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByName(typ.FullName())
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(c.Message))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	raw := encode(t, v)
	m := mt.New().Interface()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatalf("%s %s: %v", c.Method, c.Dir, err)
	}
	return c, m, raw
}

// unknown lists fields, at any depth, that our messages lack or that have another
// wire type there.
func unknown(m protoreflect.Message) (found []string) {
	if len(m.GetUnknown()) > 0 {
		found = append(found, string(m.Descriptor().FullName()))
	}
	for fd, v := range m.Range {
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			for _, e := range v.Map().Range {
				found = append(found, unknown(e.Message())...)
			}
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				found = append(found, unknown(v.List().Get(i).Message())...)
			}
		case !fd.IsMap() && !fd.IsList() && fd.Message() != nil:
			found = append(found, unknown(v.Message())...)
		}
	}
	return found
}

// TestCapturedFields holds that our messages have every field that a real arkd
// and Fulmine exchanged, under the same number and wire type, and nothing else to
// say.
func TestCapturedFields(t *testing.T) {
	all := lines(t, "grpc.jsonl")
	if len(all) != capturedMessages {
		t.Fatalf("%d messages, want %d", len(all), capturedMessages)
	}
	methods := make(map[string]bool)
	for i, line := range all {
		c, m, raw := decoded(t, line)
		methods[c.Method+" "+c.Dir] = true
		if lost := unknown(m.ProtoReflect()); len(lost) > 0 {
			t.Errorf("message %d, %s %s: fields unknown to %v", i, c.Method, c.Dir, lost)
		}
		if proto.Size(m) != len(raw) {
			t.Errorf("message %d, %s %s: encodes to %d bytes, was %d", i, c.Method, c.Dir, proto.Size(m), len(raw))
		}
	}
	if len(methods) != 18 {
		t.Errorf("%d directions of methods, want 18", len(methods))
	}
}

// TestRESTAndGRPCAgree holds names and numbers against each other: arkd's own
// JSON of the same parameters and of the same batch's events must give the same
// messages.
func TestRESTAndGRPCAgree(t *testing.T) {
	overGRPC := make(map[string]bool)
	for _, line := range lines(t, "grpc.jsonl") {
		c, m, _ := decoded(t, line)
		switch {
		case strings.HasSuffix(c.Method, "GetInfo") && c.Dir == "response":
			rest := capturedInfo(t)
			// The JSON spells unset messages as empty ones.
			m := m.(*arkv1.GetInfoResponse)
			if !proto.Equal(m, rest) {
				t.Errorf("parameters differ:\n%v\n%v", m, rest)
			}
		case strings.HasSuffix(c.Method, "GetEventStream") && c.Dir == "response":
			overGRPC[canonical(t, m)] = true
		}
	}
	same := 0
	for _, line := range lines(t, "events.jsonl") {
		if !bytes.Contains(line, []byte(capturedBatch)) {
			continue
		}
		m := new(arkv1.GetEventStreamResponse)
		if err := protojson.Unmarshal(line, m); err != nil {
			t.Fatal(err)
		}
		if !overGRPC[canonical(t, m)] {
			t.Errorf("not seen over gRPC: %.200s", line)
			continue
		}
		same++
	}
	if same != 16 {
		t.Errorf("%d events of the batch are the same over both, want 16", same)
	}
}

// canonical is a message's deterministic encoding with the order of topics, which
// arkd leaves to chance, taken out.
func canonical(t testing.TB, m proto.Message) string {
	t.Helper()
	if e, ok := m.(*arkv1.GetEventStreamResponse); ok {
		slices.Sort(e.GetTreeTx().GetTopic())
		slices.Sort(e.GetTreeSigningStarted().GetCosignersPubkeys())
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCapturedEventsDecode(t *testing.T) {
	all := lines(t, "events.jsonl")
	if len(all) != capturedEvents {
		t.Fatalf("%d events, want %d", len(all), capturedEvents)
	}
	kinds := make(map[string]int)
	for _, line := range all {
		m := new(arkv1.GetEventStreamResponse)
		if err := protojson.Unmarshal(line, m); err != nil {
			t.Fatal(err)
		}
		switch ev := decodeEvent(m).(type) {
		case nil:
			kinds["none"]++
		case Malformed:
			t.Errorf("%v: %.200s", ev.Err, line)
		case batch.Started:
			kinds["started"]++
			if ev.Expiry != 2048 || len(ev.IntentHashes) == 0 {
				t.Errorf("got %+v", ev)
			}
		case batch.TreeTx:
			kinds["tx"]++
			if ev.PSBT == "" || len(ev.Topics) == 0 {
				t.Errorf("got %+v", ev)
			}
		case batch.TreeNonces:
			kinds["nonces"]++
			if len(ev.Nonces) < 2 {
				t.Errorf("got %+v", ev)
			}
		case batch.Failed:
			kinds["failed"]++
			if !strings.Contains(ev.Reason, "(") {
				t.Errorf("got %+v", ev)
			}
		default:
			kinds["other"]++
		}
	}
	for _, kind := range []string{"none", "started", "tx", "nonces", "failed", "other"} {
		if kinds[kind] == 0 {
			t.Errorf("no event of kind %s among %v", kind, kinds)
		}
	}
}
