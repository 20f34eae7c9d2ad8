package delegate

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// vectors are the bodies that the stock SDK made.
func vectors(t testing.TB) []struct {
	Name, Message, Proof, ProofTxid string
	Forfeits                        []string
} {
	t.Helper()
	raw, err := os.ReadFile("testdata/stock.json")
	if err != nil {
		t.Fatal(err)
	}
	var v []struct {
		Name, Message, Proof, ProofTxid string
		Forfeits                        []string
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) != 3 {
		t.Fatalf("%d bodies in the file, want 3", len(v))
	}
	return v
}

// vectorTerms are the terms under which body n was made, and its VTXOs.
func vectorTerms(t testing.TB, n int, request *StockRequest) StockTerms {
	t.Helper()
	terms := testTerms(t)
	for i, op := range request.Outpoints() {
		utxo := request.proof.Inputs[i+1].WitnessUtxo
		terms.VTXOs = append(terms.VTXOs, ark.VTXO{
			Outpoint: op, Amount: utxo.Value, Script: utxo.PkScript, CreatedAt: validAt - 500_000, ExpiresAt: validAt + 100_000,
			CommitmentTxs: []chainhash.Hash{{9}}, Swept: n == 2 && i == 1,
		})
	}
	switch n {
	case 1:
		address, err := ark.ParseAddress("tark1qprx6l72u437tjcf5rgcwza4sq6ysprp0pu6zj2feu3zshcm4clj03u5awjmd8t6j3hc7jgcs72c4rexh5pwjheddq7t6skhe64e6mgrhxcej9")
		if err != nil {
			t.Fatal(err)
		}
		terms.Fee, terms.FeeScript = 100, address.PkScript()
	case 2:
		terms.Params.Fees.OffchainInput = "10.0"
	}
	return terms
}

func TestStockBodiesOfTheSDK(t *testing.T) {
	for n, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			body := StockBody{Message: v.Message, Proof: v.Proof, Forfeits: v.Forfeits}
			request, err := ParseStock(body, StockLimits{Inputs: 128, Outputs: 8})
			if err != nil {
				t.Fatal(err)
			}
			rec, err := CheckStock(request, vectorTerms(t, n, request))
			if n == 1 {
				// Its fee output of 100 is below the operator's dust of 330, which no
				// operator takes; a Vigil with such a fee refuses to start.
				if vigil.CodeOf(err) != vigil.CodeOutputAmount {
					t.Fatalf("a fee below dust: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.ProofTxid.String() != v.ProofTxid || rec.ID != StockID(rec.ProofTxid) || rec.ID != request.ID() {
				t.Errorf("proof %s, id %s", rec.ProofTxid, rec.ID)
			}
			if base64.StdEncoding.EncodeToString(rec.Proof) != v.Proof || rec.Message != v.Message {
				t.Error("the record does not hold what was posted")
			}
			if rec.State != Armed || rec.ValidAt != validAt || rec.NextAttempt < validAt || rec.NextAttempt > validAt+5 {
				t.Errorf("%s, due at %d", rec.State, rec.NextAttempt)
			}
			if err := rec.Verify(); err != nil {
				t.Errorf("refused when it is read again: %v", err)
			}
			b, err := rec.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeRecord(b); err != nil {
				t.Fatal(err)
			}
			if want := len(v.Forfeits) + 1 + len(rec.Inputs); len(rec.Sighashes) != want {
				t.Errorf("%d sighashes, want %d", len(rec.Sighashes), want)
			}
			for i, in := range rec.Inputs {
				if (len(in.Forfeit) == 0) != in.Recoverable || in.Recoverable != (n == 2 && i == 1) {
					t.Errorf("input %d: recoverable %v, forfeit of %d bytes", i, in.Recoverable, len(in.Forfeit))
				}
			}
			t.Logf("%d bytes", len(b))
		})
	}
}

