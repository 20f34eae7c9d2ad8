package delegate

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// now is the time of every intake test, validAt what the bodies name.
const (
	now     int64 = 1_890_000_000
	validAt int64 = 1_900_000_000
)

// testKey is the key that is b repeated 32 times, as in the vectors.
func testKey(t testing.TB, b byte) *bip340.Key {
	t.Helper()
	key, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wallet builds bodies as a stock wallet does, and terms that they meet. A test
// bends one part of it.
type wallet struct {
	t                                *testing.T
	owner, signer, delegate, forfeit *bip340.Key
	tree                             script.Tree
	trees                            map[int]script.Tree // of VTXOs that have another
	leaf                             int                 // that the proof is signed on
	sequence                         uint32
	sighash                          txscript.SigHashType
	message                          intent.Message
	outputs                          []*wire.TxOut
	vtxos                            []ark.VTXO
	skipForfeit                      map[int]bool
	forfeitLeaf                      int
	forfeitTerms                     func(*forfeit.Terms)
	spoilProof, spoilForfeit         func(*psbt.Packet) // before signing
	afterProof, afterForfeit         func(*psbt.Packet) // after signing
	extraForfeits                    []*psbt.Packet
	spoilBody                        func(*StockBody)
	limits                           StockLimits
	terms                            StockTerms
}

func newWallet(t *testing.T, amounts ...int64) *wallet {
	t.Helper()
	w := &wallet{
		t: t, owner: testKey(t, 0x11), signer: testKey(t, 0x22), delegate: testKey(t, 0x33), forfeit: testKey(t, 0x44),
		sequence: wire.MaxTxInSequenceNum, sighash: txscript.SigHashAll, forfeitLeaf: 2, limits: StockLimits{Inputs: 128, Outputs: 8},
		skipForfeit: make(map[int]bool),
	}
	var err error
	w.tree, err = script.Delegate(w.owner.PubKey().XOnly(), w.delegate.PubKey().XOnly(), w.signer.PubKey().XOnly(), 20)
	if err != nil {
		t.Fatal(err)
	}
	w.message = intent.NewRegister(validAt, 0, w.delegate.PubKey())
	var sum int64
	for i, amount := range amounts {
		sum += amount
		w.vtxos = append(w.vtxos, ark.VTXO{
			Outpoint: outpointOf(i), Amount: amount, Script: w.tree.PkScript(),
			CreatedAt: validAt - 500_000, ExpiresAt: validAt + 100_000 + int64(i), CommitmentTxs: []chainhash.Hash{{9}},
		})
	}
	w.outputs = []*wire.TxOut{wire.NewTxOut(sum, w.tree.PkScript())}
	w.terms = testTerms(t)
	return w
}

func outpointOf(i int) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash{byte(i + 1), byte((i + 1) >> 8), 1}, Index: uint32(i)}
}

// testTerms are the terms under which the vectors were made.
func testTerms(t testing.TB) StockTerms {
	t.Helper()
	script, err := hex.DecodeString("0014cc1b07838e387deacd0e5232e1e8b49f4c29e484")
	if err != nil {
		t.Fatal(err)
	}
	return StockTerms{
		Params: ark.Params{
			Network: ark.Regtest, SignerKey: testKey(t, 0x22).PubKey(), ForfeitKey: testKey(t, 0x44).PubKey(), ForfeitScript: script,
			SessionSeconds: 30, ExitDelay: 20, VtxoMax: -1, Dust: 330, MaxTxWeight: 40_000, Digest: "d1",
		},
		Keys: []bip340.PubKey{testKey(t, 0x33).PubKey()}, Now: now,
	}
}

// body signs everything and encodes it.
func (w *wallet) body() StockBody {
	w.t.Helper()
	text, err := w.message.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	inputs := make([]intent.Input, len(w.vtxos))
	for i, v := range w.vtxos {
		inputs[i] = intent.Input{
			Outpoint: v.Outpoint, Out: wire.NewTxOut(v.Amount, v.Script), Sequence: w.sequence, Tree: w.treeOf(i), Leaf: w.leaf,
		}
	}
	proof, err := intent.BuildProof(text, inputs, w.outputs)
	if err != nil {
		w.t.Fatal(err)
	}
	bend(w.spoilProof, proof)
	signing, err := intent.ToSign(proof, w.owner.PubKey().XOnly(), w.sighash)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range signing {
		w.sign(&proof.Inputs[s.Index], s.Leaf, s.Sighash, w.sighash, w.owner)
	}
	bend(w.afterProof, proof)
	b := StockBody{Message: text, Proof: w.encode(proof)}
	for i := range w.vtxos {
		if !w.skipForfeit[i] {
			b.Forfeits = append(b.Forfeits, w.encode(w.partial(i)))
		}
	}
	for _, extra := range w.extraForfeits {
		b.Forfeits = append(b.Forfeits, w.encode(extra))
	}
	if w.spoilBody != nil {
		w.spoilBody(&b)
	}
	return b
}

// treeOf is the script of VTXO i.
func (w *wallet) treeOf(i int) script.Tree {
	if tree, ok := w.trees[i]; ok {
		return tree
	}
	return w.tree
}

// partial is the owner's forfeit of VTXO i.
func (w *wallet) partial(i int) *psbt.Packet {
	w.t.Helper()
	terms := forfeit.Terms{
		Outpoint: w.vtxos[i].Outpoint, Amount: w.vtxos[i].Amount, Tree: w.treeOf(i),
		Dust: w.terms.Params.Dust, Script: w.terms.Params.ForfeitScript,
	}
	if w.forfeitTerms != nil {
		w.forfeitTerms(&terms)
	}
	at := w.forfeitLeaf
	if at >= w.treeOf(i).Len() {
		at = 0 // a two-leaf script has it there
	}
	p, _, err := forfeit.Build(terms, at)
	if err != nil {
		w.t.Fatal(err)
	}
	bend(w.spoilForfeit, p)
	leaf, _ := w.treeOf(i).LeafProof(at)
	msg, err := script.TapscriptSighash(p.UnsignedTx, []*wire.TxOut{p.Inputs[0].WitnessUtxo}, 0, leaf, forfeit.OwnerSighash)
	if err != nil {
		w.t.Fatal(err)
	}
	w.sign(&p.Inputs[0], leaf, msg, forfeit.OwnerSighash, w.owner)
	bend(w.afterForfeit, p)
	return p
}

func bend(f func(*psbt.Packet), p *psbt.Packet) {
	if f != nil {
		f(p)
	}
}

func (w *wallet) sign(in *psbt.PInput, leaf []byte, msg [32]byte, typ txscript.SigHashType, key *bip340.Key) {
	w.t.Helper()
	sig, err := key.Sign(msg[:])
	if err != nil {
		w.t.Fatal(err)
	}
	script.AddSignature(in, leaf, script.Signature{Key: key.PubKey().XOnly(), Type: typ, Sig: sig})
}

func (w *wallet) encode(p *psbt.Packet) string {
	w.t.Helper()
	var buf bytes.Buffer
	if err := p.Serialize(&buf); err != nil {
		w.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}

// check parses and checks the wallet's body.
func (w *wallet) check() (*Record, error) {
	w.t.Helper()
	body := w.body()
	w.terms.VTXOs = w.vtxos
	return checkBody(body, w.limits, w.terms)
}

func checkBody(body StockBody, limits StockLimits, terms StockTerms) (*Record, error) {
	request, err := ParseStock(body, limits)
	if err != nil {
		return nil, err
	}
	return CheckStock(request, terms)
}
