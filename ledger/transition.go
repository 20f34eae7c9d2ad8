package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/delegate"
)

// transition is one change being written.
type transition struct {
	w       writer
	at      int64
	garbage func(*delegate.Record) []string
}

func (l *Ledger) transition(w writer) *transition {
	return &transition{w: w, at: l.now().Unix(), garbage: l.garbage}
}

// change carries out c. What speaks against it is found before anything is
// written and is in the outcome; the error is that of a write begun, which
// undoes everything.
func (t *transition) change(c *Change) (Outcome, error) {
	cur, err := load(t.w, c.Prev.ID)
	if err == nil && cur.Version != c.Prev.Version {
		err = fmt.Errorf("%w: %s is at version %d, not %d", ErrConflict, cur.ID, cur.Version, c.Prev.Version)
	}
	var rec *delegate.Record
	if err == nil {
		rec, err = t.advance(cur, c)
	}
	if err != nil {
		if refusal(err) {
			return Outcome{Record: cur, Err: err}, nil
		}
		return Outcome{}, err
	}
	if err := t.enact(cur, rec, c); err != nil {
		return Outcome{}, err
	}
	if rec.State.InFlight() {
		return Outcome{Record: rec}, nil // whoever waits for its end goes on waiting
	}
	if err := t.wake(rec); err != nil {
		return Outcome{}, err
	}
	if rec, err = load(t.w, rec.ID); err != nil {
		return Outcome{}, err
	}
	if rec.State == delegate.Due && rec.CancelWanted {
		if rec, err = t.step(rec, &Change{Prev: rec, Event: delegate.Cancel}); err == nil {
			err = t.wake(rec)
		}
	}
	return Outcome{Record: rec}, err
}

// step takes a record along one edge that the ledger itself decides on.
func (t *transition) step(cur *delegate.Record, c *Change) (*delegate.Record, error) {
	rec, err := t.advance(cur, c)
	if err != nil {
		return nil, err
	}
	return rec, t.enact(cur, rec, c)
}

// enact writes the record after a change and all that hangs on it.
func (t *transition) enact(cur, rec *delegate.Record, c *Change) error {
	if cur.State == delegate.Pending && rec.State != delegate.Pending {
		if err := t.forget(cur); err != nil {
			return err
		}
		if err := uncover(t.w, cur, nil, t.at); err != nil {
			return err
		}
	}
	if c.Branch != nil {
		if err := keepBranch(t.w, c.Branch); err != nil {
			return err
		}
	}
	if err := t.dropDead(cur, rec, c.Dead); err != nil {
		return err
	}
	if rec.State.Ended() {
		if err := t.end(rec, c); err != nil {
			return err
		}
	}
	if err := write(t.w, cur, rec); err != nil {
		return err
	}
	if err := appendAudit(t.w, c.Audit...); err != nil {
		return err
	}
	names := c.Garbage
	if rec.State.Ended() {
		names = append(slices.Clone(names), t.garbage(rec)...)
	}
	for _, name := range names {
		if err := putRow(t.w, treeSecretGC, []byte(name), &Garbage{Delegate: rec.ID, Since: t.at}); err != nil {
			return err
		}
	}
	return nil
}

