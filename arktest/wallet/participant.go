package wallet

import (
	"context"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
)

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
