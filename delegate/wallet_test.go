package delegate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// owned builds the delegates of a wallet with a share of Vigil's: the owner's key
// is the group's.
type owned struct {
	*wallet
	desc         descriptor.Descriptor
	treeKey      bip340.PubKey
	deletion     intent.Message
	over         intent.Input // what the delete proof is over
	takes        []*wire.TxOut
	deleteType   txscript.SigHashType
	afterDelete  func(*psbt.Packet)
	spoilDeleted func(*WalletBody)
	bendTerms    func(*WalletTerms)
}

func newOwned(t *testing.T, amounts ...int64) *owned {
	t.Helper()
	o := &owned{wallet: newWallet(t, amounts...), treeKey: testKey(t, 0x67).PubKey(), deletion: intent.Message{Kind: intent.Delete}}
	o.describe()
	o.sighash = txscript.SigHashDefault
	o.message = intent.NewRegister(validAt, 0, o.treeKey)
	return o
}

// describe puts the coins on the wallet's script by the operator's parameters.
func (o *owned) describe() {
	o.t.Helper()
	p := o.terms.Params
	p.BoardingDelay = p.ExitDelay
	var err error
	o.desc, err = descriptor.New(p, o.owner.PubKey(), o.delegate.PubKey().XOnly(), testKey(o.t, 0x66).PubKey().XOnly(), 0)
	if err != nil {
		o.t.Fatal(err)
	}
	o.setTree(o.desc.Tree())
	o.over = intent.Input{
		Outpoint: o.vtxos[0].Outpoint, Out: wire.NewTxOut(o.vtxos[0].Amount, o.tree.PkScript()), Sequence: wire.MaxTxInSequenceNum, Tree: o.tree,
	}
}

// deleteProof is the proof that takes the registration back.
func (o *owned) deleteProof() (text, proof string) {
	o.t.Helper()
	text, err := o.deletion.Encode()
	if err != nil {
		o.t.Fatal(err)
	}
	p, err := intent.BuildProof(text, []intent.Input{o.over}, o.takes)
	if err != nil {
		o.t.Fatal(err)
	}
	signing, err := intent.ToSign(p, o.owner.PubKey().XOnly(), o.deleteType)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, s := range signing {
		o.sign(&p.Inputs[s.Index], s.Leaf, s.Sighash, o.deleteType, o.owner)
	}
	bend(o.afterDelete, p)
	return text, o.encode(p)
}

func (o *owned) check() (*Record, error) {
	o.t.Helper()
	b := o.body()
	body := WalletBody{ID: vigil.DelegateID{7}, Message: b.Message, Proof: b.Proof, Forfeits: b.Forfeits}
	body.DeleteMessage, body.DeleteProof = o.deleteProof()
	if o.spoilDeleted != nil {
		o.spoilDeleted(&body)
	}
	req, err := ParseWallet(body, o.limits)
	if err != nil {
		return nil, err
	}
	terms := WalletTerms{
		Params: o.terms.Params, Descriptor: o.desc, TreeKey: o.treeKey, VTXOs: o.vtxos, FeeSlack: o.terms.FeeSlack, Now: o.terms.Now,
	}
	if o.bendTerms != nil {
		o.bendTerms(&terms)
	}
	return CheckWallet(req, terms)
}

func TestRecordOfAWallet(t *testing.T) {
	o := newOwned(t, 10_000, 20_000)
	o.vtxos[1].Swept, o.skipForfeit[1] = true, true
	o.outputs[0].Value -= 10
	o.terms.FeeSlack = 10
	rec, err := o.check()
	if err != nil {
		t.Fatal(err)
	}
	if rec.Kind != Wallet || rec.Wallet != vigil.WalletID(o.owner.PubKey().XOnly()) || rec.ID != (vigil.DelegateID{7}) || rec.State != Armed {
		t.Errorf("kind %d of %s, id %s, %s", rec.Kind, rec.Wallet, rec.ID, rec.State)
	}
	if rec.TreeKey != o.treeKey || rec.DelegateKey.XOnly() != o.delegate.PubKey().XOnly() || rec.SignerKey != o.signer.PubKey() ||
		!slices.Equal(rec.Owners, []bip340.XOnly{o.owner.PubKey().XOnly()}) {
		t.Error("keys")
	}
	if rec.Fee != 10 || rec.Service != 0 || rec.ExpireAt != 0 || len(rec.Sighashes) != 4 || len(rec.Inputs[0].Forfeit) == 0 || len(rec.Inputs[1].Forfeit) > 0 {
		t.Errorf("fee %d, %d signatures", rec.Fee, len(rec.Sighashes))
	}
	raw, err := rec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Verify(); err != nil {
		t.Errorf("stored, and refused when it is read again: %v", err)
	}
	back.Entomb()
	if back.DeleteMessage != "" || back.DeleteProof != nil {
		t.Error("an ended one keeps its delete proof")
	}
}

