package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
)

// ErrStream is returned when the event stream ends in the middle of a batch.
var ErrStream = errors.New("wallet: event stream lost")

// FailedError says that a batch failed; trying again may help.
type FailedError struct{ Reason string }

// Error gives the operator's reason.
func (e *FailedError) Error() string { return "wallet: batch failed: " + e.Reason }

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

	batch  *batch.Batch
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
	if err := s.run(ctx, signed); err != nil {
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

// run registers the intent and follows the batches until one has carried it.
func (s *settlement) run(ctx context.Context, signed Intent) error {
	stream, err := s.w.op.Events(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Add(ctx, batch.Topics([]batch.Task{s.task})...); err != nil {
		return err
	}
	// Only now: whatever names the intent is then heard.
	if s.task.IntentID, err = s.w.op.RegisterIntent(ctx, signed.Proof, signed.Message); err != nil {
		return err
	}
	for {
		var ev operator.Event
		var open bool
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case ev, open = <-stream.C():
		}
		if !open {
			return ErrStream
		}
		switch ev := ev.(type) {
		case operator.StreamDown:
			if s.batch != nil {
				return fmt.Errorf("%w: %w", ErrStream, ev.Err)
			}
		case operator.Malformed:
			if s.batch != nil {
				return fmt.Errorf("%w: %w", ErrStream, ev.Err)
			}
		case batch.Event:
			done, err := s.handle(ctx, ev)
			if done || err != nil {
				return err
			}
		}
	}
}

// handle feeds one event to the batch and carries out what it asks for.
func (s *settlement) handle(ctx context.Context, ev batch.Event) (done bool, err error) {
	if started, ok := ev.(batch.Started); ok {
		return false, s.start(ctx, started)
	}
	if s.batch == nil {
		return false, nil
	}
	step, err := s.batch.Handle(ev)
	for err == nil && step != (batch.StepNone{}) {
		switch st := step.(type) {
		case batch.StepNonces:
			step, err = s.makeNonces(ctx, st)
			continue
		case batch.StepSign:
			err = s.sign(ctx, st)
		case batch.StepForfeits:
			err = s.forfeit(ctx, st)
		case batch.StepFinalized:
			return true, nil
		case batch.StepFailed:
			return false, &FailedError{st.Reason}
		}
		if err == nil {
			step, err = s.batch.Next()
		}
	}
	return false, err
}

// start joins a batch that lists the intent. A batch that lacked confirmations
// ends without a word: the next one that lists us replaces it.
func (s *settlement) start(ctx context.Context, started batch.Started) error {
	if s.task.IntentID == "" || !slices.Contains(started.IntentHashes, batch.IntentHash(s.task.IntentID)) {
		return nil
	}
	if err := batch.CheckExpiry(s.params.Network, started.Expiry, 1); err != nil {
		return err
	}
	var err error
	s.nonces = nil
	s.batch, err = batch.New(
		batch.Config{ForfeitKey: s.params.ForfeitKey.XOnly(), Dust: s.params.Dust},
		started, []batch.Task{s.task})
	if err != nil {
		return err
	}
	return s.w.op.ConfirmRegistration(ctx, s.task.IntentID)
}

func (s *settlement) makeNonces(ctx context.Context, st batch.StepNonces) (batch.Step, error) {
	s.nonces = map[chainhash.Hash]*musig2.SecNonce{}
	public := map[chainhash.Hash]musig2.PubNonce{}
	for _, n := range st.Nodes {
		if n.Cosigner != s.key.PubKey() {
			return nil, fmt.Errorf("wallet: node %s lists a key that nobody knows yet, negated", n.Txid)
		}
		sec, pub, err := musig2.NewNonce(s.key, n.Context, &n.Sighash, nil)
		if err != nil {
			return nil, err
		}
		s.nonces[n.Txid], public[n.Txid] = sec, pub
	}
	key := s.key.PubKey()
	if err := s.w.op.SubmitTreeNonces(ctx, s.batch.ID(), key, public); err != nil {
		return nil, err
	}
	return s.batch.NoncesMade(map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce{key: public})
}

func (s *settlement) sign(ctx context.Context, st batch.StepSign) error {
	sigs := map[chainhash.Hash]musig2.PartialSig{}
	for _, n := range st.Nodes {
		sig, err := n.Session.Sign(s.key, s.nonces[n.Txid])
		if err != nil {
			return err
		}
		sigs[n.Txid] = sig
	}
	s.nonces = nil
	return s.w.op.SubmitTreeSignatures(ctx, s.batch.ID(), s.key.PubKey(), sigs)
}

// forfeit hands over what the batch costs, once all that it gives is there.
func (s *settlement) forfeit(ctx context.Context, st batch.StepForfeits) error {
	if len(st.Tasks) != 1 {
		return fmt.Errorf("wallet: the operator wants forfeits of on-chain coins: %v", st.Withheld)
	}
	r := st.Tasks[0]
	var forfeits []string
	for _, in := range s.task.Inputs {
		connector, ok := r.Connectors[in.Outpoint]
		if !ok {
			continue
		}
		f, err := liveForfeit(s.w.owner, s.coins[in.Outpoint], connector, s.params.ForfeitScript)
		if err != nil {
			return err
		}
		forfeits = append(forfeits, f)
	}
	commitment, err := s.signBoarding(st.CommitmentPSBT)
	if err != nil {
		return err
	}
	s.result = Settled{Commitment: st.Txid, Outputs: r.Outputs, Branch: r.Branch}
	if len(forfeits) == 0 && commitment == "" {
		return nil
	}
	return s.w.op.SubmitForfeits(ctx, forfeits, commitment)
}

// signBoarding signs the wallet's on-chain coins in the commitment transaction;
// "" when it has none there.
func (s *settlement) signBoarding(b64 string) (string, error) {
	if len(s.boards) == 0 {
		return "", nil
	}
	p, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		return "", err
	}
	for i, in := range p.UnsignedTx.TxIn {
		c, ok := s.boards[in.PreviousOutPoint]
		if !ok {
			continue
		}
		if err := script.SetLeaf(&p.Inputs[i], c.tree, collaborative); err != nil {
			return "", err
		}
		if err := signInput(s.w.owner, p, i, txscript.SigHashDefault); err != nil {
			return "", err
		}
	}
	return p.B64Encode()
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
