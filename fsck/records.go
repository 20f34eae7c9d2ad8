package fsck

import (
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

func missing(err error) bool    { return errors.Is(err, ledger.ErrNotFound) }
func unreadable(err error) bool { return errors.Is(err, ledger.ErrUnreadable) }

func (c *check) records() error {
	return c.snapshot.Records(func(rec *delegate.Record) error {
		c.report.Records++
		c.counts[rec.State]++
		for _, part := range []func(*delegate.Record) error{c.indexes, c.signed, c.cover, c.branch, c.ended, c.walletOf} {
			if err := part(rec); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *check) indexes(rec *delegate.Record) error {
	rows, err := c.snapshot.MissingRows(rec)
	for _, row := range rows {
		c.find(Fault, "index", rec.ID, fixIndex, "in %s it lacks the row %s", rec.State, row)
	}
	return err
}

// signed checks that what a live delegate needs to be carried out is there.
func (c *check) signed(rec *delegate.Record) error {
	if rec.Kind == delegate.Stock && rec.ID != delegate.StockID(rec.ProofTxid) {
		c.find(Fault, "id", rec.ID, fixBug, "it is not the id of its proof")
	}
	if len(rec.Inputs) == 0 {
		c.find(Fault, "inputs", rec.ID, fixBug, "it renews nothing")
	}
	if rec.State.Ended() {
		return nil
	}
	c.report.Live++
	if len(rec.Proof) == 0 || rec.Message == "" {
		c.find(Fault, "proof", rec.ID, fixRestore, "in %s its signed proof is gone", rec.State)
	}
	return nil
}

// cover checks that the VTXOs of an open delegate are under it and no other.
func (c *check) cover(rec *delegate.Record) error {
	if rec.State.Ended() {
		return nil
	}
	for _, in := range rec.Inputs {
		v, err := c.snapshot.VTXO(in.Outpoint)
		if unreadable(err) {
			continue // reported with the rows
		}
		if err != nil {
			return err
		}
		switch {
		case rec.State == delegate.Pending:
			if v == nil || v.Next != rec.ID {
				c.find(Fault, "next", in.Outpoint, fixIndex, "delegate %s waits to renew it, and it does not say so", rec.ID)
			}
		case v == nil || v.Cover != rec.ID:
			c.find(Fault, "cover", in.Outpoint, fixIndex, "delegate %s in %s renews it, and it is not under that", rec.ID, rec.State)
		case v.Fate != ledger.Unspent:
			c.find(Fault, "fate", in.Outpoint, fixBug, "it is gone, and delegate %s in %s still renews it", rec.ID, rec.State)
		}
	}
	if rec.State != delegate.Pending {
		return nil
	}
	if len(rec.Replaces) == 0 {
		c.find(Fault, "pending", rec.ID, fixBug, "it waits for nothing")
	}
	for _, older := range rec.Replaces {
		newer, ok, err := c.snapshot.PendingFor(older)
		if unreadable(err) {
			continue
		}
		if err != nil {
			return err
		}
		if !ok || newer != rec.ID {
			c.find(Fault, "pending", rec.ID, fixIndex, "it waits for %s, which does not know of it", older)
		}
	}
	return nil
}

// branch checks that forfeits never left, or may have left, without exit data.
func (c *check) branch(rec *delegate.Record) error {
	for _, w := range rec.Watch {
		if w.Commitment == (chainhash.Hash{}) {
			c.find(Fault, "watch", rec.ID, fixBug, "it watches no commitment")
		}
	}
	switch rec.State {
	case delegate.Submitted, delegate.Unconfirmed, delegate.Settled:
	default:
		return nil
	}
	if rec.Commitment == (chainhash.Hash{}) {
		c.find(Fault, "commitment", rec.ID, fixBug, "in %s it names no commitment", rec.State)
		return nil
	}
	has, err := c.snapshot.HasBranch(rec.BranchOwner(), rec.Commitment)
	if err != nil || has {
		return err
	}
	if rec.State == delegate.Submitted {
		c.find(Fault, "branch", rec.ID, fixBug, "its forfeits may have left and the branch of %s is not stored", rec.Commitment)
		return nil
	}
	// Exit data is deleted with the last VTXO of it, and a delegate without
	// forfeits may be settled by a batch that ended without us.
	needed, err := c.unspent(rec.Leaves)
	if err == nil && (needed || rec.State == delegate.Unconfirmed) {
		c.find(Note, "branch", rec.ID, "Fetch it from the operator's indexer while that answers.", "the branch of %s is not stored", rec.Commitment)
	}
	return err
}

// unspent says whether one of the outpoints is a VTXO that is not spent.
func (c *check) unspent(outpoints []wire.OutPoint) (bool, error) {
	for _, op := range outpoints {
		v, err := c.snapshot.VTXO(op)
		if err != nil && !unreadable(err) {
			return false, err
		}
		if v != nil && v.Fate == ledger.Unspent {
			return true, nil
		}
	}
	return false, nil
}

// ended checks what an end leaves: history of the settled, tombstones of those
// whose inputs are not spent.
func (c *check) ended(rec *delegate.Record) error {
	switch rec.State {
	case delegate.Settled:
		has, err := c.snapshot.HasHistory(rec)
		if err == nil && !has {
			c.find(Fault, "history", rec.ID, fixIndex, "it is settled and the history does not say so")
		}
		return err
	case delegate.Replaced, delegate.Cancelled, delegate.Expired:
		for _, in := range rec.Inputs {
			has, err := c.snapshot.Buried(in.Outpoint, rec.ID)
			if err != nil {
				return err
			}
			if !has {
				c.find(Fault, "tombstone", rec.ID, fixIndex, "in %s it lacks the tombstone over %s", rec.State, in.Outpoint)
			}
		}
	}
	return nil
}
