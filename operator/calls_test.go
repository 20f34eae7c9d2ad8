package operator

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/btcsuite/btcd/chainhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/bip340"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
	"github.com/vigil-ark/vigil/musig2"
)

// TestTreeAsCaptured makes the submissions of the captured batch and compares
// them with what Fulmine sent.
func TestTreeAsCaptured(t *testing.T) {
	var nonces *arkv1.SubmitTreeNoncesRequest
	var sigs *arkv1.SubmitTreeSignaturesRequest
	var forfeits *arkv1.SubmitSignedForfeitTxsRequest
	for _, line := range lines(t, "grpc.jsonl") {
		_, m, _ := decoded(t, line)
		switch m := m.(type) {
		case *arkv1.SubmitTreeNoncesRequest:
			nonces = m
		case *arkv1.SubmitTreeSignaturesRequest:
			sigs = m
		case *arkv1.SubmitSignedForfeitTxsRequest:
			forfeits = m
		}
	}
	if len(nonces.GetTreeNonces()) != 3 || len(sigs.GetTreeSignatures()) != 3 || len(forfeits.GetSignedForfeitTxs()) != 1 {
		t.Fatal("the captured batch is not the one of three nodes and one forfeit")
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		var got []any
		record := func(resp any) func(context.Context, any) (any, error) {
			return func(_ context.Context, req any) (any, error) { got = append(got, req); return resp, nil }
		}
		f.on("SubmitTreeNonces", record(&arkv1.SubmitTreeNoncesResponse{}))
		f.on("SubmitTreeSignatures", record(&arkv1.SubmitTreeSignaturesResponse{}))
		f.on("SubmitSignedForfeitTxs", record(&arkv1.SubmitSignedForfeitTxsResponse{}))

		key, err := bip340.ParsePubKeyHex(nonces.GetPubkey())
		if err != nil {
			t.Fatal(err)
		}
		byTxid := make(map[chainhash.Hash]musig2.PubNonce)
		for txid, n := range nonces.GetTreeNonces() {
			byTxid[hash(t, txid)] = musig2.PubNonce(unhex(t, n))
		}
		partials := make(map[chainhash.Hash]musig2.PartialSig)
		for txid, s := range sigs.GetTreeSignatures() {
			partials[hash(t, txid)] = musig2.PartialSig(unhex(t, s))
		}
		for _, err := range []error{
			c.SubmitTreeNonces(t.Context(), nonces.GetBatchId(), key, byTxid),
			c.SubmitTreeSignatures(t.Context(), sigs.GetBatchId(), key, partials),
			c.SubmitForfeits(t.Context(), forfeits.GetSignedForfeitTxs(), forfeits.GetSignedCommitmentTx()),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if canonical(t, got[0].(*arkv1.SubmitTreeNoncesRequest)) != canonical(t, nonces) {
			t.Errorf("nonces: %v", got[0])
		}
		if canonical(t, got[1].(*arkv1.SubmitTreeSignaturesRequest)) != canonical(t, sigs) {
			t.Errorf("signatures: %v", got[1])
		}
		if canonical(t, got[2].(*arkv1.SubmitSignedForfeitTxsRequest)) != canonical(t, forfeits) {
			t.Errorf("forfeits: %v", got[2])
		}
	})
}

