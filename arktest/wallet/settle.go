package wallet

import (
	"context"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// BoardingCoin is a confirmed on-chain output at the wallet's boarding address.
type BoardingCoin struct {
	Outpoint wire.OutPoint
	Out      *wire.TxOut
}

// Settled is what a batch gave.
type Settled struct {
	Commitment chainhash.Hash
	Outputs    []batch.NewVTXO // in the order asked for
	Branch     []tree.Node     // signed, root first
}

// Board takes on-chain coins into Ark: they become one VTXO at the address.
func (w *Wallet) Board(ctx context.Context, to ark.Address, coins ...BoardingCoin) (Settled, error) {
	return w.settle(ctx, to, nil, coins)
}

// Renew swaps vtxos for one new VTXO at the address, in a batch, now.
func (w *Wallet) Renew(ctx context.Context, to ark.Address, vtxos ...ark.VTXO) (Settled, error) {
	return w.settle(ctx, to, vtxos, nil)
}

// settlement is one intent of the wallet's and the batch that carries it.
type settlement struct {
	w      *Wallet
	params ark.Params
	key    *bip340.Key // of this settlement alone, forgotten afterwards
	coins  map[wire.OutPoint]coin
	boards map[wire.OutPoint]coin
	task   batch.Task

	nonces map[chainhash.Hash]*musig2.SecNonce
	result Settled
}

func (w *Wallet) settle(ctx context.Context, to ark.Address, vtxos []ark.VTXO, boarding []BoardingCoin) (Settled, error) {
	p, err := w.op.Params(ctx)
	if err != nil {
		return Settled{}, err
	}
	key, secret, err := bip340.GenerateKey()
	if err != nil {
		return Settled{}, err
	}
	defer key.Burn()
	defer secret.Burn()
	s := &settlement{
		w: w, params: p, key: key,
		coins: map[wire.OutPoint]coin{}, boards: map[wire.OutPoint]coin{},
		task: batch.Task{ID: "own", Cosigner: key.PubKey()},
	}
	inputs, err := s.inputs(vtxos, boarding)
	if err != nil {
		return Settled{}, err
	}
	outs, err := s.outputs(inputs, to)
	if err != nil {
		return Settled{}, err
	}
	message, err := intent.NewRegister(0, 0, key.PubKey()).Encode()
	if err != nil {
		return Settled{}, err
	}
	signed, err := prove(w.owner, message, proofInputs(inputs), outs)
	if err != nil {
		return Settled{}, err
	}
	if s.task.Outputs, err = leafOutputs(outs, signed.txid); err != nil {
		return Settled{}, err
	}
	if err := w.op.Participate(ctx, &s.task, signed.Proof, signed.Message, s); err != nil {
		w.withdraw(ctx, inputs)
		return Settled{}, err
	}
	return s.result, w.await(ctx, s.result.Outputs)
}

// inputs looks up the scripts of everything that is spent.
func (s *settlement) inputs(vtxos []ark.VTXO, boarding []BoardingCoin) ([]coin, error) {
	list, err := s.w.coins(vtxos)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		s.coins[c.Outpoint] = c
		s.task.Inputs = append(s.task.Inputs, batch.Input{Outpoint: c.Outpoint, Amount: c.Amount, HasForfeit: true})
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, b := range boarding {
		t, ok := s.w.boarding[string(b.Out.PkScript)]
		if !ok {
			return nil, fmt.Errorf("%s: %w", b.Outpoint, ErrUnknownScript)
		}
		c := coin{ark.VTXO{Outpoint: b.Outpoint, Amount: b.Out.Value, Script: b.Out.PkScript}, t}
		s.boards[b.Outpoint] = c
		s.task.Inputs = append(s.task.Inputs, batch.Input{Outpoint: b.Outpoint, Amount: b.Out.Value, Boarding: true})
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: none", ErrFunds)
	}
	return list, nil
}

// outputs is one output of everything but the operator's fee.
func (s *settlement) outputs(inputs []coin, to ark.Address) ([]*wire.TxOut, error) {
	now := s.w.now().Unix()
	fees, err := newFees(s.params.Fees, now)
	if err != nil {
		return nil, err
	}
	out := wire.NewTxOut(0, to.PkScript())
	for _, c := range inputs {
		var f int64
		if _, boarding := s.boards[c.Outpoint]; boarding {
			f, err = fees.boarding(c.VTXO)
		} else {
			f, err = fees.input(c.VTXO, fee.TypeOf(c.VTXO, now))
		}
		if err != nil {
			return nil, err
		}
		out.Value += c.Amount - f
	}
	f, err := fees.output(out)
	if err != nil {
		return nil, err
	}
	if out.Value -= f; out.Value < s.params.Dust {
		return nil, fmt.Errorf("%w: %d", ErrDust, out.Value)
	}
	return withAssets(inputs, []*wire.TxOut{out}, out.PkScript)
}

// withdrawTimeout bounds the clean-up after a settlement that failed.
const withdrawTimeout = 5 * time.Second

// withdraw takes a registered intent back, as the stock wallet does after a
// failure. Mostly there is none any more, so nobody is told of an error.
func (w *Wallet) withdraw(ctx context.Context, inputs []coin) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if del, err := w.deleteProof(inputs, 0); err == nil {
		_ = w.op.DeleteIntent(ctx, del.Proof, del.Message)
	}
}

// awaitEvery is how often the indexer is asked for a new coin.
const awaitEvery = 100 * time.Millisecond

// await returns once the operator's indexer shows the new coins: it stores them
// only after it has said that the batch is final.
func (w *Wallet) await(ctx context.Context, outs []batch.NewVTXO) error {
	ops := make([]wire.OutPoint, 0, len(outs))
	for _, o := range outs {
		if !txscript.IsUnspendable(o.Out.PkScript) { // an extension is no coin
			ops = append(ops, o.Outpoint)
		}
	}
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		found, err := w.op.VTXOs(ctx, ops)
		if err != nil {
			return err
		}
		if len(found) == len(ops) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
