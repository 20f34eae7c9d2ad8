package wallet_test

import (
	"context"
	"slices"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// prepare asks for ids and tree keys, and holds them to the host key.
func (d *device) prepare(n uint32) ([]*vigilpb.Prepared, error) {
	a, err := carry(d.w, d.as(-1, "PrepareDelegates"), func(ctx context.Context, c auth.Call) (*vigilpb.PrepareDelegatesAnswer, error) {
		return d.w.service.PrepareDelegates(ctx, c, &vigilpb.PrepareDelegatesRequest{Count: n})
	})
	if err != nil {
		return nil, err
	}
	for _, p := range a.GetPrepared() {
		hash := auth.PreparedHash(d.id, [16]byte(p.GetId()), bip340.PubKey(p.GetTreeKey()), p.GetExpiresAt())
		if !bip340.Verify(d.w.service.HostKey().XOnly(), hash[:], [64]byte(p.GetSignature())) {
			d.t.Fatal("what was prepared is not signed by the host key")
		}
	}
	return a.GetPrepared(), nil
}

// drawnUp is a delegate before it is signed: what goes into one Sign.
type drawnUp struct {
	docs    []*vigilpb.Document
	packets [][]*psbt.Packet // of each document
	request *vigilpb.SubmitDelegateRequest
}

// drawUp builds a delegate over coins: the proof, a forfeit for each, and the
// proof that takes it back.
func (d *device) drawUp(p *vigilpb.Prepared, validAt, fee int64, coins ...ark.VTXO) *drawnUp {
	d.t.Helper()
	var sum int64
	for _, v := range coins {
		sum += v.Amount
	}
	message, err := intent.NewRegister(validAt, 0, bip340.PubKey(p.GetTreeKey())).Encode()
	if err != nil {
		d.t.Fatal(err)
	}
	up := &drawnUp{request: &vigilpb.SubmitDelegateRequest{Id: p.GetId(), Message: message}}
	add := func(doc *vigilpb.Document, packet *psbt.Packet) {
		up.docs, up.packets = append(up.docs, doc), append(up.packets, []*psbt.Packet{packet})
	}
	proof, doc := d.proof(message, []*wire.TxOut{wire.NewTxOut(sum-fee, d.desc.PkScript())}, coins...)
	add(doc, proof)
	for _, v := range coins {
		from := d.at(v)
		tree, leaf := d.treeOf(v)
		f, _, err := forfeit.Build(forfeit.Terms{
			Outpoint: v.Outpoint, Amount: v.Amount, Tree: tree, Dust: d.w.op.params.Dust, Script: d.w.op.params.ForfeitScript,
			Delegate: from.Delegate, Signers: []bip340.XOnly{from.Signer},
		}, leaf)
		if err != nil {
			d.t.Fatal(err)
		}
		add(&vigilpb.Document{Document: &vigilpb.Document_DelegateForfeit{DelegateForfeit: &vigilpb.DelegateForfeitDocument{Psbt: b64(d.t, f)}}}, f)
	}
	if up.request.DeleteMessage, err = (intent.Message{Kind: intent.Delete}).Encode(); err != nil {
		d.t.Fatal(err)
	}
	deletion, doc := d.proof(up.request.DeleteMessage, nil, coins[0])
	add(doc, deletion)
	return up
}

// signed signs all of it in one round and fills the request.
func (d *device) signed(up *drawnUp) (*vigilpb.SubmitDelegateRequest, error) {
	d.t.Helper()
	spends, err := spend.Parse(up.docs, d.desc, spend.Terms{Params: d.w.op.params, Older: d.older, Now: d.w.clock.now().Unix()})
	if err != nil {
		return nil, err
	}
	sigs, err := d.sign(both(), up.docs...)
	if err != nil {
		return nil, err
	}
	next := 0
	for _, s := range spends {
		for _, h := range s.Sighashes {
			in := &up.packets[h.Doc][h.Tx].Inputs[h.Input]
			script.AddSignature(in, in.TaprootLeafScript[0].Script, script.Signature{Key: bip340.XOnly(d.id), Type: txscript.SigHashType(h.Type), Sig: sigs[next]})
			next++
		}
	}
	last := len(up.packets) - 1
	up.request.Proof, up.request.DeleteProof = b64(d.t, up.packets[0][0]), b64(d.t, up.packets[last][0])
	up.request.Forfeits = nil
	for _, p := range up.packets[1:last] {
		up.request.Forfeits = append(up.request.Forfeits, b64(d.t, p[0]))
	}
	return up.request, nil
}

func (d *device) submit(r *vigilpb.SubmitDelegateRequest) (*vigilpb.SubmitDelegateAnswer, error) {
	return carry(d.w, d.as(-1, "SubmitDelegate"), func(ctx context.Context, c auth.Call) (*vigilpb.SubmitDelegateAnswer, error) {
		return d.w.service.SubmitDelegate(ctx, c, r)
	})
}

// delegate prepares, signs and submits one.
func (d *device) delegate(validAt int64, coins ...ark.VTXO) (*vigilpb.SubmitDelegateAnswer, error) {
	d.t.Helper()
	prepared, err := d.prepare(1)
	if err != nil {
		return nil, err
	}
	r, err := d.signed(d.drawUp(prepared[0], validAt, 0, coins...))
	if err != nil {
		return nil, err
	}
	return d.submit(r)
}

// list asks for the wallet's coins.
func (d *device) list() (*vigilpb.ListVtxosAnswer, error) {
	return carry(d.w, d.as(-1, "ListVtxos"), func(ctx context.Context, c auth.Call) (*vigilpb.ListVtxosAnswer, error) {
		return d.w.service.ListVtxos(ctx, c, &vigilpb.ListVtxosRequest{})
	})
}

// covers says which of the wallet's coins have a delegate that counts.
func (d *device) covers() map[string]bool {
	d.t.Helper()
	a, err := d.list()
	if err != nil {
		d.t.Fatal(err)
	}
	m := map[string]bool{}
	for _, v := range a.GetVtxos() {
		m[v.GetOutpoint()] = v.GetCovered()
	}
	return m
}

func (d *device) delegates() []*vigilpb.Delegate {
	d.t.Helper()
	a, err := carry(d.w, d.as(-1, "WalletDelegates"), func(ctx context.Context, c auth.Call) (*vigilpb.WalletDelegatesAnswer, error) {
		return d.w.service.WalletDelegates(ctx, c, &vigilpb.WalletDelegatesRequest{})
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return slices.Clone(a.GetDelegates())
}
