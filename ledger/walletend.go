package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// ErrInFlight refuses the deletion of a wallet of which a delegate is being
// carried out: it ends within minutes.
var ErrInFlight = errors.New("ledger: a delegate is in flight")

// DeleteWallet deletes a wallet that is as prev says, with everything of it: every
// row, index, alias and token; its secrets are garbage. It begins with one write
// that bars the wallet and cancels its delegates, and goes on in pages; what a
// crash leaves of them, Dismantle takes up. Extras go with the first write.
// Errors are ErrConflict, ErrNotFound and ErrInFlight.
func (l *Ledger) DeleteWallet(ctx context.Context, prev *Wallet, x Extras) error {
	err := l.update(ctx, func(w writer) error {
		cur, err := unchanged(w, prev)
		if err != nil || cur.State == WalletDeleting {
			return err
		}
		t := l.transition(w)
		open, err := openDelegates(w, cur)
		if err != nil {
			return err
		}
		for _, rec := range open {
			if rec.State.InFlight() || rec.State == delegate.Pending {
				return fmt.Errorf("%w: %s is %s", ErrInFlight, rec.ID, rec.State)
			}
			if _, err := t.step(rec, &Change{Prev: rec, Event: delegate.Cancel}); err != nil {
				return err
			}
		}
		next := cur.Clone()
		next.State, next.Version = WalletDeleting, cur.Version+1
		if err := writeWallet(w, cur, next); err != nil {
			return err
		}
		if err := w.Put(treeDeleting, cur.ID[:], nil); err != nil {
			return err
		}
		return x.write(w, cur.ID, t.at)
	})
	for more := true; err == nil && more; {
		more, err = l.dismantle(ctx, prev.ID)
	}
	return err
}

// Dismantle goes on with the deletions that a crash cut short, and returns how
// many wallets it ended.
func (l *Ledger) Dismantle(ctx context.Context) (int, error) {
	var ids [][]byte
	err := l.view(ctx, func(r reader) (err error) {
		ids, err = keysOf(r, treeDeleting, nil, nil, -1)
		return err
	})
	for n, id := range ids {
		if len(id) != walletSize {
			continue // marked; fsck tells
		}
		for more := true; more; {
			if more, err = l.dismantle(ctx, vigil.WalletID(id)); err != nil {
				return n, err
			}
		}
	}
	return len(ids), err
}

// strip is one page of a deletion.
type strip struct {
	t     *transition
	owner *Wallet
	left  int      // rows that may still be deleted in this write
	lost  [][]byte // ids of records that could not be read
}

// dismantle deletes one page of a wallet's rows and says whether there are more.
func (l *Ledger) dismantle(ctx context.Context, id vigil.WalletID) (more bool, err error) {
	const page = 512
	var lost [][]byte
	err = l.update(ctx, func(w writer) error {
		more, lost = false, nil
		owner, err := loadWallet(w, id)
		if errors.Is(err, ErrNotFound) {
			return w.Delete(treeDeleting, id[:])
		}
		if err != nil {
			return err
		}
		s := &strip{t: l.transition(w), owner: owner, left: page}
		for _, part := range []func() error{s.delegates, s.holdings, s.plans, s.requests, s.rows} {
			if err := part(); err != nil {
				return err
			}
			if lost = s.lost; s.left <= 0 {
				more = true
				return nil
			}
		}
		return s.last()
	})
	if err == nil && (len(lost) > 0 || !more) {
		err = l.unmark(ctx, append(lost, id[:]))
	}
	return more, err
}

