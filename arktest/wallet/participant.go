package wallet

import (
	"context"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/musig2"
)

// Join implements operator.Participant.
func (s *settlement) Join(_ context.Context, started batch.Started) (*batch.Batch, error) {
	if err := batch.CheckExpiry(s.params.Network, started.Expiry, 1); err != nil {
		return nil, err
	}
	s.nonces = nil
	return batch.New(
		batch.Config{ForfeitKey: s.params.ForfeitKey.XOnly(), Dust: s.params.Dust},
		started, []batch.Task{s.task})
}

// Nonces implements operator.Participant.
func (s *settlement) Nonces(st batch.StepNonces) (map[chainhash.Hash]musig2.PubNonce, error) {
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
	return public, nil
}

// Sign implements operator.Participant.
func (s *settlement) Sign(st batch.StepSign) (map[chainhash.Hash]musig2.PartialSig, error) {
	sigs := map[chainhash.Hash]musig2.PartialSig{}
	for _, n := range st.Nodes {
		sig, err := n.Session.Sign(s.key, s.nonces[n.Txid])
		if err != nil {
			return nil, err
		}
		sigs[n.Txid] = sig
	}
	s.nonces = nil
	return sigs, nil
}

// Forfeit implements operator.Participant: it hands over what the batch costs.
func (s *settlement) Forfeit(ctx context.Context, st batch.StepForfeits) error {
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
