package delegate

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// twoLeaf puts the coins of the given places at the wallet's two-leaf script, and
// opts in to that.
func (o *owned) twoLeaf(places ...int) *owned {
	two := o.desc.TwoLeaf()
	o.trees = map[int]script.Tree{}
	for _, i := range places {
		o.trees[i], o.vtxos[i].Script = two, two.PkScript()
	}
	if slices.Contains(places, 0) {
		o.over.Tree, o.over.Out = two, wire.NewTxOut(o.vtxos[0].Amount, two.PkScript())
	}
	o.bendTerms = func(t *WalletTerms) { t.TwoLeaf = true }
	return o
}

// TestSealedRecord: of a forfeit that is a bearer instrument the record has what it
// signs, and of its signature not a byte; those of other coins stay as they are.
func TestSealedRecord(t *testing.T) {
	for name, places := range map[string][]int{"alone": {0, 1}, "the first": {0}, "the second": {1}} {
		t.Run(name, func(t *testing.T) {
			o := newOwned(t, 10_000, 20_000).twoLeaf(places...)
			var sigs [][]byte
			o.afterForfeit = func(p *psbt.Packet) { sigs = append(sigs, p.Inputs[0].TaprootScriptSpendSig[0].Signature) }
			rec, err := o.check()
			if err != nil {
				t.Fatal(err)
			}
			if err := rec.Verify(); err != nil {
				t.Fatalf("refused when it is read again: %v", err)
			}
			raw, err := rec.Encode()
			if err != nil || raw[0] != sealedFormat {
				t.Fatalf("format %d, %v", raw[0], err)
			}
			back, err := DecodeRecord(raw)
			if err != nil || !cmp.Equal(rec, back) {
				t.Fatalf("%v %s", err, cmp.Diff(rec, back))
			}
			for i, in := range rec.Inputs {
				sealed, sig := slices.Contains(places, i), sigs[i]
				if in.Bearer() != sealed || !in.HasForfeit() || (len(in.Forfeit) == 0) != sealed {
					t.Errorf("input %d: sealed %t, a forfeit of %d bytes", i, in.Bearer(), len(in.Forfeit))
				}
				if found := bytes.Contains(raw, sig[32:]); found == sealed {
					t.Errorf("input %d: its signature is in the record: %t", i, found)
				}
				at := slices.IndexFunc(rec.Sighashes, func(s Sighash) bool { return s.Forfeit && int(s.Of) == i })
				if s := rec.Sighashes[at]; s.Type != byte(forfeit.OwnerSighash) || s.Ours == sealed {
					t.Errorf("input %d: %+v", i, s)
				}
			}
			back.Entomb()
			if !back.HasSealed() {
				t.Error("an ended one does not tell that something of it is sealed")
			}
			if raw, err = back.Encode(); err != nil {
				t.Fatal(err)
			}
			if again, err := DecodeRecord(raw); err != nil || !cmp.Equal(back, again) {
				t.Errorf("an ended one: %v %s", err, cmp.Diff(back, again))
			}
		})
	}
}