func TestAcceptedOfAWallet(t *testing.T) {
	for name, bend := range map[string]func(*owned){
		"as it is":                    func(*owned) {},
		"expired without forfeit":     func(o *owned) { o.vtxos[0].ExpiresAt, o.skipForfeit[0] = now-1, true },
		"two outputs":                 func(o *owned) { o.split() },
		"assets returned":             func(o *owned) { o.withAsset(0) },
		"deletion over another input": func(o *owned) { o.over.Outpoint, o.over.Out.Value = o.vtxos[1].Outpoint, 20_000 },
		"a fee":                       func(o *owned) { o.terms.Params.Fees.OffchainInput = "2.0"; o.outputs[0].Value -= 5 },
		"a deprecated signer":         func(o *owned) { deprecatedSigner(validAt + 1)(o.wallet) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwned(t, 10_000, 20_000)
			bend(o)
			rec, err := o.check()
			if err != nil {
				t.Fatal(err)
			}
			if err := rec.Verify(); err != nil {
				t.Fatalf("stored, and refused when it is read again: %v", err)
			}
		})
	}
}

// weight is what the finished proof weighs.
func (o *owned) weight() int64 {
	o.t.Helper()
	b := o.body()
	req, err := parse(script.NewReader(), b.Message, b.Proof, b.Forfeits, o.limits)
	if err != nil {
		o.t.Fatal(err)
	}
	proof, err := intent.Verify(req.proof, req.text, intent.Options{Skip: []bip340.XOnly{o.desc.Signer}})
	if err != nil {
		o.t.Fatal(err)
	}
	return proof.Weight
}

// TestHalfTheWeight: a group may weigh half of what the operator takes, and a coin
// alone, which cannot be parted, all of it.
func TestHalfTheWeight(t *testing.T) {
	o := newOwned(t, 10_000, 20_000)
	o.terms.Params.MaxTxWeight = 2 * o.weight()
	if _, err := o.check(); err != nil {
		t.Error(err)
	}
	o = newOwned(t, 10_000)
	whole := o.weight()
	o.terms.Params.MaxTxWeight = whole
	if _, err := o.check(); err != nil {
		t.Error(err)
	}
	o.terms.Params.MaxTxWeight = whole - 1
	if _, err := o.check(); vigil.CodeOf(err) != vigil.CodeProofTooHeavy {
		t.Errorf("over the operator's limit: %v", err)
	}
}

func (o *owned) split() {
	o.outputs = []*wire.TxOut{wire.NewTxOut(15_000, o.tree.PkScript()), wire.NewTxOut(15_000, o.tree.PkScript())}
}

// others are the stock rules that end in another code here, or in none because a
// wallet's delegate has no such part.
var others = map[string]vigil.Code{
	"message of another kind":                vigil.CodeInvalidMessage,
	"a foreign cosigner":                     vigil.CodeCosignersMismatch,
	"expire_at without room":                 vigil.CodeExpireAtInvalid,
	"exit leaf without its delay":            vigil.CodeLeafUnsupported,
	"a leaf with a condition":                "",
	"nobody but operator and delegate signs": "",
	"valid_at a session before expiry":       "",
	"no exit leaf":                           vigil.CodeInputNotDelegable,
	"no delegate leaf":                       vigil.CodePolicyBearer, // the two-leaf script
	"nothing returned":                       vigil.CodeDestinationNotOwner,
	"no service fee":                         "",
	"a lower service fee":                    vigil.CodeDestinationNotOwner,
	"the service fee twice":                  vigil.CodeDestinationNotOwner,
}

