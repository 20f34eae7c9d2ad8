package ledger

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Prune forgets at most limit delegates that were settled, spent or broken
// before the time given, with the coins that they used up, and returns how many
// there were. Their bodies cannot be accepted again, as an input is gone. The
// lines of history stay, and so does exit data of a coin that is neither spent
// nor expired by then.
func (l *Ledger) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n := 0
	err := l.update(ctx, func(w writer) error {
		n = 0
		var ids []vigil.DelegateID
		err := w.Scan(treeEnded, nil, timeKey(before.Unix(), vigil.DelegateID{}), func(key, _ []byte, damage error) error {
			_, id, ok := parseTimeKey(key)
			if damage != nil || !ok {
				_ = w.damaged(treeEnded, key, cmp.Or(damage, errKey))
				return nil
			}
			if len(ids) == limit {
				return kv.ErrStop
			}
			ids = append(ids, id)
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			rec, err := load(w, id)
			if errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNotFound) {
				continue // marked
			}
			if err != nil {
				return err
			}
			if err := prune(w, rec, before.Unix()); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

func prune(w writer, rec *delegate.Record, before int64) error {
	for _, in := range rec.Inputs {
		if v, err := legibleVTXO(w, outpointKey(in.Outpoint)); err != nil {
			return err
		} else if v != nil && v.Fate != Unspent {
			if err := dropBranchOf(w, v); err != nil {
				return err
			}
		}
		if err := dropVTXO(w, outpointKey(in.Outpoint), before); err != nil {
			return err
		}
	}
	drop := func() error { return dropBranches(w, rec.ID, chainhash.Hash{}) } // kept so far as evidence
	if rec.State == delegate.Settled {
		drop = func() error { return pruneBranch(w, rec, before) }
	}
	if err := drop(); err != nil {
		return err
	}
	if err := index(w, rec, nil); err != nil {
		return err
	}
	return w.Delete(treeSessions, rec.ID[:])
}

// pruneBranch deletes the exit data of a renewal whose VTXOs are all gone.
func pruneBranch(w writer, rec *delegate.Record, before int64) error {
	for _, leaf := range rec.Leaves {
		v, err := loadVTXO(w, outpointKey(leaf))
		if errors.Is(err, ErrUnreadable) {
			return nil // it may be unspent
		}
		if err != nil {
			return err
		}
		if v != nil && v.Fate == Unspent && v.ExpiresAt >= before {
			return nil
		}
	}
	for _, leaf := range rec.Leaves {
		if err := dropVTXO(w, outpointKey(leaf), before); err != nil {
			return err
		}
	}
	return dropBranch(w, branchKey(rec.BranchOwner(), rec.Commitment))
}

// dropVTXO deletes the row of a VTXO that nobody covers and that is gone, or
// whose batch has expired.
func dropVTXO(w writer, key []byte, before int64) error {
	v, err := legibleVTXO(w, key) // nothing unreadable is deleted
	if err != nil || v == nil {
		return err
	}
	if _, ours, err := aliasOf(w, scriptAlias(v.Script)); err != nil || ours {
		return err // a wallet's VTXOs go with its syncs: it may still claim this one
	}
	nobody := v.Cover == (vigil.DelegateID{}) && v.Next == (vigil.DelegateID{})
	if !nobody || v.Fate == Unspent && v.ExpiresAt >= before {
		return nil
	}
	return w.Delete(treeVTXOs, key)
}
