package ledger

import (
	"bytes"
	"context"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Watching returns at most limit delegates that have not ended and wait for
// commitments of failed attempts, and the cursor to go on with: nil when there are
// no more. It reads no other records.
func (l *Ledger) Watching(ctx context.Context, limit int, from Cursor) ([]*delegate.Record, Cursor, error) {
	var records []*delegate.Record
	var rest Cursor
	err := l.view(ctx, func(r reader) error {
		records, rest = nil, nil
		return r.Scan(treeWatching, from, nil, func(key, _ []byte, damage error) error {
			if len(records) == limit {
				rest = bytes.Clone(key)
				return kv.ErrStop
			}
			if damage == nil && len(key) != idSize {
				damage = r.damaged(treeWatching, key, errKey)
			}
			if damage != nil {
				return nil // marked
			}
			rec, damage, err := recordOrDamage(r, vigil.DelegateID(key))
			if damage == nil && err == nil {
				records = append(records, rec)
			}
			return err
		})
	})
	return records, rest, err
}

// dropDead deletes the branches of commitments that left the watch list because
// they can never confirm.
func (t *transition) dropDead(cur, rec *delegate.Record, dead []chainhash.Hash) error {
	for _, w := range cur.Watch {
		for _, commitment := range dead {
			if w.Commitment != commitment || rec.Commitment == commitment {
				continue
			}
			if err := dropBranch(t.w, branchKey(w.Branch, commitment)); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexWatching makes the rows of the watching tree, which the first schema lacked.
func indexWatching(w kv.Writer) error {
	return rewrite(w, treeSessions, func(key, stored []byte) error {
		value, err := unseal(treeSessions, key, stored)
		if err != nil || len(key) != idSize {
			return nil // fsck tells
		}
		rec, err := decodeRecord(vigil.DelegateID(key), value)
		if err != nil || !derived(rec)[treeKey{treeWatching, string(key)}] {
			return nil
		}
		return w.Put(treeWatching, key, seal(treeWatching, key, nil))
	})
}
