package batch

import (
	"errors"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// Reasons of StepFailed that are ours: the operator went on without us, and
// the outcome has to be looked up.
const (
	leftReason    = "finalized by the operator after we had left the batch"
	withoutReason = "finalized by the operator without our signatures"
)

// Handle takes the operator's next event and returns what may be done now.
// Events of other batches, repetitions, and events that belong to nothing of
// ours give StepNone. Groups of events may come in any order; within a group
// the event that closes it (TreeSigningStarted, TreeNoncesAggregated,
// Finalization) comes last, as the operator guarantees.
//
// The error is a *Violation, once; from then on no step asks for a signature,
// and only StepFailed still comes when the batch ends.
func (b *Batch) Handle(ev Event) (Step, error) {
	if batchOf(ev) != b.id || b.stage == stageEnded {
		return StepNone{}, nil
	}
	if f, ok := ev.(Failed); ok {
		b.stage = stageEnded
		return StepFailed{f.Reason}, nil
	}
	if b.violation != nil {
		if _, ok := ev.(Finalized); ok {
			b.stage = stageEnded
			return StepFailed{leftReason}, nil
		}
		return StepNone{}, nil
	}
	if _, ok := ev.(Finalized); ok && b.stage < stageSigned && b.wantsTree() {
		b.stage = stageEnded
		return StepFailed{withoutReason}, nil
	}
	if v := b.store(ev); v != nil {
		return b.violate(v)
	}
	return b.Next()
}

// wantsTree says whether a task has off-chain outputs.
func (b *Batch) wantsTree() bool {
	return slices.ContainsFunc(b.tasks, func(t Task) bool { return len(t.Outputs) > 0 })
}

// Next returns what may be done after the last step was carried out. It is
// StepNone while the operator's next event, or NoncesMade, is awaited. The
// error is as Handle's.
func (b *Batch) Next() (Step, error) {
	if b.violation != nil {
		return StepNone{}, nil
	}
	var step Step
	var v *Violation
	switch b.stage {
	case stageTree:
		step, v = b.afterTree()
	case stageNonces:
		step, v = b.afterNonces()
	case stageSigned:
		step, v = b.afterSignatures()
	case stageForfeits:
		step, v = b.afterForfeits()
	}
	if v != nil {
		return b.violate(v)
	}
	if step == nil {
		step = StepNone{}
	}
	return step, nil
}

// violate ends all signing.
func (b *Batch) violate(v *Violation) (Step, error) {
	b.violation = v
	// What is buffered serves nobody any more.
	b.nodes, b.connectors, b.nonces, b.signatures = nil, nil, nil, nil
	return StepNone{}, v
}

// NoncesMade reports the public nonces that were made for StepNonces, by the
// node's cosigner key and txid: all of them and no others, else ErrNonces. Only
// nonces that are reported here can come to sign, and one that is reported for
// two nodes is ErrNonces too. It returns the next step, as
// Next does.
func (b *Batch) NoncesMade(nonces map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce) (Step, error) {
	if b.violation != nil || b.stage == stageEnded {
		return StepNone{}, nil // the caller may have been busy making them
	}
	if b.stage != stageMaking {
		return nil, ErrNonces
	}
	made := make(map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce, len(nonces))
	seen := make(map[musig2.PubNonce]bool, len(b.toSign))
	for _, n := range b.toSign {
		pub, ok := nonces[n.Cosigner][n.Txid]
		if !ok || seen[pub] {
			return nil, ErrNonces
		}
		seen[pub] = true
		if made[n.Cosigner] == nil {
			made[n.Cosigner] = make(map[chainhash.Hash]musig2.PubNonce, len(nonces[n.Cosigner]))
		}
		made[n.Cosigner][n.Txid] = pub
	}
	total := 0
	for _, m := range nonces {
		total += len(m)
	}
	if total != len(b.toSign) {
		return nil, ErrNonces
	}
	b.made, b.stage = made, stageNonces
	return b.Next()
}

// batchOf is the batch that an event belongs to.
func batchOf(ev Event) string {
	switch ev := ev.(type) {
	case Started:
		return ev.BatchID
	case TreeTx:
		return ev.BatchID
	case TreeSigningStarted:
		return ev.BatchID
	case TreeNonces:
		return ev.BatchID
	case TreeNoncesAggregated:
		return ev.BatchID
	case TreeSignature:
		return ev.BatchID
	case Finalization:
		return ev.BatchID
	case Finalized:
		return ev.BatchID
	case Failed:
		return ev.BatchID
	}
	return ""
}

var errNothing = errors.New("nothing received")