func TestRecordOfAStockBody(t *testing.T) {
	w := newWallet(t, 10_000, 20_000)
	w.outputs = []*wire.TxOut{wire.NewTxOut(100, []byte("fee")), wire.NewTxOut(29_890, w.tree.PkScript())}
	feeKey := testKey(t, 0x55).PubKey().XOnly()
	w.outputs[0].PkScript = ark.PayToTaproot(feeKey)
	w.outputs[0].Value = 400
	w.outputs[1].Value = 29_590
	w.terms.Fee, w.terms.FeeScript, w.terms.FeeSlack = 400, w.outputs[0].PkScript, 10
	rec, err := w.check()
	if err != nil {
		t.Fatal(err)
	}
	if rec.Fee != 10 || rec.Service != 400 || len(rec.Outputs) != 2 || rec.Outputs[0].Value != 400 {
		t.Errorf("fee %d, service %d, outputs %v", rec.Fee, rec.Service, rec.Outputs)
	}
	if !slices.Equal(rec.Owners, []bip340.XOnly{w.owner.PubKey().XOnly()}) || rec.SignerKey != w.signer.PubKey() ||
		rec.DelegateKey != w.delegate.PubKey() || rec.TreeKey != w.delegate.PubKey() || rec.ForfeitKey != w.forfeit.PubKey() {
		t.Error("keys")
	}
	if rec.MinBatchExpiry != 540_000 { // nine tenths of the longest lifetime, in tens
		t.Errorf("least batch expiry %d", rec.MinBatchExpiry)
	}
	if rec.Expiry() != validAt+100_000 {
		t.Errorf("expiry %d", rec.Expiry())
	}
	for _, s := range rec.Sighashes {
		leaf := w.leaf
		wantType, ours := byte(1), false
		if s.Forfeit {
			leaf, wantType, ours = 2, 0x81, true
		}
		bytes, _ := w.tree.LeafProof(leaf)
		if s.LeafHash != script.LeafHash(bytes) || s.Type != wantType || s.Ours != ours {
			t.Errorf("sighash %+v", s)
		}
	}
}

// TestAcceptedVariants are bodies of other wallets that intake takes.
func TestAcceptedVariants(t *testing.T) {
	for name, bend := range map[string]func(*wallet){
		"DEFAULT, as rust signs":            func(w *wallet) { w.sighash = txscript.SigHashDefault },
		"proof over the delegate leaf":      func(w *wallet) { w.leaf = 2 },
		"the same with the exit delay":      func(w *wallet) { w.leaf, w.sequence = 2, w.terms.Params.ExitDelay.Sequence() },
		"exit leaf with its delay":          func(w *wallet) { w.leaf, w.sequence = 1, 20 },
		"recoverable without forfeit":       func(w *wallet) { w.vtxos[0].Swept, w.skipForfeit[0] = true, true },
		"expired without forfeit":           func(w *wallet) { w.vtxos[0].ExpiresAt, w.skipForfeit[0] = now-1, true },
		"recoverable with a forfeit":        func(w *wallet) { w.vtxos[0].Swept = true },
		"a retired service key":             func(w *wallet) { w.terms.Keys = append([]bip340.PubKey{testKey(w.t, 0x66).PubKey()}, w.terms.Keys...) },
		"a deprecated signer":               deprecatedSigner(0),
		"a deprecated signer before cutoff": deprecatedSigner(now + 1),
		"in a hurry":                        func(w *wallet) { w.message.ValidAt, w.vtxos[0].ExpiresAt = now+50, now+40 },
		"valid already":                     func(w *wallet) { w.message.ValidAt = now - 1000 },
		"expire_at with room":               func(w *wallet) { w.message.ExpireAt = validAt + 60 },
		"another destination, configured": func(w *wallet) {
			w.outputs[0].PkScript = ark.PayToTaproot(testKey(w.t, 0x55).PubKey().XOnly())
			w.terms.AnyDestination = true
		},
		"assets returned": func(w *wallet) { w.withAsset(0) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWallet(t, 10_000, 20_000)
			bend(w)
			rec, err := w.check()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rec.Encode(); err != nil {
				t.Fatal(err)
			}
			if err := rec.Verify(); err != nil {
				t.Fatalf("stored, and refused when it is read again: %v", err)
			}
		})
	}
}

