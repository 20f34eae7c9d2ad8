package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// write stores a record and brings every index that is derived from it in step:
// due times, flights, watchers, expiries, ends, scripts and counts. before is nil for a new record. It
// is the only place that writes these trees.
func write(w writer, before, after *delegate.Record) error {
	b, err := after.Encode()
	if err != nil {
		return fmt.Errorf("delegate %s: %w", after.ID, err)
	}
	if err := w.Put(treeSessions, after.ID[:], b); err != nil {
		return err
	}
	return index(w, before, after)
}

// index moves the derived rows from before to after; either may be nil.
func index(w writer, before, after *delegate.Record) error {
	old, fresh := derived(before), derived(after)
	for key := range old {
		if !fresh[key] {
			if err := w.Delete(key.tree, []byte(key.key)); err != nil {
				return err
			}
		}
	}
	for key := range fresh {
		if !old[key] {
			if err := w.Put(key.tree, []byte(key.key), nil); err != nil {
				return err
			}
		}
	}
	switch {
	case before != nil && after != nil && before.State == after.State:
		return nil
	case before != nil:
		if err := addCount(w, before.State, -1); err != nil {
			return err
		}
	}
	if after == nil {
		return nil
	}
	return addCount(w, after.State, 1)
}

type treeKey struct{ tree, key string }

// derived lists the index rows that a record must have, and only those.
func derived(r *delegate.Record) map[treeKey]bool {
	rows := make(map[treeKey]bool)
	if r == nil {
		return rows
	}
	if at, ok := r.DueAt(); ok {
		rows[treeKey{treeDue, string(timeKey(at, r.ID))}] = true
	}
	if r.State.InFlight() {
		rows[treeKey{treeFlight, string(r.ID[:])}] = true
	}
	if len(r.Watch) > 0 && !r.State.Ended() {
		rows[treeKey{treeWatching, string(r.ID[:])}] = true
	}
	if at := r.Expiry(); at > 0 && !r.State.Ended() {
		rows[treeKey{treeExpiries, string(timeKey(at, r.ID))}] = true
	}
	switch r.State {
	case delegate.Settled, delegate.Spent, delegate.Broken:
		rows[treeKey{treeEnded, string(timeKey(r.StateSince, r.ID))}] = true
	}
	for _, in := range r.Inputs {
		rows[treeKey{treeScripts, string(scriptKey(in.Script, classOf(r.State), r.ID))}] = true
	}
	return rows
}

// addCount counts on from nothing where the row cannot be read: a number for the
// metrics must hold up no transition, and fsck counts again.
func addCount(w writer, s delegate.State, by int64) error {
	n, err := readCount(w, s)
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	return w.Put(treeCounts, []byte{byte(s)}, encodeCount(uint64(max(int64(n)+by, 0))))
}

func readCount(r reader, s delegate.State) (uint64, error) {
	b, err := r.Get(treeCounts, []byte{byte(s)})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := decodeCount(b)
	if err != nil {
		return 0, r.damaged(treeCounts, []byte{byte(s)}, err)
	}
	return n, nil
}

// cover puts the record's inputs under it; a pending one is noted as the next.
func cover(w writer, r *delegate.Record) error {
	for _, in := range r.Inputs {
		key := outpointKey(in.Outpoint)
		v, err := legibleVTXO(w, key)
		if err != nil {
			return err
		}
		if v == nil {
			v = &VTXO{Outpoint: in.Outpoint}
		}
		v.Amount, v.Script, v.CreatedAt, v.ExpiresAt = in.Amount, in.Script, in.CreatedAt, in.ExpiresAt
		if r.State == delegate.Pending {
			v.Next = r.ID
		} else {
			v.Cover = r.ID
		}
		if err := putRow(w, treeVTXOs, key, v); err != nil {
			return err
		}
		if r.Kind == delegate.Wallet {
			if err := hold(w, r.Wallet, v, r.CreatedAt); err != nil {
				return err
			}
		}
	}
	return nil
}