// unmark takes away the marks of rows that are gone for good: those whose keys hold
// one of the ids. It follows the write that met them, which marks them.
func (l *Ledger) unmark(ctx context.Context, ids [][]byte) error {
	var keys [][]byte
	find := func(r reader) error {
		keys = nil
		return r.Scan(treeUnreadable, nil, nil, func(key, _ []byte, _ error) error {
			if slices.ContainsFunc(ids, func(id []byte) bool { return bytes.Contains(key, id) }) {
				keys = append(keys, append([]byte(nil), key...))
			}
			return nil
		})
	}
	if err := l.view(ctx, find); err != nil || len(keys) == 0 {
		return err
	}
	return l.update(ctx, func(w writer) error {
		for _, key := range keys {
			if err := w.Delete(treeUnreadable, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// delegates deletes the records over the wallet's scripts, with their indexes,
// branches and tombstones.
func (s *strip) delegates() error {
	for _, script := range s.owner.Scripts {
		for _, class := range []byte{classOpen, classEnded} {
			ids, err := delegatesOver(s.t.w, script, class, max(s.left, 0))
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := s.delegate(id, scriptKey(script, class, id)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// delegate deletes one record, also one that cannot be read; row is how it was
// found.
func (s *strip) delegate(id vigil.DelegateID, row []byte) error {
	s.left--
	w := s.t.w
	rec, err := load(w, id)
	switch {
	case err == nil:
		if err := index(w, rec, nil); err != nil {
			return err
		}
		for _, in := range rec.Inputs {
			if err := w.Delete(treeTombstones, tombstoneKey(in.Outpoint, id)); err != nil {
				return err
			}
		}
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnreadable):
		rec = &delegate.Record{ID: id, Kind: delegate.Wallet}
		s.lost = append(s.lost, append([]byte(nil), id[:]...))
		if err := s.sweep(id[:], treeDue, treeExpiries, treeEnded, treeTombstones); err != nil {
			return err
		}
	default:
		return err
	}
	if err := s.discard(s.t.garbage(rec)...); err != nil {
		return err
	}
	if err := s.branches(id); err != nil {
		return err
	}
	for tree, key := range map[string][]byte{treeSessions: id[:], treePending: id[:], treeFlight: id[:], treeWatching: id[:], treeScripts: row} {
		if err := w.Delete(tree, key); err != nil {
			return err
		}
	}
	return nil
}

// branches deletes every branch stored under an id, also one that cannot be read.
func (s *strip) branches(id vigil.DelegateID) error {
	keys, err := keysOf(s.t.w, treeBranches, id[:], after(id[:]), -1)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if len(key) != idSize+chainhash.HashSize {
			err = s.t.w.Delete(treeBranches, key)
		} else {
			err = dropBranch(s.t.w, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep deletes the index rows of something that cannot be read: nothing else tells
// their keys than that they end with its own.
func (s *strip) sweep(end []byte, trees ...string) error {
	for _, tree := range trees {
		var keys [][]byte
		err := s.t.w.Scan(tree, nil, nil, func(key, _ []byte, _ error) error {
			if bytes.HasSuffix(key, end) {
				keys = append(keys, append([]byte(nil), key...))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := s.t.w.Delete(tree, key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *strip) discard(names ...string) error {
	for _, name := range names {
		if err := putRow(s.t.w, treeSecretGC, []byte(name), &Garbage{Since: s.t.at}); err != nil {
			return err
		}
	}
	return nil
}

// holdings deletes the VTXOs, and the branches of renewals whose records are
// gone.
func (s *strip) holdings() error {
	keys, err := s.keys(treeHoldings)
	if err != nil {
		return err
	}
	for _, key := range keys {
		v, err := legibleVTXO(s.t.w, key[walletSize:])
		if err != nil {
			return err
		}
		if v != nil && v.Origin != (vigil.DelegateID{}) {
			if err := s.branches(v.Origin); err != nil {
				return err
			}
		}
		if err := s.t.w.Delete(treeVTXOs, key[walletSize:]); err != nil {
			return err
		}
		if err := s.t.w.Delete(treeHoldings, key); err != nil {
			return err
		}
	}
	return nil
}

// keys lists a page of the wallet's rows in a tree.
func (s *strip) keys(tree string) ([][]byte, error) {
	id := s.owner.ID
	keys, err := keysOf(s.t.w, tree, id[:], after(id[:]), max(s.left, 0))
	s.left -= len(keys)
	return keys, err
}

// plans makes garbage of what was prepared.
func (s *strip) plans() error {
	keys, err := s.keys(treePrepared)
	if err != nil {
		return err
	}
	for _, key := range keys {
		b, err := s.t.w.Get(treePrepared, key)
		if err != nil && !errors.Is(err, ErrUnreadable) {
			return err
		}
		p, decoded := decodePlan(key, b)
		if err == nil && decoded == nil {
			err = s.t.w.Delete(treeLapses, lapseKey(p.NotBefore, key))
		} else {
			p, err = new(Plan), s.sweep(key, treeLapses)
		}
		if err == nil {
			err = s.discard(p.Secrets...)
		}
		if err != nil {
			return err
		}
		if err := s.t.w.Delete(treePrepared, key); err != nil {
			return err
		}
	}
	return nil
}

// requests forgets the requests of the wallet and of its host keys. Others' are as
// fresh as they were: how far all have been forgotten does not change.
func (s *strip) requests() error {
	owners := [][]byte{s.owner.ID[:]}
	for _, e := range s.owner.Epochs {
		for _, host := range e.Hosts {
			owners = append(owners, host[:], memberOwner(host[:]))
		}
	}
	for _, owner := range owners {
		prefix := ownerPrefix(owner)
		keys, err := keysOf(s.t.w, treeReplay, prefix, after(prefix), max(s.left, 0))
		if err != nil {
			return err
		}
		s.left -= len(keys)
		var times [][]byte
		for _, key := range keys {
			row, err := loadBegun(s.t.w, key)
			switch {
			case errors.Is(err, ErrUnreadable):
				row = new(begun) // its time is not known; PruneReplay takes that
			case err != nil:
				return err
			}
			times = append(times, freshKey(row.Forget, key))
		}
		if _, err := forgetRequests(s.t.w, times); err != nil {
			return err
		}
	}
	return nil
}

// rows deletes what hangs on nothing else.
func (s *strip) rows() error {
	for _, tree := range []string{treeHistory, treeTokens, treeSpends, treePolicies} {
		keys, err := s.keys(tree)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := s.t.w.Delete(tree, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// last deletes the wallet itself when nothing else of it is left.
func (s *strip) last() error {
	if err := s.discard(s.owner.Secrets...); err != nil {
		return err
	}
	if err := writeWallet(s.t.w, s.owner, nil); err != nil {
		return err
	}
	return s.t.w.Delete(treeDeleting, s.owner.ID[:])
}

// exists says whether there is a row of a wallet, readable or not.
func exists(r reader, id vigil.WalletID) (bool, error) {
	_, err := r.Get(treeWallets, id[:])
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return false, nil
	case errors.Is(err, ErrUnreadable):
		return true, nil
	}
	return err == nil, err
}
