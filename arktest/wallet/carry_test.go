package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
)

// carrier is the barest delegate service: it carries one request out, now,
// without writing anything down.
type carrier struct {
	op  *operator.Client
	key *bip340.Key

	params  ark.Params
	task    batch.Task
	partial map[wire.OutPoint]*psbt.Packet
	batch   *batch.Batch
	nonces  map[chainhash.Hash]*musig2.SecNonce
}

func (c *carrier) carry(ctx context.Context, req wallet.DelegateRequest) (err error) {
	if c.params, err = c.op.Params(ctx); err != nil {
		return err
	}
	proof, err := script.ParsePSBT(req.Intent.Proof, script.StrangerLimits())
	if err != nil {
		return err
	}
	c.partial = map[wire.OutPoint]*psbt.Packet{}
	for _, f := range req.ForfeitTxs {
		p, err := script.ParsePSBT(f, script.StrangerLimits())
		if err != nil {
			return err
		}
		c.partial[p.UnsignedTx.TxIn[0].PreviousOutPoint] = p
	}
	c.task = batch.Task{ID: "carried", Cosigner: c.key.PubKey()}
	for _, o := range proof.UnsignedTx.TxOut {
		if asset.IsExtension(o.PkScript) { // the leaf has the operator's form of it
			s, err := asset.LeafScript(o.PkScript, proof.UnsignedTx.TxHash())
			if err != nil {
				return err
			}
			o = wire.NewTxOut(o.Value, s)
		}
		c.task.Outputs = append(c.task.Outputs, o)
	}
	for i, in := range proof.UnsignedTx.TxIn[1:] {
		c.task.Inputs = append(c.task.Inputs, batch.Input{
			Outpoint: in.PreviousOutPoint, Amount: proof.Inputs[i+1].WitnessUtxo.Value,
			HasForfeit: c.partial[in.PreviousOutPoint] != nil,
		})
	}
	stream, err := c.op.Events(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Add(ctx, batch.Topics([]batch.Task{c.task})...); err != nil {
		return err
	}
	if c.task.IntentID, err = c.op.RegisterIntent(ctx, req.Intent.Proof, req.Intent.Message); err != nil {
		return err
	}
	for ev := range stream.C() {
		e, ok := ev.(batch.Event)
		if !ok {
			continue
		}
		if done, err := c.handle(ctx, e); done || err != nil {
			return err
		}
	}
	return errors.New("stream ended")
}

func (c *carrier) handle(ctx context.Context, ev batch.Event) (done bool, err error) {
	if s, ok := ev.(batch.Started); ok {
		if !slices.Contains(s.IntentHashes, batch.IntentHash(c.task.IntentID)) {
			return false, nil
		}
		cfg := batch.Config{ForfeitKey: c.params.ForfeitKey.XOnly(), Dust: c.params.Dust}
		if c.batch, err = batch.New(cfg, s, []batch.Task{c.task}); err != nil {
			return false, err
		}
		return false, c.op.ConfirmRegistration(ctx, c.task.IntentID)
	}
	if c.batch == nil {
		return false, nil
	}
	step, err := c.batch.Handle(ev)
	for err == nil && step != (batch.StepNone{}) {
		switch st := step.(type) {
		case batch.StepNonces:
			step, err = c.makeNonces(ctx, st)
			continue
		case batch.StepSign:
			err = c.sign(ctx, st)
		case batch.StepForfeits:
			err = c.forfeit(ctx, st)
		case batch.StepFinalized:
			return true, nil
		case batch.StepFailed:
			return false, fmt.Errorf("failed: %s", st.Reason)
		}
		if err == nil {
			step, err = c.batch.Next()
		}
	}
	return false, err
}

func (c *carrier) makeNonces(ctx context.Context, st batch.StepNonces) (batch.Step, error) {
	c.nonces = map[chainhash.Hash]*musig2.SecNonce{}
	public := map[chainhash.Hash]musig2.PubNonce{}
	for _, n := range st.Nodes {
		sec, pub, err := musig2.NewNonce(c.key, n.Context, &n.Sighash, nil)
		if err != nil {
			return nil, err
		}
		c.nonces[n.Txid], public[n.Txid] = sec, pub
	}
	if err := c.op.SubmitTreeNonces(ctx, c.batch.ID(), c.key.PubKey(), public); err != nil {
		return nil, err
	}
	return c.batch.NoncesMade(map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce{c.key.PubKey(): public})
}

func (c *carrier) sign(ctx context.Context, st batch.StepSign) error {
	sigs := map[chainhash.Hash]musig2.PartialSig{}
	for _, n := range st.Nodes {
		sig, err := n.Session.Sign(c.key, c.nonces[n.Txid])
		if err != nil {
			return err
		}
		sigs[n.Txid] = sig
	}
	return c.op.SubmitTreeSignatures(ctx, c.batch.ID(), c.key.PubKey(), sigs)
}

func (c *carrier) forfeit(ctx context.Context, st batch.StepForfeits) error {
	var sent []string
	for op, conn := range st.Tasks[0].Connectors {
		p, msg, err := forfeit.Complete(c.partial[op], conn.Outpoint, conn.Out, nil)
		if err != nil {
			return err
		}
		sig, err := c.key.Sign(msg[:])
		if err != nil {
			return err
		}
		if err := forfeit.Sign(p, c.key.PubKey().XOnly(), sig, nil); err != nil {
			return err
		}
		b64, err := p.B64Encode()
		if err != nil {
			return err
		}
		sent = append(sent, b64)
	}
	return c.op.SubmitForfeits(ctx, sent, "")
}