// uncover takes the record off its inputs and notes what became of those that
// are gone; of an input that another delegate renews, that one's own end will
// tell. It deletes from gone what it has not noted.
func uncover(w writer, r *delegate.Record, gone map[wire.OutPoint]Gone, at int64) error {
	for _, in := range r.Inputs {
		key := outpointKey(in.Outpoint)
		v, err := legibleVTXO(w, key)
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		before := *v
		if v.Cover == r.ID {
			v.Cover = vigil.DelegateID{}
		}
		if v.Next == r.ID {
			v.Next = vigil.DelegateID{}
		}
		end, isGone := gone[in.Outpoint]
		if isGone && v.Cover != (vigil.DelegateID{}) {
			delete(gone, in.Outpoint)
			isGone = false
		}
		if isGone {
			v.Fate, v.SpentBy, v.FateAt = end.fate(), end.By, at
		}
		if v.Cover == before.Cover && v.Next == before.Next && !isGone {
			continue
		}
		if err := putRow(w, treeVTXOs, key, v); err != nil {
			return err
		}
		if isGone && r.State == delegate.Settled {
			// Anything else is said, and may be taken back: then the branch is still
			// the way to the coin. It is dropped when the record is pruned.
			if err := dropBranchOf(w, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropBranchOf deletes the branch of the renewal that made v once no VTXO of it
// is unspent: until then it is its owner's exit data.
func dropBranchOf(w writer, v *VTXO) error {
	if v.Origin == (vigil.DelegateID{}) {
		return nil
	}
	key := branchKey(v.Origin, v.Commitment)
	branch, err := loadBranch(w, v.Origin, v.Commitment)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return nil // nothing unreadable is deleted
	}
	if err != nil {
		return err
	}
	for _, leaf := range branch.Leaves {
		sibling, err := legibleVTXO(w, outpointKey(leaf))
		if err != nil {
			return err
		}
		if sibling != nil && sibling.Fate == Unspent {
			return nil
		}
	}
	return dropBranch(w, key)
}

// buries says whether a delegate that ended so leaves coins that are not spent.
func buries(s delegate.State) bool {
	return s == delegate.Replaced || s == delegate.Cancelled || s == delegate.Expired
}

// bury leaves tombstones for a record whose inputs are not spent: while they
// stand, an old body is known again.
func bury(w writer, r *delegate.Record) error {
	for _, in := range r.Inputs {
		if err := w.Put(treeTombstones, tombstoneKey(in.Outpoint, r.ID), nil); err != nil {
			return err
		}
	}
	return nil
}

// exhume deletes every buried record over a coin that was renewed: its body can
// never be accepted again. The branch of the commitment that spent it stays. When
// it is only said that something else spent it, the record is kept as ended by
// that, with its branches, until it is pruned: whoever says so may take it back,
// or hold back the commitment that its forfeits are for.
func exhume(w writer, g Gone, keep chainhash.Hash, at int64) error {
	var ids []vigil.DelegateID
	prefix := outpointKey(g.Outpoint)
	err := w.Scan(treeTombstones, prefix, after(prefix), func(key, _ []byte, damage error) error {
		if damage == nil && len(key) == len(prefix)+idSize {
			ids = append(ids, vigil.DelegateID(key[len(prefix):]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, err := load(w, id)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
			continue // marked
		}
		if err != nil {
			return err
		}
		for _, in := range r.Inputs {
			if err := w.Delete(treeTombstones, tombstoneKey(in.Outpoint, id)); err != nil {
				return err
			}
		}
		if keep == (chainhash.Hash{}) {
			if err := endBuried(w, r, g, at); err != nil {
				return err
			}
			continue
		}
		if err := index(w, r, nil); err != nil {
			return err
		}
		if err := dropBranches(w, id, keep); err != nil {
			return err
		}
		if err := w.Delete(treeSessions, id[:]); err != nil {
			return err
		}
	}
	return nil
}

// endBuried makes a buried record one that ended by its coin's fate.
func endBuried(w writer, r *delegate.Record, g Gone, at int64) error {
	ended := r.Clone()
	ended.State, ended.StateSince, ended.Version = delegate.Spent, at, r.Version+1
	if g.Unrolled {
		ended.State = delegate.Broken
	}
	return write(w, r, ended)
}

// dropBranches deletes the branches stored under id, but that of keep.
func dropBranches(w writer, id vigil.DelegateID, keep chainhash.Hash) error {
	var keys [][]byte
	err := w.Scan(treeBranches, id[:], after(id[:]), func(key, _ []byte, damage error) error {
		if damage == nil && !bytes.Equal(key, branchKey(id, keep)) {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := dropBranch(w, key); err != nil {
			return err
		}
	}
	return nil
}
