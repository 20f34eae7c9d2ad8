package arktest

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"
	"time"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// seeds are real requests of the stock SDK.
func seeds(f *testing.F) (proofs, forfeits []string, message string) {
	f.Helper()
	raw, err := os.ReadFile("../ark/testdata/captures.json")
	if err != nil {
		f.Fatal(err)
	}
	var c struct {
		Register map[string]struct{ Proof, Message string }
		Forfeits map[string]struct {
			SignedForfeitTxs   []string
			SignedCommitmentTx string
		}
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		f.Fatal(err)
	}
	for _, r := range c.Register {
		proofs, message = append(proofs, r.Proof), r.Message
	}
	for _, x := range c.Forfeits {
		forfeits = append(append(forfeits, x.SignedForfeitTxs...), x.SignedCommitmentTx)
	}
	if len(proofs) == 0 || len(forfeits) == 0 {
		f.Fatal("no seeds")
	}
	return proofs, forfeits, message
}

// FuzzRequests hands broken PSBTs to everything that takes one. Nothing of it
// may be accepted, and nothing may panic.
func FuzzRequests(f *testing.F) {
	op, err := Start(Config{NoEsplora: true, Clock: NewManualClock(time.Unix(1_800_000_000, 0))})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(op.Close)
	proofs, forfeits, message := seeds(f)
	for _, p := range append(proofs, forfeits...) {
		raw, err := base64.StdEncoding.DecodeString(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, message)
	}
	p, err := op.process()
	if err != nil {
		f.Fatal(err)
	}
	s := &arkService{op: op, p: p}
	f.Fuzz(func(t *testing.T, raw []byte, message string) {
		tx := base64.StdEncoding.EncodeToString(raw)
		in := &arkv1.Intent{Proof: tx, Message: message}
		ctx := t.Context()
		if _, err := s.RegisterIntent(ctx, &arkv1.RegisterIntentRequest{Intent: in}); err == nil {
			t.Error("an intent over nothing was registered")
		}
		_, _ = s.EstimateIntentFee(ctx, &arkv1.EstimateIntentFeeRequest{Intent: in})
		if _, err := s.DeleteIntent(ctx, &arkv1.DeleteIntentRequest{Intent: in}); err == nil {
			t.Error("an intent was deleted")
		}
		_, _ = s.GetIntent(ctx, &arkv1.GetIntentRequest{Filter: &arkv1.GetIntentRequest_Intent{Intent: in}})
		_, _ = s.GetPendingTx(ctx, &arkv1.GetPendingTxRequest{Identifier: &arkv1.GetPendingTxRequest_Intent{Intent: in}})
		if _, err := s.SubmitTx(ctx, &arkv1.SubmitTxRequest{SignedArkTx: tx, CheckpointTxs: []string{tx}}); err == nil {
			t.Error("a transaction was accepted")
		}
		if _, err := s.SubmitSignedForfeitTxs(ctx, &arkv1.SubmitSignedForfeitTxsRequest{SignedForfeitTxs: []string{tx}, SignedCommitmentTx: tx}); err == nil {
			t.Error("a forfeit was accepted")
		}
	})
}
