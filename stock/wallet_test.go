package stock_test

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

const allAnyone = txscript.SigHashAll | txscript.SigHashAnyOneCanPay

// wallet signs as a stock wallet does, for coins that it puts at the operator.
type wallet struct {
	t                       testing.TB
	f                       *fixture
	owner, signer, delegate *bip340.Key
	tree                    script.Tree
	leaf                    int // that proofs are signed on
	sequence                uint32
	sighash                 txscript.SigHashType
	signers                 []*bip340.Key // of proofs
	validAt                 int64
	params                  ark.Params // what forfeits are signed for
}

func newWallet(f *fixture, owner byte) *wallet { return walletOf(f, key(f.t, owner)) }

func walletOf(f *fixture, owner *bip340.Key) *wallet {
	f.t.Helper()
	w := &wallet{
		t: f.t, f: f, owner: owner, signer: key(f.t, 0x22), delegate: key(f.t, 0x33), validAt: validAt,
		sequence: wire.MaxTxInSequenceNum, sighash: txscript.SigHashAll, params: params(f.t),
	}
	w.signers = []*bip340.Key{w.owner}
	var err error
	w.tree, err = script.Delegate(w.owner.PubKey().XOnly(), w.delegate.PubKey().XOnly(), w.signer.PubKey().XOnly(), exit)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

// coin puts VTXO n of the wallet at the operator.
func (w *wallet) coin(n int) ark.VTXO {
	v := ark.VTXO{
		Outpoint: outpoint(n), Amount: 10_000, Script: w.tree.PkScript(), CreatedAt: validAt - 500_000,
		ExpiresAt: validAt + 100_000, CommitmentTxs: []chainhash.Hash{{9}},
	}
	w.f.op.vtxos[v.Outpoint] = v
	return v
}

func (w *wallet) coins(ns ...int) []ark.VTXO {
	var vs []ark.VTXO
	for _, n := range ns {
		vs = append(vs, w.coin(n))
	}
	return vs
}

// body delegates the coins given, all to the wallet's own script.
func (w *wallet) body(ns ...int) vigil.Submission {
	w.t.Helper()
	vtxos := w.coins(ns...)
	text, err := intent.NewRegister(w.validAt, 0, w.delegate.PubKey()).Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	var sum int64
	for _, v := range vtxos {
		sum += v.Amount
	}
	s := vigil.Submission{Intent: w.prove(text, vtxos, wire.NewTxOut(sum, w.tree.PkScript()))}
	for _, v := range vtxos {
		s.Forfeits = append(s.Forfeits, w.forfeit(v))
	}
	return s
}

// prove signs a proof over a text and coins.
func (w *wallet) prove(text string, vtxos []ark.VTXO, outs ...*wire.TxOut) vigil.Intent {
	w.t.Helper()
	var inputs []intent.Input
	for _, v := range vtxos {
		inputs = append(inputs, intent.Input{
			Outpoint: v.Outpoint, Out: wire.NewTxOut(v.Amount, v.Script), Sequence: w.sequence, Tree: w.tree, Leaf: w.leaf,
		})
	}
	p, err := intent.BuildProof(text, inputs, outs)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range w.signers {
		w.signAll(p, k)
	}
	return vigil.Intent{Message: text, Proof: w.encode(p)}
}

// signAll signs every input whose leaf has the key.
func (w *wallet) signAll(p *psbt.Packet, k *bip340.Key) {
	w.t.Helper()
	signing, err := intent.ToSign(p, k.PubKey().XOnly(), w.sighash)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range signing {
		w.sign(&p.Inputs[s.Index], s.Leaf, s.Sighash, w.sighash, k)
	}
}

func (w *wallet) forfeit(v ark.VTXO) string {
	w.t.Helper()
	const leaf = 2
	p, msg, err := forfeit.Build(forfeit.Terms{
		Outpoint: v.Outpoint, Amount: v.Amount, Tree: w.tree, Dust: w.params.Dust, Script: w.params.ForfeitScript,
		Delegate: w.delegate.PubKey().XOnly(), Signers: []bip340.XOnly{w.signer.PubKey().XOnly()},
	}, leaf)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, _ := w.tree.LeafProof(leaf)
	w.sign(&p.Inputs[0], raw, msg, allAnyone, w.owner)
	return w.encode(p)
}

func (w *wallet) sign(in *psbt.PInput, leaf []byte, msg [32]byte, typ txscript.SigHashType, k *bip340.Key) {
	w.t.Helper()
	sig, err := k.Sign(msg[:])
	if err != nil {
		w.t.Fatal(err)
	}
	script.AddSignature(in, leaf, script.Signature{Key: k.PubKey().XOnly(), Type: typ, Sig: sig})
}

func (w *wallet) encode(p *psbt.Packet) string {
	w.t.Helper()
	s, err := p.B64Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// deletion is a delete intent over coins that expires in two minutes, as the
// stock wallet's.
func (w *wallet) deletion(ns ...int) vigil.Intent {
	w.t.Helper()
	return w.deletionUntil(w.f.at+120, ns...)
}

func (w *wallet) deletionUntil(expireAt int64, ns ...int) vigil.Intent {
	w.t.Helper()
	text, err := intent.Message{Kind: intent.Delete, ExpireAt: expireAt}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.prove(text, w.coins(ns...))
}