// TestSealedRules breaks one rule at a time.
func TestSealedRules(t *testing.T) {
	for name, c := range map[string]struct {
		code vigil.Code
		bend func(*owned)
	}{
		"as it is":             {"", func(*owned) {}},
		"recoverable, without": {"", func(o *owned) { o.vtxos[0].Swept, o.skipForfeit[0] = true, true }},
		"not opted in":         {vigil.CodePolicyBearer, func(o *owned) { o.bendTerms = nil }},
		"not opted in, recoverable": {vigil.CodePolicyBearer, func(o *owned) {
			o.bendTerms, o.vtxos[0].Swept, o.skipForfeit[0] = nil, true, true
		}},
		"another wallet's": {vigil.CodeInputNotDelegable, func(o *owned) {
			desc := o.desc
			desc.ExitDelay++
			o.trees[0], o.vtxos[0].Script = desc.TwoLeaf(), desc.TwoLeaf().PkScript()
		}},
		"no forfeit": {vigil.CodeForfeitMissing, func(o *owned) { o.skipForfeit[0] = true }},
		"a forfeit to another script": {vigil.CodeForfeitInvalid, func(o *owned) {
			o.forfeitTerms = func(f *forfeit.Terms) { f.Script = o.vtxos[0].Script }
		}},
		"a forfeit of another amount": {vigil.CodeForfeitInvalid, func(o *owned) { o.forfeitTerms = func(f *forfeit.Terms) { f.Amount-- } }},
		"a forfeit on the exit leaf":  {vigil.CodeForfeitInvalid, func(o *owned) { o.forfeitLeaf = descriptor.LeafExit }},
		"signed by another": {vigil.CodeSignatureInvalid, func(o *owned) {
			o.afterForfeit = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig[0].Signature[3] ^= 1 }
		}},
		"of type DEFAULT": {vigil.CodeSignatureInvalid, func(o *owned) {
			o.afterForfeit = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig[0].SigHash = 0 }
		}},
		"with its connector": {vigil.CodeForfeitInvalid, func(o *owned) {
			o.afterForfeit = func(p *psbt.Packet) {
				p.UnsignedTx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 9}, nil, nil))
				p.Inputs = append(p.Inputs, psbt.PInput{WitnessUtxo: wire.NewTxOut(330, o.vtxos[0].Script)})
			}
		}},
		"outputs to the two-leaf script": {vigil.CodeDestinationNotOwner, func(o *owned) { o.outputs[0].PkScript = o.vtxos[0].Script }},
		"the delete proof on the other script": {vigil.CodeInputMismatch, func(o *owned) {
			o.over.Tree, o.over.Out = o.tree, wire.NewTxOut(o.vtxos[0].Amount, o.tree.PkScript())
		}},
		"the proof on the exit leaf": {vigil.CodeLeafUnsupported, func(o *owned) { o.leaf, o.sequence = descriptor.LeafExit, 20 }},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwned(t, 10_000, 20_000).twoLeaf(0)
			c.bend(o)
			if _, err := o.check(); err != nil && c.code == "" || vigil.CodeOf(err) != c.code && c.code != "" {
				t.Fatalf("%v, want %q", err, c.code)
			}
		})
	}
}

// TestVerifyFindsEveryChangeOfWhatIsSealed, though the signature is not there.
func TestVerifyFindsEveryChangeOfWhatIsSealed(t *testing.T) {
	for name, bend := range map[string]func(*Record){
		"another txid":          func(r *Record) { r.Inputs[0].Sealed[4] ^= 1 },
		"a forfeit beside it":   func(r *Record) { r.Inputs[0].Forfeit = r.Inputs[1].Forfeit },
		"sealed, and it is not": func(r *Record) { r.Inputs[1].Sealed, r.Inputs[1].Forfeit = r.Inputs[0].Sealed, nil },
		"no sighash":            func(r *Record) { r.Sighashes = r.Sighashes[:3] },
		"of another input":      func(r *Record) { r.Sighashes[3].Of = 1 },
		"of another type":       func(r *Record) { r.Sighashes[3].Type = 0 },
		"of another leaf":       func(r *Record) { r.Sighashes[3].LeafHash[5] ^= 1 },
		"of the exit leaf": func(r *Record) {
			tree, _ := script.ParseTapTree(r.Inputs[0].TapTree)
			r.Sighashes[3].LeafHash = script.LeafHash(tree.Leaves()[descriptor.LeafExit])
		},
		"ours":                   func(r *Record) { r.Sighashes[3].Ours = true },
		"another amount":         func(r *Record) { r.Dust++ },
		"another forfeit script": func(r *Record) { r.ForfeitScript[4] ^= 1 },
		"another signer":         func(r *Record) { r.SignerKey = bip340.PubKey(append([]byte{2}, r.Owners[0][:]...)) },
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := newOwned(t, 10_000, 20_000).twoLeaf(0).check()
			if err != nil {
				t.Fatal(err)
			}
			if s := rec.Sighashes[3]; !s.Forfeit || s.Of != 0 {
				t.Fatalf("the sighash of the sealed forfeit is not at 3: %+v", rec.Sighashes)
			}
			rec.ForfeitScript = bytes.Clone(rec.ForfeitScript)
			before, err := rec.Mark()
			if err != nil {
				t.Fatal(err)
			}
			bend(rec)
			if err := rec.Verify(); !errors.Is(err, ErrDamaged) {
				t.Errorf("verified: %v", err)
			}
			if mark, err := rec.Mark(); err == nil && mark == before {
				t.Error("it has the mark of the sound one")
			}
		})
	}
}

// TestDeleteProofOverATwoLeafCoin may be over either coin of a mixed delegate.
func TestDeleteProofOverATwoLeafCoin(t *testing.T) {
	o := newOwned(t, 10_000, 20_000).twoLeaf(1)
	two := o.desc.TwoLeaf()
	o.over = intent.Input{Outpoint: o.vtxos[1].Outpoint, Out: wire.NewTxOut(20_000, two.PkScript()), Sequence: wire.MaxTxInSequenceNum, Tree: two}
	rec, err := o.check()
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Verify(); err != nil {
		t.Error(err)
	}
}