// advance computes the record after the change, without writing. Whatever of
// the caller's could not be stored is found here.
func (t *transition) advance(cur *delegate.Record, c *Change) (*delegate.Record, error) {
	to, err := delegate.Next(cur.State, c.Event)
	if err != nil {
		return nil, fmt.Errorf("delegate %s: %w", cur.ID, err)
	}
	rec := cur.Clone()
	if c.Mutate != nil {
		c.Mutate(rec)
	}
	rec.Watch = slices.DeleteFunc(rec.Watch, func(w delegate.Watched) bool { return slices.Contains(c.Dead, w.Commitment) })
	rec.ID, rec.Kind, rec.State, rec.Version = cur.ID, cur.Kind, to, cur.Version+1
	if to != cur.State {
		rec.StateSince = t.at
	}
	switch c.Event {
	case delegate.Submit:
		if c.Branch == nil || c.Branch.Delegate != cur.ID || c.Branch.Commitment == (chainhash.Hash{}) {
			return nil, fmt.Errorf("%w: delegate %s", ErrNoBranch, cur.ID)
		}
		rec.Commitment, rec.Leaves = c.Branch.Commitment, c.Branch.Leaves
	case delegate.NotFinalized, delegate.Conflict:
		rec.Commitment = cur.Commitment
		rec.WatchCommitment(t.at)
		rec.Leaves = nil
	case delegate.Late:
		if !cur.Watches(rec.Commitment) {
			return nil, fmt.Errorf("%w: %s of delegate %s", ErrNotWatched, rec.Commitment, cur.ID)
		}
		if cur.Commitment != rec.Commitment {
			late := rec.Commitment
			rec.Commitment = cur.Commitment
			rec.WatchCommitment(t.at)
			rec.Commitment = late
		}
		if err := t.recallLeaves(rec); err != nil {
			return nil, err
		}
	}
	if _, err := rec.Encode(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnencodable, err)
	}
	if c.Branch != nil {
		if _, err := c.Branch.Encode(); err != nil {
			return nil, fmt.Errorf("%w: branch of %s: %w", errUnencodable, cur.ID, err)
		}
	}
	return rec, nil
}

// recallLeaves takes the leaves of a record's commitment from the stored branch,
// if that can be read; one that cannot is marked.
func (t *transition) recallLeaves(rec *delegate.Record) error {
	branch, err := loadBranch(t.w, rec.BranchOwner(), rec.Commitment)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return nil
	}
	if err == nil {
		rec.Leaves = branch.Leaves
	}
	return err
}

// end does what goes with an end: the inputs' fate, history, tombstones.
func (t *transition) end(rec *delegate.Record, c *Change) error {
	gone := make(map[wire.OutPoint]Gone, len(rec.Inputs))
	for _, g := range c.Gone {
		gone[g.Outpoint] = g
	}
	if rec.State == delegate.Settled {
		for _, in := range rec.Inputs {
			gone[in.Outpoint] = Gone{Outpoint: in.Outpoint, By: rec.Commitment.String()}
		}
		if err := t.settle(rec, c.Leaves); err != nil {
			return err
		}
	}
	rec.Entomb()
	if err := uncover(t.w, rec, gone, t.at); err != nil {
		return err
	}
	var keep chainhash.Hash
	if rec.State == delegate.Settled {
		keep = rec.Commitment
	}
	for _, g := range gone {
		if err := exhume(t.w, g, keep, t.at); err != nil {
			return err
		}
	}
	switch {
	case buries(rec.State):
		return bury(t.w, rec)
	case rec.State == delegate.Settled:
		return dropBranches(t.w, rec.ID, rec.Commitment)
	}
	// Spent and unrolled are the operator's words. It holds a forfeit for every
	// branch here, and the owner's claim to what he gave it for is the branch.
	return nil
}

// settle writes the VTXOs that the commitment made and the line of history.
func (t *transition) settle(rec *delegate.Record, leaves []VTXO) error {
	for i := range leaves {
		leaf := leaves[i]
		key := outpointKey(leaf.Outpoint)
		known, err := legibleVTXO(t.w, key)
		if err != nil {
			return err
		}
		if known != nil { // delegated again before its commitment confirmed
			leaf.Cover, leaf.Fate, leaf.SpentBy, leaf.FateAt = known.Cover, known.Fate, known.SpentBy, known.FateAt
		}
		leaf.Origin, leaf.Commitment = rec.BranchOwner(), rec.Commitment
		if err := putRow(t.w, treeVTXOs, key, &leaf); err != nil {
			return err
		}
	}
	if rec.Kind == delegate.Wallet {
		if err := t.renewed(rec, leaves); err != nil {
			return err
		}
	}
	return putRow(t.w, treeHistory, historyKey(rec, t.at), settledLine(rec))
}

// settledLine is what the history says of a settled delegate.
func settledLine(rec *delegate.Record) *Entry {
	return &Entry{
		Type: "settle", Delegate: rec.ID, Commitment: rec.Commitment, Inputs: rec.Outpoints(),
		Leaves: rec.Leaves, Amount: rec.InputAmount(), Fee: rec.Fee, At: rec.StateSince,
	}
}