// TestEveryRuleOfAWallet breaks one rule at a time: those of stock wallets, and
// those that wallets alone have.
func TestEveryRuleOfAWallet(t *testing.T) {
	reached := map[vigil.Code]bool{}
	run := func(name string, code vigil.Code, bend func(*owned)) {
		t.Run(name, func(t *testing.T) {
			o := newOwned(t, 10_000, 20_000)
			bend(o)
			rec, err := o.check()
			if rec != nil || vigil.CodeOf(err) != code {
				t.Fatalf("%v, want %s", err, code)
			}
			reached[code] = true
		})
	}
	seen := 0
	for _, r := range slices.Concat(messageRules(), timeRules(), shapeRules(), signatureRules(), inputRules(), forfeitRules(), outputRules()) {
		code, other := others[r.name]
		switch {
		case !other:
			code = r.code
		case code == "":
			seen++
			continue
		default:
			seen++
		}
		run(r.name, code, func(o *owned) { r.bend(o.wallet) })
	}
	if seen != len(others) {
		t.Errorf("%d of %d exceptions name a rule", seen, len(others))
	}
	for _, r := range slices.Concat(walletRules(), deletionRules()) {
		run(r.name, r.code, r.bend)
	}
	stockOnly := []vigil.Code{vigil.CodeDelegateKeyMissing, vigil.CodeExitLeafSequence, vigil.CodeServiceFee}
	for _, code := range intakeCodes {
		if !reached[code] && !slices.Contains(stockOnly, code) {
			t.Errorf("no case ends in %s", code)
		}
	}
}

type walletRule struct {
	name string
	code vigil.Code
	bend func(*owned)
}

func walletRules() []walletRule {
	return []walletRule{
		{"valid_at a session before the expiry", vigil.CodeValidAtInvalid, func(o *owned) {
			o.terms.Params.Network, o.terms.Params.ExitDelay = ark.Mutinynet, 86_016
			o.describe()
			o.message.ValidAt = o.vtxos[0].ExpiresAt - 30
		}},
		{"expire_at with room", vigil.CodeExpireAtInvalid, func(o *owned) { o.message.ExpireAt = validAt + 1_000_000 }},
		{"the delegate key as cosigner", vigil.CodeCosignersMismatch, func(o *owned) { o.message = intent.NewRegister(validAt, 0, o.delegate.PubKey()) }},
		{"the tree key of another id", vigil.CodeCosignersMismatch, func(o *owned) { o.bendTerms = func(w *WalletTerms) { w.TreeKey = testKey(o.t, 0x68).PubKey() } }},
		{"the tree key with the other parity", vigil.CodeCosignersMismatch, func(o *owned) { o.bendTerms = func(w *WalletTerms) { w.TreeKey[0] ^= 1 } }},
		{"another wallet's coin", vigil.CodeInputNotDelegable, func(o *owned) {
			o.bendTerms = func(w *WalletTerms) { w.Descriptor.Recovery = testKey(o.t, 0x69).PubKey().XOnly() }
		}},
		{"signed only by an operator that calls the group's key its own", vigil.CodeSignatureInvalid, func(o *owned) {
			o.terms.Params.DeprecatedSigners = []ark.DeprecatedSigner{{Key: o.owner.PubKey()}}
			o.afterProof = func(p *psbt.Packet) {
				p.Inputs[1].TaprootScriptSpendSig = nil
				o.countersign(p, o.signer)
			}
		}},
		{"ALL on an input", vigil.CodeSighashUnsupported, func(o *owned) { o.sighash = txscript.SigHashAll }},
		{"the proof on the delegate leaf", vigil.CodeLeafUnsupported, func(o *owned) {
			o.leaf, o.sequence = descriptor.LeafDelegate, wire.MaxTxInSequenceNum
			o.afterProof = func(p *psbt.Packet) { o.countersign(p, o.delegate) }
		}},
		{"the proof on the exit leaf", vigil.CodeLeafUnsupported, func(o *owned) { o.leaf, o.sequence = descriptor.LeafExit, 20 }},
		{"a sequence of a lock time", vigil.CodeInvalidProof, func(o *owned) { o.sequence = wire.MaxTxInSequenceNum - 1 }},
		{"signer's cutoff before it may run", vigil.CodeScriptInvalid, func(o *owned) { deprecatedSigner(validAt - 1)(o.wallet) }},
		{"leaves in another order", vigil.CodeScriptInvalid, func(o *owned) {
			leaves := slices.Clone(o.tree.Leaves())
			leaves[0], leaves[1] = leaves[1], leaves[0]
			tree, err := script.NewTree(leaves)
			if err != nil {
				o.t.Fatal(err)
			}
			o.afterProof = func(p *psbt.Packet) {
				p.Inputs[1].Unknowns = nil
				script.SetTapTree(&p.Inputs[1], tree)
			}
		}},
		{"an output to the exit key", vigil.CodeDestinationNotOwner, func(o *owned) { o.outputs[0].PkScript = ark.PayToTaproot(o.owner.PubKey().XOnly()) }},
		{"an output to the two-leaf script", vigil.CodeDestinationNotOwner, func(o *owned) { o.split(); o.outputs[1].PkScript = o.desc.TwoLeaf().PkScript() }},
		{"more than a quarter over the fee", vigil.CodeFeeTooHigh, func(o *owned) {
			o.terms.Params.Fees.OffchainInput = "4.0"
			o.outputs[0].Value -= 11
		}},
	}
}

