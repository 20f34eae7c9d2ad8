package operator

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/ark/batch"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

var (
	hex32 = strings.Repeat("ab", 32)
	hex33 = "02" + hex32
	hex64 = strings.Repeat("ab", 64)
	hex66 = strings.Repeat("ab", 66)
)

// sound is one event of each kind that must decode; the tests below spoil them.
func sound() map[string]*arkv1.GetEventStreamResponse {
	wrap := func(e *arkv1.GetEventStreamResponse) *arkv1.GetEventStreamResponse { return e }
	return map[string]*arkv1.GetEventStreamResponse{
		"started": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_BatchStarted{BatchStarted: &arkv1.BatchStartedEvent{
			Id: "b", IntentIdHashes: []string{hex32}, BatchExpiry: 512,
		}}}),
		"tx": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_TreeTx{TreeTx: &arkv1.TreeTxEvent{
			Id: "b", Topic: []string{hex33}, BatchIndex: 1, Tx: "cHNidP8=", Children: map[uint32]string{0: strings.ToUpper(hex32)},
		}}}),
		"signing": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_TreeSigningStarted{TreeSigningStarted: &arkv1.TreeSigningStartedEvent{
			Id: "b", CosignersPubkeys: []string{strings.ToUpper(hex33)}, UnsignedCommitmentTx: "cHNidP8=",
		}}}),
		"nonces": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_TreeNonces{TreeNonces: &arkv1.TreeNoncesEvent{
			Id: "b", Topic: []string{hex33}, Txid: hex32, Nonces: map[string]string{hex32: hex66},
		}}}),
		"aggregated": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_TreeNoncesAggregated{TreeNoncesAggregated: &arkv1.TreeNoncesAggregatedEvent{
			Id: "b", TreeNonces: map[string]string{hex32: hex66},
		}}}),
		"signature": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_TreeSignature{TreeSignature: &arkv1.TreeSignatureEvent{
			Id: "b", Topic: []string{hex33}, Txid: hex32, Signature: hex64,
		}}}),
		"finalization": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_BatchFinalization{BatchFinalization: &arkv1.BatchFinalizationEvent{
			Id: "b", CommitmentTx: "cHNidP8=",
		}}}),
		"finalized": wrap(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_BatchFinalized{BatchFinalized: &arkv1.BatchFinalizedEvent{
			Id: "b", CommitmentTxid: hex32,
		}}}),
		"failed": failed("b", "reason\nwith a newline"),
	}
}

func TestDecodeSound(t *testing.T) {
	events := sound()
	for name, m := range events {
		switch ev := decodeEvent(m).(type) {
		case nil, Malformed:
			t.Errorf("%s: got %#v", name, ev)
		case batch.TreeTx:
			if ev.Children[0] != hex32 || ev.BatchIndex != 1 || ev.BatchID != "b" {
				t.Errorf("got %+v", ev)
			}
		case batch.TreeSigningStarted:
			if ev.Cosigners[0] != hex33 {
				t.Errorf("got %+v", ev)
			}
		case batch.Failed:
			if ev.Reason != "reason?with a newline" {
				t.Errorf("got %+v", ev)
			}
		}
	}
	if len(events) != 9 {
		t.Errorf("%d kinds of events, want 9", len(events))
	}
	for _, m := range []*arkv1.GetEventStreamResponse{{}, heartbeat(), started("x"), nil} {
		if ev := decodeEvent(m); ev != nil {
			t.Errorf("%v gave %#v", m, ev)
		}
	}
}