// TestSignersDoNotMix: a record names one operator key, and a forfeit of a coin
// under another could not be completed when it is wanted, which would cost all
// others of the batch theirs.
func TestSignersDoNotMix(t *testing.T) {
	w := newWallet(t, 10_000, 20_000)
	w.terms.Params.DeprecatedSigners = []ark.DeprecatedSigner{{Key: testKey(t, 0x77).PubKey()}}
	other, err := script.Delegate(w.owner.PubKey().XOnly(), w.delegate.PubKey().XOnly(), testKey(t, 0x77).PubKey().XOnly(), 20)
	if err != nil {
		t.Fatal(err)
	}
	w.trees = map[int]script.Tree{1: other}
	w.vtxos[1].Script = other.PkScript()
	if _, err := w.check(); vigil.CodeOf(err) != vigil.CodeScriptInvalid {
		t.Fatalf("taken: %v", err)
	}
}

func deprecatedSigner(cutoff int64) func(*wallet) {
	return func(w *wallet) {
		w.terms.Params.DeprecatedSigners = []ark.DeprecatedSigner{{Key: w.signer.PubKey(), Cutoff: cutoff}}
		w.terms.Params.SignerKey = testKey(w.t, 0x77).PubKey()
	}
}

// withAsset puts an asset on the first VTXO and burns some of it.
func (w *wallet) withAsset(burned uint64) {
	w.t.Helper()
	id := strings.Repeat("ab", 32) + "0100"
	w.vtxos[0].Assets = []ark.AssetAmount{{AssetID: id, Amount: 500}}
	parsed, err := asset.ParseID(id)
	if err != nil {
		w.t.Fatal(err)
	}
	packet := asset.Packet{{
		ID: &parsed, Inputs: []asset.Input{{Vin: 1, Amount: 500}}, Outputs: []asset.Output{{Vout: 0, Amount: 500 - burned}},
	}}
	pkScript, err := asset.Extension{{Type: asset.TypeAsset, Data: packet.Encode()}}.Script()
	if err != nil {
		w.t.Fatal(err)
	}
	w.outputs = append(w.outputs, wire.NewTxOut(0, pkScript))
}

func TestAssetsAreStoredAsTheLeafHasThem(t *testing.T) {
	w := newWallet(t, 10_000)
	w.withAsset(0)
	rec, err := w.check()
	if err != nil {
		t.Fatal(err)
	}
	want, err := asset.LeafScript(w.outputs[1].PkScript, rec.ProofTxid)
	if err != nil {
		t.Fatal(err)
	}
	last := rec.Outputs[len(rec.Outputs)-1]
	if len(rec.Outputs) != 2 || hex.EncodeToString(last.PkScript) != hex.EncodeToString(want) || len(rec.Inputs[0].Assets) != 1 {
		t.Errorf("outputs %v", rec.Outputs)
	}
}

// TestEveryRule breaks one rule at a time.
func TestEveryRule(t *testing.T) {
	cases := slices.Concat(messageRules(), timeRules(), shapeRules(), signatureRules(), inputRules(), forfeitRules(), outputRules())
	reached := map[vigil.Code]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWallet(t, 10_000, 20_000)
			c.bend(w)
			rec, err := w.check()
			if rec != nil || vigil.CodeOf(err) != c.code {
				t.Fatalf("%v, want %s", err, c.code)
			}
			reached[c.code] = true
		})
	}
	for _, code := range intakeCodes {
		if !reached[code] {
			t.Errorf("no case ends in %s", code)
		}
	}
}