func hash(t *testing.T, s string) chainhash.Hash {
	t.Helper()
	h, err := chainhash.NewHashFromStr(s)
	if err != nil {
		t.Fatal(err)
	}
	return *h
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		id := ""
		f.on("RegisterIntent", func(context.Context, any) (any, error) { return &arkv1.RegisterIntentResponse{IntentId: id}, nil })
		for _, id = range []string{"", "a b", strings.Repeat("x", 129), "ü"} {
			if _, err := c.RegisterIntent(t.Context(), "p", "m"); !errors.Is(err, ErrAnswer) {
				t.Errorf("id %q: %v", id, err)
			}
		}
		fee := int64(7)
		f.on("EstimateIntentFee", func(context.Context, any) (any, error) { return &arkv1.EstimateIntentFeeResponse{Fee: fee}, nil })
		if got, err := c.EstimateFee(t.Context(), "p", "m"); got != 7 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
		for _, fee = range []int64{-1, maxSats + 1} {
			if _, err := c.EstimateFee(t.Context(), "p", "m"); !errors.Is(err, ErrAnswer) {
				t.Errorf("fee %d: %v", fee, err)
			}
		}
		f.on("DeleteIntent", func(_ context.Context, req any) (any, error) {
			if in := req.(*arkv1.DeleteIntentRequest).GetIntent(); in.GetProof() != "p" || in.GetMessage() != "m" {
				t.Errorf("got %v", in)
			}
			return &arkv1.DeleteIntentResponse{}, nil
		})
		f.on("ConfirmRegistration", func(_ context.Context, req any) (any, error) {
			if req.(*arkv1.ConfirmRegistrationRequest).GetIntentId() != "id" {
				t.Errorf("got %v", req)
			}
			return &arkv1.ConfirmRegistrationResponse{}, nil
		})
		if err := errors.Join(c.DeleteIntent(t.Context(), "p", "m"), c.ConfirmRegistration(t.Context(), "id")); err != nil {
			t.Error(err)
		}
	})
}

func TestOffchain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		txid := strings.Repeat("ab", 32)
		resp := &arkv1.SubmitTxResponse{ArkTxid: txid, FinalArkTx: "final", SignedCheckpointTxs: []string{"c1", "c2"}}
		f.on("SubmitTx", func(_ context.Context, req any) (any, error) {
			if r := req.(*arkv1.SubmitTxRequest); r.GetSignedArkTx() != "tx" || len(r.GetCheckpointTxs()) != 1 {
				t.Errorf("got %v", r)
			}
			return resp, nil
		})
		got, err := c.SubmitTx(t.Context(), "tx", []string{"c"})
		if err != nil || got.Txid.String() != txid || got.Tx != "final" || len(got.Checkpoints) != 2 {
			t.Fatalf("got %+v, %v", got, err)
		}
		f.on("FinalizeTx", func(_ context.Context, req any) (any, error) {
			if r := req.(*arkv1.FinalizeTxRequest); r.GetArkTxid() != txid || len(r.GetFinalCheckpointTxs()) != 1 {
				t.Errorf("got %v", r)
			}
			return &arkv1.FinalizeTxResponse{}, nil
		})
		if err := c.FinalizeTx(t.Context(), got.Txid, []string{"c"}); err != nil {
			t.Error(err)
		}
		pending := []*arkv1.PendingTx{{ArkTxid: txid, FinalArkTx: "final", SignedCheckpointTxs: []string{"c1"}}}
		f.on("GetPendingTx", func(_ context.Context, req any) (any, error) {
			if in := req.(*arkv1.GetPendingTxRequest).GetIntent(); in.GetProof() != "p" || in.GetMessage() != "m" {
				t.Errorf("got %v", in)
			}
			return &arkv1.GetPendingTxResponse{PendingTxs: pending}, nil
		})
		if txs, err := c.PendingTx(t.Context(), "p", "m"); err != nil || len(txs) != 1 || txs[0].Tx != "final" {
			t.Errorf("got %+v, %v", txs, err)
		}
		pending[0].ArkTxid = ""
		if _, err := c.PendingTx(t.Context(), "p", "m"); !errors.Is(err, ErrAnswer) {
			t.Errorf("got %v", err)
		}
		pending = make([]*arkv1.PendingTx, maxTxs+1)
		if _, err := c.PendingTx(t.Context(), "p", "m"); !errors.Is(err, ErrAnswer) {
			t.Errorf("got %v", err)
		}
		good := resp
		for name, change := range map[string]func(){
			"txid":        func() { resp.ArkTxid = "x" },
			"tx":          func() { resp.FinalArkTx = "" },
			"long tx":     func() { resp.FinalArkTx = strings.Repeat("x", maxPSBT+1) },
			"checkpoint":  func() { resp.SignedCheckpointTxs = []string{""} },
			"checkpoints": func() { resp.SignedCheckpointTxs = make([]string, maxTxs+1) },
		} {
			resp = proto.Clone(good).(*arkv1.SubmitTxResponse)
			change()
			if _, err := c.SubmitTx(t.Context(), "tx", []string{"c"}); !errors.Is(err, ErrAnswer) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}
