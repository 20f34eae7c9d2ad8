package arktest

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// told is a lie that waits for its batch, or stands.
type told struct {
	name    lie.Name
	targets []wire.OutPoint // none: the first intent of a batch, or everybody
	batches int             // how many batches are left; 0 stands for ever
}

func (t told) aims(in *intent) bool {
	return len(t.targets) == 0 || slices.ContainsFunc(in.outpoints(), func(op wire.OutPoint) bool { return slices.Contains(t.targets, op) })
}

// lieQueue holds the lies to tell.
type lieQueue struct {
	mu   sync.Mutex
	list []told
}

// Lie makes the operator tell a lie: a batch lie in the next batch that
// selects a target, a standing one in every answer until Honest. Targets are
// inputs; without any, a batch lie is about the batch's first intent and a
// standing one about everything.
func (op *Operator) Lie(name lie.Name, targets ...wire.OutPoint) { op.lieIn(1, name, targets) }

// LieAlways tells a lie in every batch that selects a target, until Honest.
func (op *Operator) LieAlways(name lie.Name, targets ...wire.OutPoint) { op.lieIn(0, name, targets) }

func (op *Operator) lieIn(batches int, name lie.Name, targets []wire.OutPoint) {
	if spec, ok := lie.Of(name); ok && spec.Scope == lie.Standing {
		batches = 0
	}
	op.lies.mu.Lock()
	defer op.lies.mu.Unlock()
	op.lies.list = append(op.lies.list, told{name, slices.Clone(targets), batches})
}

// Honest makes the operator forget every lie.
func (op *Operator) Honest() {
	op.lies.mu.Lock()
	defer op.lies.mu.Unlock()
	op.lies.list = nil
}

// standing says whether a standing lie is told, about at if that is given.
func (op *Operator) standing(name lie.Name, at ...wire.OutPoint) bool {
	op.lies.mu.Lock()
	defer op.lies.mu.Unlock()
	return slices.ContainsFunc(op.lies.list, func(t told) bool {
		return t.name == name && (len(at) == 0 || len(t.targets) == 0 || slices.Contains(t.targets, at[0]))
	})
}

// takeLies takes the lies of a batch that selected these intents.
func (op *Operator) takeLies(selected []*intent) lieSet {
	op.lies.mu.Lock()
	defer op.lies.mu.Unlock()
	var set lieSet
	kept := op.lies.list[:0]
	for _, t := range op.lies.list {
		spec, _ := lie.Of(t.name)
		if spec.Scope == lie.Batch && slices.ContainsFunc(selected, t.aims) {
			set = append(set, t)
			if t.batches == 1 {
				continue
			}
			t.batches = max(t.batches-1, 0)
		}
		kept = append(kept, t)
	}
	op.lies.list = kept
	return set
}

// lieSet is the lies told in one batch.
type lieSet []told

func (l lieSet) names() (out []lie.Name) {
	for _, t := range l {
		out = append(out, t.name)
	}
	return out
}

func (l lieSet) has(name lie.Name) bool { return slices.Contains(l.names(), name) }

// aimed lists the indexes of the intents that a lie is about.
func (l lieSet) aimed(name lie.Name, list []*intent) (out []int) {
	for _, t := range l {
		if t.name != name {
			continue
		}
		for i, in := range list {
			if len(t.targets) == 0 && i > 0 {
				break
			}
			if t.aims(in) {
				out = append(out, i)
			}
		}
	}
	return out
}

// first is the index of the first intent that a lie is about.
func (l lieSet) first(name lie.Name, list []*intent) (int, bool) {
	at := l.aimed(name, list)
	if len(at) == 0 {
		return 0, false
	}
	return at[0], true
}

// liedInfo applies the standing lies to GetInfo.
func (op *Operator) liedInfo(i *arkv1.GetInfoResponse) {
	if op.standing(lie.InfoFee) {
		i.Fees.IntentFee = &arkv1.IntentFeeInfo{}
	}
	if op.standing(lie.InfoDust) {
		i.Dust *= 2
	}
	if op.standing(lie.InfoForfeit) {
		i.ForfeitAddress = p2wpkhAddress(op.signerPub())
	}
	if op.standing(lie.InfoSigner) {
		i.SignerPubkey = hex.EncodeToString(op.wallet.key.PubKey().SerializeCompressed())
	}
}

// liedVTXO applies the standing lies to a VTXO of the indexer; false hides it.
func (op *Operator) liedVTXO(v VTXO) (VTXO, bool) {
	at := v.Outpoint
	if op.standing(lie.IndexSpent, at) {
		v.Spent, v.SettledBy = true, randomHash().String()
	}
	if op.standing(lie.IndexUnspent, at) {
		v.Spent, v.SettledBy, v.SpentBy, v.ArkTxid = false, "", "", ""
	}
	if op.standing(lie.IndexAmount, at) {
		v.Amount++
	}
	if op.standing(lie.IndexUnrolled, at) {
		v.Unrolled = true
	}
	return v, !op.standing(lie.IndexGone, at)
}

func randomHash() (h chainhash.Hash) {
	_, _ = rand.Read(h[:]) // never fails
	return h
}

// randomNonce is a valid public nonce that nobody can sign with.
func randomNonce() [musig2.PubNonceSize]byte {
	key, err := newKeyPair(nil)
	if err != nil {
		return [musig2.PubNonceSize]byte{}
	}
	n, err := musig2.GenNonces(musig2.WithPublicKey(key.pub))
	if err != nil {
		return [musig2.PubNonceSize]byte{}
	}
	return n.PubNonce
}