func TestDecodeMalformed(t *testing.T) {
	many := func(n int, s string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = s
		}
		return out
	}
	type m = *arkv1.GetEventStreamResponse
	for name, tc := range map[string]struct {
		kind  string
		spoil func(m)
	}{
		"started: short hash":      {"started", func(e m) { e.GetBatchStarted().IntentIdHashes[0] = "ab" }},
		"started: no hex":          {"started", func(e m) { e.GetBatchStarted().IntentIdHashes[0] = strings.Repeat("z", 64) }},
		"started: many":            {"started", func(e m) { e.GetBatchStarted().IntentIdHashes = many(maxParticipants+1, hex32) }},
		"started: no expiry":       {"started", func(e m) { e.GetBatchStarted().BatchExpiry = 0 }},
		"started: negative expiry": {"started", func(e m) { e.GetBatchStarted().BatchExpiry = -512 }},
		"started: wrapping expiry": {"started", func(e m) { e.GetBatchStarted().BatchExpiry = 1<<32 + 512 }},
		"tx: index":                {"tx", func(e m) { e.GetTreeTx().BatchIndex = 2 }},
		"tx: negative index":       {"tx", func(e m) { e.GetTreeTx().BatchIndex = -1 }},
		"tx: no PSBT":              {"tx", func(e m) { e.GetTreeTx().Tx = "" }},
		"tx: long PSBT":            {"tx", func(e m) { e.GetTreeTx().Tx = strings.Repeat("A", maxPSBT+1) }},
		"tx: child":                {"tx", func(e m) { e.GetTreeTx().Children[1] = "" }},
		"tx: long topic":           {"tx", func(e m) { e.GetTreeTx().Topic[0] = strings.Repeat("a", maxTopicLen+1) }},
		"tx: topics":               {"tx", func(e m) { e.GetTreeTx().Topic = many(maxCosigners+1, "a") }},
		"signing: keys":            {"signing", func(e m) { e.GetTreeSigningStarted().CosignersPubkeys = many(maxCosigners+1, hex33) }},
		"signing: no commitment":   {"signing", func(e m) { e.GetTreeSigningStarted().UnsignedCommitmentTx = "" }},
		"nonces: txid":             {"nonces", func(e m) { e.GetTreeNonces().Txid = "" }},
		"nonces: compressed key":   {"nonces", func(e m) { e.GetTreeNonces().Nonces[hex33] = hex66 }},
		"nonces: short":            {"nonces", func(e m) { e.GetTreeNonces().Nonces[hex32] = hex64 }},
		"nonces: key in two cases": {"nonces", func(e m) { e.GetTreeNonces().Nonces[strings.ToUpper(hex32)] = hex66 }},
		"nonces: topic":            {"nonces", func(e m) { e.GetTreeNonces().Topic[0] = strings.Repeat("a", maxTopicLen+1) }},
		"aggregated: txid":         {"aggregated", func(e m) { e.GetTreeNoncesAggregated().TreeNonces["x"] = hex66 }},
		"aggregated: short":        {"aggregated", func(e m) { e.GetTreeNoncesAggregated().TreeNonces[hex32] = "" }},
		"aggregated: two cases":    {"aggregated", func(e m) { e.GetTreeNoncesAggregated().TreeNonces[strings.ToUpper(hex32)] = hex66 }},
		"signature: txid":          {"signature", func(e m) { e.GetTreeSignature().Txid = hex33 }},
		"signature: short":         {"signature", func(e m) { e.GetTreeSignature().Signature = hex32 }},
		"signature: topic":         {"signature", func(e m) { e.GetTreeSignature().Topic[0] = strings.Repeat("a", maxTopicLen+1) }},
		"finalization: empty":      {"finalization", func(e m) { e.GetBatchFinalization().CommitmentTx = "" }},
		"finalized: txid":          {"finalized", func(e m) { e.GetBatchFinalized().CommitmentTxid = "" }},
	} {
		e := sound()[tc.kind]
		tc.spoil(e)
		ev, ok := decodeEvent(e).(Malformed)
		if !ok || ev.BatchID != "b" || !errors.Is(ev.Err, ErrAnswer) {
			t.Errorf("%s: got %#v", name, ev)
		}
	}
	big := sound()["tx"]
	for i := range uint32(maxChildren + 1) {
		big.GetTreeTx().Children[i] = hex32
	}
	if _, ok := decodeEvent(big).(Malformed); !ok {
		t.Error("too many children")
	}
	for _, id := range []string{"", "a b", "a\n", strings.Repeat("a", maxLabel+1)} {
		if ev, ok := decodeEvent(failed(id, "x")).(Malformed); !ok || ev.BatchID != "" {
			t.Errorf("batch id %q: got %#v", id, ev)
		}
	}
	// A field that is absent as a whole.
	for _, e := range []*arkv1.GetEventStreamResponse{
		{Event: &arkv1.GetEventStreamResponse_BatchStarted{}}, {Event: &arkv1.GetEventStreamResponse_TreeTx{}},
		{Event: &arkv1.GetEventStreamResponse_TreeSigningStarted{}}, {Event: &arkv1.GetEventStreamResponse_TreeNonces{}},
		{Event: &arkv1.GetEventStreamResponse_TreeNoncesAggregated{}}, {Event: &arkv1.GetEventStreamResponse_TreeSignature{}},
		{Event: &arkv1.GetEventStreamResponse_BatchFinalization{}}, {Event: &arkv1.GetEventStreamResponse_BatchFinalized{}},
		{Event: &arkv1.GetEventStreamResponse_BatchFailed{}},
	} {
		if _, ok := decodeEvent(e).(Malformed); !ok {
			t.Errorf("%T without a body is not malformed", e.GetEvent())
		}
	}
}

func FuzzEvent(f *testing.F) {
	for _, line := range lines(f, "events.jsonl") {
		m := new(arkv1.GetEventStreamResponse)
		if err := protojson.Unmarshal(line, m); err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(arkv1.GetEventStreamResponse)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		switch ev := decodeEvent(m).(type) {
		case nil:
		case Malformed:
			if !errors.Is(ev.Err, ErrAnswer) {
				t.Errorf("untyped: %v", ev.Err)
			}
		case batch.Event:
			if again := decodeEvent(m); again == nil {
				t.Error("decodes once only")
			}
		default:
			t.Errorf("got %T", ev)
		}
	})
}

// TestStrangersKeys: what a stranger lists as his cosigner key is not what makes
// an event malformed.
func TestStrangersKeys(t *testing.T) {
	key := strings.Repeat("02", 33)
	ev := decodeEvent(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_TreeSigningStarted{TreeSigningStarted: &arkv1.TreeSigningStartedEvent{
		Id: "batch", UnsignedCommitmentTx: "AA==", CosignersPubkeys: []string{"04" + strings.Repeat("11", 64), "", "zz", strings.ToUpper(key), "\xff"},
	}}})
	if started, ok := ev.(batch.TreeSigningStarted); !ok || len(started.Cosigners) != 1 || started.Cosigners[0] != key {
		t.Fatalf("decoded to %+v", ev)
	}
}
