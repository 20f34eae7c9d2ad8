// Package wallet owns a small Ark wallet that does what the stock TypeScript
// wallet does: the device of the demo and of tests. It boards, renews by
// itself, sends, and signs delegates ahead for somebody else to carry out. It
// must not know Vigil's server, and arktest itself must not know it: it stands
// on the protocol rooms, which the test operator is there to contradict.
//
// One owner key, no storage: everything is read from the operator again.
package wallet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/address/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

var (
	// ErrUnknownScript is returned for a coin whose script is none of the wallet's
	// addresses.
	ErrUnknownScript = errors.New("wallet: coin of an unknown script")
	// ErrFunds is returned when the coins do not cover what is asked.
	ErrFunds = errors.New("wallet: coins do not cover this")
)

// Wallet is a wallet of one owner key. It is safe for concurrent use.
type Wallet struct {
	op    *operator.Client
	owner *bip340.Key
	now   func() time.Time

	mu       sync.Mutex
	scripts  map[string]script.Tree // by pkScript: what Address was asked for
	boarding map[string]script.Tree
}

// New returns a wallet over an operator. A nil now is the wall clock.
func New(op *operator.Client, owner *bip340.Key, now func() time.Time) *Wallet {
	if now == nil {
		now = time.Now
	}
	return &Wallet{
		op: op, owner: owner, now: now,
		scripts: map[string]script.Tree{}, boarding: map[string]script.Tree{},
	}
}

// Key is the owner's public key.
func (w *Wallet) Key() bip340.PubKey { return w.owner.PubKey() }

// Address is where the wallet receives: the default VTXO script, or with a
// delegate the three-leaf script of the stock wallet. VTXOs finds only coins of
// scripts that Address was called for.
func (w *Wallet) Address(ctx context.Context, delegate *bip340.PubKey) (ark.Address, error) {
	p, err := w.op.Params(ctx)
	if err != nil {
		return ark.Address{}, err
	}
	owner, signer := w.Key().XOnly(), p.SignerKey.XOnly()
	var tree script.Tree
	if delegate == nil {
		tree, err = script.Default(owner, signer, p.ExitDelay)
	} else {
		tree, err = script.Delegate(owner, delegate.XOnly(), signer, p.ExitDelay)
	}
	if err != nil {
		return ark.Address{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scripts[string(tree.PkScript())] = tree
	return ark.Address{HRP: p.Network.HRP(), Signer: signer, Key: tree.OutputKey()}, nil
}

// BoardingAddress is the on-chain address whose coins Board takes into Ark.
func (w *Wallet) BoardingAddress(ctx context.Context) (string, error) {
	p, err := w.op.Params(ctx)
	if err != nil {
		return "", err
	}
	tree, err := script.Boarding(w.Key().XOnly(), p.SignerKey.XOnly(), p.BoardingDelay)
	if err != nil {
		return "", err
	}
	key := tree.OutputKey()
	a, err := address.NewAddressTaproot(key[:], p.Network.ChainParams())
	if err != nil {
		return "", fmt.Errorf("wallet: boarding address: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.boarding[string(tree.PkScript())] = tree
	return a.EncodeAddress(), nil
}

// tree finds the leaves of one of the wallet's VTXO scripts.
func (w *Wallet) tree(pkScript []byte) (script.Tree, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t, ok := w.scripts[string(pkScript)]; ok {
		return t, nil
	}
	return script.Tree{}, fmt.Errorf("%w: %x", ErrUnknownScript, pkScript)
}

// collaborative is the index of the leaf owner and signer: the first one in
// every script that this wallet makes.
const collaborative = 0

// coin is a VTXO with its script.
type coin struct {
	ark.VTXO
	tree script.Tree
}

func (w *Wallet) coins(vtxos []ark.VTXO) ([]coin, error) {
	list := make([]coin, len(vtxos))
	for i, v := range vtxos {
		t, err := w.tree(v.Script)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Outpoint, err)
		}
		list[i] = coin{v, t}
	}
	return list, nil
}
