package renewal_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/signer"
)

// vault is a wallet with a share of Vigil's, as the engine meets it: who holds the
// group's key is nothing to the engine, so here one key is the whole group.
type vault struct {
	*rig
	id    vigil.WalletID
	group *bip340.Key
	desc  descriptor.Descriptor
	made  byte
	split bool // its delegates have two outputs
	stray bool // its coins come at the two-leaf script, and it opted in to delegates of such
}

func (r *rig) vault() *vault {
	r.t.Helper()
	v := &vault{rig: r, group: r.key()}
	v.id = vigil.WalletID(v.group.PubKey().XOnly())
	key, scalar, err := bip340.GenerateKey()
	r.must(err)
	names := signer.WalletNames(v.id)
	slices.Sort(names) // delegate-secret before dkg-secret
	r.must(r.ledger.Plan(r.ctx, ledger.Plan{Wallet: v.id, Secrets: names, NotBefore: time.Now().Unix() + 7200, ExpiresAt: time.Now().Unix() + 3600}))
	r.must(r.secrets.Put(r.ctx, names[0], scalar))
	r.must(r.secrets.Put(r.ctx, names[1], scalar)) // the engine never opens it
	v.desc, err = descriptor.New(r.params(), v.group.PubKey(), key.PubKey().XOnly(), r.key().PubKey().XOnly(), 0)
	r.must(err)
	_, err = r.ledger.CreateWallet(r.ctx, &ledger.Wallet{
		ID: v.id, State: ledger.WalletActive, Threshold: 2, Participants: 2, DelegateKey: key.PubKey(), Descriptor: v.desc.Encode(),
		Epochs:  []ledger.Epoch{{Hosts: []bip340.PubKey{r.key().PubKey(), r.key().PubKey()}, Acked: make([]bool, 2), Confirmed: true}},
		Scripts: [][]byte{v.desc.PkScript(), v.desc.TwoLeaf().PkScript(), v.desc.BoardingPkScript()}, Secrets: names,
	}, ledger.Extras{})
	r.must(err)
	return v
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) key() *bip340.Key {
	r.t.Helper()
	key, scalar, err := bip340.GenerateKey()
	r.must(err)
	scalar.Burn()
	return key
}

func (r *rig) params() ark.Params {
	r.t.Helper()
	c, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext})
	r.must(err)
	defer func() { _ = c.Close() }()
	p, err := c.Info(r.ctx)
	r.must(err)
	return p
}

// coin gives the vault a coin of the operator's own money.
func (v *vault) coin(sats int64) ark.VTXO {
	v.t.Helper()
	at := v.desc.PkScript()
	if v.stray {
		at = v.desc.TwoLeaf().PkScript()
	}
	made, err := v.op.Mint(wire.NewTxOut(sats, at))
	v.must(err)
	coins, err := v.vtxos(made...)
	if err != nil || len(coins) != 1 {
		v.t.Fatalf("minted %v: %v", coins, err)
	}
	return coins[0]
}

