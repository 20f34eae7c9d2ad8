package delegate

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// stored is a record as it is read back from a store.
func stored(t *testing.T, w *wallet) *Record {
	t.Helper()
	rec, err := w.check()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if rec, err = DecodeRecord(raw); err != nil {
		t.Fatal(err)
	}
	return rec
}

// TestVerifyFindsEveryChange to what the owner's signatures stand for.
func TestVerifyFindsEveryChange(t *testing.T) {
	for name, bend := range map[string]func(*Record){
		"id":                  func(r *Record) { r.ID[0] ^= 1 },
		"proof txid":          func(r *Record) { r.ProofTxid[0] ^= 1 },
		"message":             func(r *Record) { r.Message += " " },
		"no message":          func(r *Record) { r.Message = "" },
		"valid at":            func(r *Record) { r.ValidAt++ },
		"expire at":           func(r *Record) { r.ExpireAt++ },
		"tree key":            func(r *Record) { r.TreeKey[0] ^= 1 },
		"delegate key":        func(r *Record) { r.DelegateKey = bip340.PubKey{2, 1} },
		"signer key":          func(r *Record) { r.SignerKey = bip340.PubKey{2, 1} },
		"dust":                func(r *Record) { r.Dust++ },
		"forfeit script":      func(r *Record) { r.ForfeitScript = []byte{0x51} },
		"no proof":            func(r *Record) { r.Proof = nil },
		"an output's amount":  func(r *Record) { r.Outputs[0].Value-- },
		"an output's script":  func(r *Record) { r.Outputs[0].PkScript[5] ^= 1 },
		"an output more":      func(r *Record) { r.Outputs = append(r.Outputs, wire.TxOut{Value: 1, PkScript: []byte{0x51}}) },
		"an output less":      func(r *Record) { r.Outputs = nil },
		"a coin's outpoint":   func(r *Record) { r.Inputs[0].Outpoint.Index++ },
		"a coin's amount":     func(r *Record) { r.Inputs[0].Amount++ },
		"a coin's script":     func(r *Record) { r.Inputs[0].Script[5] ^= 1 },
		"a coin's taptree":    func(r *Record) { r.Inputs[0].TapTree[9] ^= 1 },
		"a coin less":         func(r *Record) { r.Inputs = r.Inputs[:1] },
		"coins swapped":       func(r *Record) { r.Inputs[0], r.Inputs[1] = r.Inputs[1], r.Inputs[0] },
		"forfeits swapped":    func(r *Record) { r.Inputs[0].Forfeit, r.Inputs[1].Forfeit = r.Inputs[1].Forfeit, r.Inputs[0].Forfeit },
		"a forfeit truncated": func(r *Record) { r.Inputs[0].Forfeit = r.Inputs[0].Forfeit[:40] },
	} {
		t.Run(name, func(t *testing.T) {
			rec := stored(t, newWallet(t, 5000, 7000))
			bend(rec)
			if err := rec.Verify(); !errors.Is(err, ErrDamaged) {
				t.Fatalf("verified: %v", err)
			}
		})
	}
}