// intakeCodes are the codes that CheckStock and ParseStock can give. The
// ledger's come on top: REPLACE_INCOMPLETE, REPLACE_REJECTED, TOO_MANY_DELEGATES.
var intakeCodes = []vigil.Code{
	vigil.CodeAssetsNotConserved, vigil.CodeCosignersMismatch, vigil.CodeDelegateKeyMissing, vigil.CodeDestinationNotOwner,
	vigil.CodeDuplicateInput, vigil.CodeExitLeafSequence, vigil.CodeExpireAtInvalid, vigil.CodeFeeTooHigh, vigil.CodeFeeTooLow,
	vigil.CodeForfeitDuplicate, vigil.CodeForfeitInvalid, vigil.CodeForfeitMissing, vigil.CodeForfeitUnexpected,
	vigil.CodeInputMismatch, vigil.CodeInputNotDelegable, vigil.CodeInputSpent, vigil.CodeInputUnknown, vigil.CodeInputUnrolled,
	vigil.CodeInvalidMessage, vigil.CodeInvalidProof, vigil.CodeLeafUnsupported, vigil.CodeOnchainOutput, vigil.CodeOutputAmount,
	vigil.CodeProofTooHeavy, vigil.CodeScriptInvalid, vigil.CodeServiceFee, vigil.CodeSighashUnsupported, vigil.CodeSignatureInvalid,
	vigil.CodeTooManyInputs, vigil.CodeTooManyOutputs, vigil.CodeValidAtInvalid,
}

// payService adds an output to the service's address.
func (w *wallet) payService(sats int64) {
	w.terms.Fee, w.terms.FeeScript = 400, ark.PayToTaproot(testKey(w.t, 0x55).PubKey().XOnly())
	w.outputs[0].Value -= sats
	w.outputs = append(w.outputs, wire.NewTxOut(sats, w.terms.FeeScript))
}

// hide leaves VTXO i out of what the operator reports.
func (w *wallet) hide(i int) {
	w.spoilBody = func(*StockBody) { w.vtxos = slices.Delete(slices.Clone(w.vtxos), i, i+1) }
}

// useSeconds gives the script a delay that is allowed outside regtest.
func (w *wallet) useSeconds() {
	tree, err := script.Delegate(w.owner.PubKey().XOnly(), w.delegate.PubKey().XOnly(), w.signer.PubKey().XOnly(), 86_016)
	if err != nil {
		w.t.Fatal(err)
	}
	w.setTree(tree)
}

func (w *wallet) setTree(tree script.Tree) {
	for i := range w.vtxos {
		w.vtxos[i].Script = tree.PkScript()
	}
	w.tree = tree
	for _, out := range w.outputs {
		out.PkScript = tree.PkScript()
	}
}

// withLeaves keeps only some leaves of the script. Forfeits need the delegate
// leaf, so that they are left out when it goes.
func (w *wallet) withLeaves(keep ...int) {
	var leaves [][]byte
	for _, i := range keep {
		leaves = append(leaves, w.tree.Leaves()[i])
	}
	w.addLeaves(leaves)
	if len(keep) < 3 {
		w.skipForfeit[0], w.skipForfeit[1] = true, true
	}
}

func (w *wallet) addLeaves(leaves [][]byte) {
	w.t.Helper()
	tree, err := script.NewTree(leaves)
	if err != nil {
		w.t.Fatal(err)
	}
	w.setTree(tree)
}

// withOwnerlessLeaf proves over a leaf that only the operator and we sign.
func (w *wallet) withOwnerlessLeaf() {
	leaf := script.Multisig{PubKeys: []bip340.XOnly{w.delegate.PubKey().XOnly(), w.signer.PubKey().XOnly()}}.Script()
	w.addLeaves(append(slices.Clone(w.tree.Leaves()), leaf))
	w.leaf = 3
}

// withConditionLeaf proves over a leaf that wants a witness too.
func (w *wallet) withConditionLeaf() {
	leaf := script.ConditionMultisig{
		Condition: []byte{txscript.OP_TRUE},
		Multisig:  script.Multisig{PubKeys: []bip340.XOnly{w.owner.PubKey().XOnly(), w.signer.PubKey().XOnly()}},
	}.Script()
	w.addLeaves(append(slices.Clone(w.tree.Leaves()), leaf))
	w.leaf = 3
	w.spoilProof = func(p *psbt.Packet) {
		for i := 1; i < len(p.Inputs); i++ {
			script.SetCondition(&p.Inputs[i], wire.TxWitness{})
		}
	}
}