// countersign adds another key's signatures to the proof.
func (o *owned) countersign(p *psbt.Packet, key *bip340.Key) {
	signing, err := intent.ToSign(p, key.PubKey().XOnly(), o.sighash)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, s := range signing {
		o.sign(&p.Inputs[s.Index], s.Leaf, s.Sighash, o.sighash, key)
	}
}

func deletionRules() []walletRule {
	return []walletRule{
		{"a proof over half of the operator's limit", vigil.CodeProofTooHeavy, func(o *owned) { o.terms.Params.MaxTxWeight = 2*o.weight() - 1 }},
		{"no delete proof", vigil.CodeInvalidProof, func(o *owned) { o.spoilDeleted = func(b *WalletBody) { b.DeleteProof = "" } }},
		{"no delete message", vigil.CodeInvalidMessage, func(o *owned) { o.spoilDeleted = func(b *WalletBody) { b.DeleteMessage = "" } }},
		{"delete message too long", vigil.CodeInvalidMessage, func(o *owned) {
			o.spoilDeleted = func(b *WalletBody) { b.DeleteMessage = strings.Repeat(" ", maxMessage+1) }
		}},
		{"delete message not canonical", vigil.CodeInvalidMessage, func(o *owned) { o.spoilDeleted = func(b *WalletBody) { b.DeleteMessage += " " } }},
		{"delete message of another kind", vigil.CodeInvalidMessage, func(o *owned) { o.deletion.Kind = intent.GetIntent }},
		{"delete message that expires", vigil.CodeExpireAtInvalid, func(o *owned) { o.deletion.ExpireAt = validAt + 1_000_000 }},
		{"delete proof over another message", vigil.CodeInvalidProof, func(o *owned) {
			o.spoilDeleted = func(b *WalletBody) {
				other := *o
				other.deletion.Kind = intent.GetIntent
				_, b.DeleteProof = other.deleteProof()
			}
		}},
		{"delete proof over another coin", vigil.CodeInvalidProof, func(o *owned) { o.over.Outpoint.Index += 5 }},
		{"delete proof over another amount", vigil.CodeInputMismatch, func(o *owned) { o.over.Out.Value++ }},
		{"delete proof with an output", vigil.CodeInvalidProof, func(o *owned) { o.takes = []*wire.TxOut{wire.NewTxOut(1000, o.tree.PkScript())} }},
		{"delete proof over two inputs", vigil.CodeInvalidProof, func(o *owned) {
			o.afterDelete = func(p *psbt.Packet) {
				p.UnsignedTx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: chainhash.Hash{5}}, nil, nil))
				p.Inputs = append(p.Inputs, p.Inputs[1])
			}
		}},
		{"delete proof without a signature", vigil.CodeSignatureInvalid, func(o *owned) {
			o.afterDelete = func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig = nil }
		}},
		{"delete proof with an unsigned message input", vigil.CodeSignatureInvalid, func(o *owned) {
			o.afterDelete = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig = nil }
		}},
		{"delete proof with a wrong signature", vigil.CodeSignatureInvalid, func(o *owned) {
			o.afterDelete = func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig[0].Signature[4] ^= 1 }
		}},
		{"delete proof of type ALL", vigil.CodeSighashUnsupported, func(o *owned) { o.deleteType = txscript.SigHashAll }},
		{"delete proof on the exit leaf", vigil.CodeLeafUnsupported, func(o *owned) { o.over.Leaf, o.over.Sequence = descriptor.LeafExit, 20 }},
	}
}

