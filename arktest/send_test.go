package arktest_test

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// payment is an off-chain transaction in the making.
type payment struct {
	ark    *psbt.Packet
	points []*psbt.Packet
	change coin
}

// anchor is the pay-to-anchor output.
func anchor() *wire.TxOut {
	return &wire.TxOut{PkScript: []byte{txscript.OP_1, txscript.OP_DATA_2, 0x4e, 0x73}}
}

// payment builds an off-chain transaction that spends coins to outs, the last
// of which is the change.
func (p *party) payment(coins []coin, outs ...*wire.TxOut) payment {
	p.t.Helper()
	leaf, err := hex.DecodeString(p.info().CheckpointTapscript)
	if err != nil {
		p.t.Fatal(err)
	}
	var pay payment
	ark := wire.NewMsgTx(3)
	var points []coin
	for _, c := range coins {
		tx := wire.NewMsgTx(3)
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.at, Sequence: wire.MaxTxInSequenceNum})
		tree := tapscript.Tree{Leaves: [][]byte{leaf, c.tree.Leaves[c.leaf]}}
		out := &wire.TxOut{Value: c.out.Value, PkScript: tree.PkScript()}
		tx.AddTxOut(out)
		tx.AddTxOut(anchor())
		packet, err := psbt.NewFromUnsignedTx(tx)
		if err != nil {
			p.t.Fatal(err)
		}
		c.fill(p.t, &packet.Inputs[0], true)
		pay.points = append(pay.points, packet)
		at := wire.OutPoint{Hash: tx.TxHash()}
		ark.AddTxIn(&wire.TxIn{PreviousOutPoint: at, Sequence: wire.MaxTxInSequenceNum})
		points = append(points, coin{at: at, out: out, tree: tree, leaf: 1})
	}
	for _, o := range outs {
		ark.AddTxOut(o)
	}
	ark.AddTxOut(anchor())
	if pay.ark, err = psbt.NewFromUnsignedTx(ark); err != nil {
		p.t.Fatal(err)
	}
	for i, c := range points {
		c.fill(p.t, &pay.ark.Inputs[i], true)
	}
	if err := tapscript.Sign(pay.ark, p.key, nil); err != nil {
		p.t.Fatal(err)
	}
	at := len(outs) - 1
	pay.change = coin{at: wire.OutPoint{Hash: ark.TxHash(), Index: uint32(at)}, out: outs[at], tree: p.vtxoTree(), key: p.key}
	return pay
}

func (p *party) submit(ctx context.Context, pay payment) (*arkv1.SubmitTxResponse, error) {
	req := &arkv1.SubmitTxRequest{SignedArkTx: encode(p.t, pay.ark)}
	for _, c := range pay.points {
		req.CheckpointTxs = append(req.CheckpointTxs, encode(p.t, c))
	}
	return p.ark.SubmitTx(ctx, req)
}

// finalize signs the checkpoints that the operator signed and hands them in.
func (p *party) finalize(ctx context.Context, txid string, points []string) error {
	req := &arkv1.FinalizeTxRequest{ArkTxid: txid}
	for _, raw := range points {
		c := decode(p.t, raw)
		if err := tapscript.Sign(c, p.key, nil); err != nil {
			return err
		}
		req.FinalCheckpointTxs = append(req.FinalCheckpointTxs, encode(p.t, c))
	}
	_, err := p.ark.FinalizeTx(ctx, req)
	return err
}

// send pays sats to a script off chain and returns the change.
func (p *party) send(ctx context.Context, c coin, sats int64, script []byte) coin {
	p.t.Helper()
	pay := p.payment([]coin{c}, &wire.TxOut{Value: sats, PkScript: script}, p.pay(c.out.Value-sats))
	res, err := p.submit(ctx, pay)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := tapscript.VerifyTx(decode(p.t, res.FinalArkTx), nil); err != nil || res.ArkTxid != pay.ark.UnsignedTx.TxID() {
		p.t.Fatalf("the operator's ark transaction %s: %v", res.ArkTxid, err)
	}
	for _, raw := range res.SignedCheckpointTxs {
		id := decode(p.t, raw).UnsignedTx.TxID()
		if !slices.ContainsFunc(pay.points, func(c *psbt.Packet) bool { return c.UnsignedTx.TxID() == id }) {
			p.t.Fatalf("checkpoint %s is not ours", id)
		}
	}
	if err := p.finalize(ctx, res.ArkTxid, res.SignedCheckpointTxs); err != nil {
		p.t.Fatal(err)
	}
	return pay.change
}
