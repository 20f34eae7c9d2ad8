package ledger

import (
	"context"
	"errors"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// WalletSnapshot is everything about one wallet that its actor needs, as it was at
// one moment.
type WalletSnapshot struct {
	Wallet    *Wallet
	Policy    *Policy // nil when none was set
	VTXOs     []Holding
	Delegates []*delegate.Record // those that have not ended
	History   []Entry            // the last lines, oldest first
	Tokens    []Token
	Prepared  []Plan // delegates that may be submitted
}

// WalletSnapshot reads a wallet with all that belongs to it, from one consistent
// state of the store; of the history at most the last lines. A delegate or a row
// that cannot be read is left out and marked; the wallet itself and its policy
// are errors.
func (l *Ledger) WalletSnapshot(ctx context.Context, id vigil.WalletID, lines int) (*WalletSnapshot, error) {
	var v *WalletSnapshot
	err := l.view(ctx, func(r reader) error {
		at := l.now().Unix()
		v = new(WalletSnapshot)
		var err error
		if v.Wallet, err = loadWallet(r, id); err != nil {
			return err
		}
		if v.Policy, err = policyOf(r, v.Wallet); err != nil {
			return err
		}
		if v.VTXOs, err = holdings(r, id); err != nil {
			return err
		}
		if v.Delegates, err = openDelegates(r, v.Wallet); err != nil {
			return err
		}
		if v.Tokens, err = tokensOf(r, id); err != nil {
			return err
		}
		if v.Prepared, err = openPlans(r, id, at); err != nil {
			return err
		}
		v.History, err = tail(r, v.Wallet, at, max(lines, 1))
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// openDelegates returns the delegates over a wallet's scripts that have not ended
// and can be read.
func openDelegates(r reader, owner *Wallet) ([]*delegate.Record, error) {
	var all []*delegate.Record
	for _, script := range owner.Scripts {
		ids, err := delegatesOver(r, script, classOpen, -1)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if slices.ContainsFunc(all, func(r *delegate.Record) bool { return r.ID == id }) {
				continue
			}
			rec, err := load(r, id)
			if errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, rec)
		}
	}
	return all, nil
}

// delegatesOver lists at most limit delegates of a class over a script; below 0
// there is no limit.
func delegatesOver(r reader, script []byte, class byte, limit int) ([]vigil.DelegateID, error) {
	prefix := scriptPrefix(script, class)
	keys, err := keysOf(r, treeScripts, prefix, after(prefix), limit)
	var ids []vigil.DelegateID
	for _, key := range keys {
		if len(key) == len(prefix)+idSize {
			ids = append(ids, vigil.DelegateID(key[len(prefix):]))
		}
	}
	return ids, err
}