// delegate signs coins ahead under a fresh id and tree key, and takes the delegate
// in.
func (v *vault) delegate(validAt time.Time, coins ...ark.VTXO) *delegate.Record {
	v.t.Helper()
	v.made++
	id := vigil.DelegateID{v.made}
	copy(id[1:], v.id[:])
	v.must(v.ledger.Plan(v.ctx, ledger.Plan{
		Wallet: v.id, Delegate: id, Secrets: signer.TreeNames(id), NotBefore: time.Now().Unix() + 7200, ExpiresAt: time.Now().Unix() + 3600,
	}))
	treeKey, err := v.signer.NewTreeKey(v.ctx, id)
	v.must(err)
	v.must(v.ledger.Drawn(v.ctx, v.id, map[vigil.DelegateID]bip340.PubKey{id: treeKey}))
	if validAt.IsZero() {
		validAt = time.Now().Add(-10 * time.Second)
	}
	p, two := v.params(), v.desc.TwoLeaf()
	var inputs []intent.Input
	var sum int64
	body := delegate.WalletBody{ID: id}
	for _, c := range coins {
		tree, at := v.desc.Tree(), descriptor.LeafDelegate
		if bytes.Equal(c.Script, two.PkScript()) {
			tree, at = two, descriptor.LeafForfeit
		}
		inputs = append(inputs, intent.Input{Outpoint: c.Outpoint, Out: wire.NewTxOut(c.Amount, c.Script), Sequence: wire.MaxTxInSequenceNum, Tree: tree})
		sum += c.Amount
		partial, sighash, err := forfeit.Build(forfeit.Terms{Outpoint: c.Outpoint, Amount: c.Amount, Tree: tree, Dust: p.Dust, Script: p.ForfeitScript}, at)
		v.must(err)
		leaf, _ := tree.LeafProof(at)
		v.sign(&partial.Inputs[0], leaf, sighash, forfeit.OwnerSighash)
		body.Forfeits = append(body.Forfeits, v.encode(partial))
	}
	outs := []*wire.TxOut{wire.NewTxOut(sum, v.desc.PkScript())}
	if v.split {
		outs[0].Value -= 1000
		outs = append(outs, wire.NewTxOut(1000, v.desc.PkScript()))
	}
	body.Message, body.Proof = v.prove(intent.NewRegister(validAt.Unix(), 0, treeKey), inputs, outs...)
	body.DeleteMessage, body.DeleteProof = v.prove(intent.Message{Kind: intent.Delete}, inputs[:1])
	req, err := delegate.ParseWallet(body, delegate.StockLimits{Inputs: 128, Outputs: 8})
	v.must(err)
	now, err := v.vtxos(req.Outpoints()...)
	v.must(err)
	rec, err := delegate.CheckWallet(req, delegate.WalletTerms{Params: p, Descriptor: v.desc, TreeKey: treeKey, VTXOs: now, TwoLeaf: v.stray, Now: time.Now().Unix()})
	v.must(err)
	if rec.HasSealed() {
		v.must(v.ledger.PlanMore(v.ctx, v.id, id, signer.ForfeitName(id)))
		v.must(v.signer.SealForfeits(v.ctx, rec, body.Forfeits))
	}
	receipt, err := v.ledger.Submit(v.ctx, ledger.Submission{Record: rec})
	v.must(err)
	if v.engine != nil {
		v.engine.Wake()
	}
	return receipt.Record
}

func (v *vault) prove(m intent.Message, inputs []intent.Input, outs ...*wire.TxOut) (text, proof string) {
	v.t.Helper()
	text, err := m.Encode()
	v.must(err)
	p, err := intent.BuildProof(text, inputs, outs)
	v.must(err)
	signing, err := intent.ToSign(p, v.group.PubKey().XOnly(), txscript.SigHashDefault)
	v.must(err)
	for _, s := range signing {
		v.sign(&p.Inputs[s.Index], s.Leaf, s.Sighash, txscript.SigHashDefault)
	}
	return text, v.encode(p)
}

func (v *vault) sign(in *psbt.PInput, leaf []byte, msg [32]byte, typ txscript.SigHashType) {
	v.t.Helper()
	sig, err := v.group.Sign(msg[:])
	v.must(err)
	script.AddSignature(in, leaf, script.Signature{Key: v.group.PubKey().XOnly(), Type: typ, Sig: sig})
}

func (v *vault) encode(p *psbt.Packet) string {
	v.t.Helper()
	b64, err := p.B64Encode()
	v.must(err)
	if _, err := base64.StdEncoding.DecodeString(b64); err != nil {
		v.t.Fatal(err)
	}
	return b64
}

// garbage are the names of the secrets that are to be deleted.
func (r *rig) garbage() []string {
	r.t.Helper()
	rows, err := r.ledger.SecretGarbage(r.ctx, 1000)
	r.must(err)
	var names []string
	for _, row := range rows {
		names = append(names, row.Name)
	}
	return names
}