// TestVerifyFindsEveryChangeOfAWallet to what the group's signatures stand for.
func TestVerifyFindsEveryChangeOfAWallet(t *testing.T) {
	other := newOwned(t, 10_000)
	other.vtxos[0].Outpoint.Index += 9
	other.over.Outpoint = other.vtxos[0].Outpoint
	foreign, err := other.check()
	if err != nil {
		t.Fatal(err)
	}
	expiring := newOwned(t, 10_000, 20_000)
	expiring.deletion.ExpireAt = validAt
	expires, expiresProof := expiring.deleteProof()
	thief := newOwned(t, 10_000, 20_000)
	plain := *thief.wallet
	plain.owner = testKey(t, 0x66)
	thief.wallet, thief.over.Leaf = &plain, descriptor.LeafRecovery
	_, stolen := thief.deleteProof()
	for name, bend := range map[string]func(*Record){
		"a deletion that expires":        func(r *Record) { r.DeleteMessage, r.DeleteProof = expires, rawPSBT(expiresProof) },
		"a deletion by the recovery key": func(r *Record) { r.DeleteProof = rawPSBT(stolen) },
		"wallet":                         func(r *Record) { r.Wallet[3] ^= 1 },
		"owner":                          func(r *Record) { r.Owners = nil },
		"tree key":                       func(r *Record) { r.TreeKey[0] ^= 1 },
		"delegate key":                   func(r *Record) { r.DelegateKey[5] ^= 1 },
		"no delete message":              func(r *Record) { r.DeleteMessage = "" },
		"delete message":                 func(r *Record) { r.DeleteMessage = `{"type":"delete","expire_at":7}` },
		"no delete proof":                func(r *Record) { r.DeleteProof = nil },
		"another's delete proof":         func(r *Record) { r.DeleteProof = foreign.DeleteProof },
		"another's proof":                func(r *Record) { r.Proof, r.ProofTxid = foreign.Proof, foreign.ProofTxid },
		"another's forfeit":              func(r *Record) { r.Inputs[0].Forfeit = foreign.Inputs[0].Forfeit },
		"an output's amount":             func(r *Record) { r.Outputs[0].Value-- },
		"the proof as deletion":          func(r *Record) { r.DeleteProof = r.Proof },
		"the deletion as a proof":        func(r *Record) { r.Proof = r.DeleteProof },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwned(t, 10_000, 20_000)
			rec, err := o.check()
			if err != nil {
				t.Fatal(err)
			}
			if err := rec.Verify(); err != nil {
				t.Fatal(err)
			}
			before, err := rec.Mark()
			if err != nil {
				t.Fatal(err)
			}
			bend(rec)
			if err := rec.Verify(); !errors.Is(err, ErrDamaged) {
				t.Errorf("verified: %v", err)
			}
			if mark, err := rec.Mark(); err != nil || mark == before {
				t.Errorf("it has the mark of the sound one: %v", err)
			}
		})
	}
}

func FuzzParseWallet(f *testing.F) {
	f.Add("{}", "cHNidP8=", "", `{"type":"delete","expire_at":0}`, "cHNidP8=")
	f.Fuzz(func(t *testing.T, message, proof, forfeit, deleteMessage, deleteProof string) {
		body := WalletBody{Message: message, Proof: proof, Forfeits: []string{forfeit}, DeleteMessage: deleteMessage, DeleteProof: deleteProof}
		req, err := ParseWallet(body, StockLimits{Inputs: 8, Outputs: 8})
		if err != nil {
			if vigil.CodeOf(err) == vigil.CodeInternal {
				t.Fatalf("a bad body is blamed on us: %v", err)
			}
			return
		}
		terms := testTerms(t)
		wallet := WalletTerms{Params: terms.Params, Now: now, TreeKey: testKey(t, 0x67).PubKey()}
		if rec, err := CheckWallet(req, wallet); err == nil {
			t.Fatalf("taken without a coin: %v", rec)
		}
	})
}
