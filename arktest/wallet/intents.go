package wallet

import (
	"context"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/intent"
)

// Prove signs a proof of ownership of vtxos over any message, without outputs:
// what a service asks for that lists or cancels delegates.
func (w *Wallet) Prove(message string, vtxos ...ark.VTXO) (Intent, error) {
	coins, err := w.coins(vtxos)
	if err != nil {
		return Intent{}, err
	}
	return prove(w.owner, message, proofInputs(coins), nil)
}

// DeleteIntent signs the intent that takes back whatever is registered over any
// of vtxos. expireAt is in unix seconds, 0 for none.
func (w *Wallet) DeleteIntent(expireAt int64, vtxos ...ark.VTXO) (Intent, error) {
	coins, err := w.coins(vtxos)
	if err != nil {
		return Intent{}, err
	}
	return w.deleteProof(coins, expireAt)
}

func (w *Wallet) deleteProof(coins []coin, expireAt int64) (Intent, error) {
	message, err := intent.Message{Kind: intent.Delete, ExpireAt: expireAt}.Encode()
	if err != nil {
		return Intent{}, err
	}
	return prove(w.owner, message, proofInputs(coins), nil)
}

// Withdraw takes back at the operator whatever is registered over any of vtxos.
func (w *Wallet) Withdraw(ctx context.Context, vtxos ...ark.VTXO) error {
	del, err := w.DeleteIntent(0, vtxos...)
	if err != nil {
		return err
	}
	return w.op.DeleteIntent(ctx, del.Proof, del.Message)
}
