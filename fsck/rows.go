package fsck

import (
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

func (c *check) vtxos() error {
	return c.snapshot.VTXOs(func(v *ledger.VTXO) error {
		c.report.VTXOs++
		if err := c.held(v); err != nil {
			return err
		}
		if err := c.under(v, v.Cover, "under", func(s delegate.State) bool { return !s.Ended() && s != delegate.Pending }); err != nil {
			return err
		}
		return c.under(v, v.Next, "to be under", func(s delegate.State) bool { return s == delegate.Pending })
	})
}

// under checks that the delegate a VTXO names renews it, in a state that fits.
func (c *check) under(v *ledger.VTXO, id vigil.DelegateID, how string, fits func(delegate.State) bool) error {
	if id == (vigil.DelegateID{}) {
		return nil
	}
	rec, err := c.snapshot.Record(id)
	switch {
	case missing(err):
		c.find(Fault, "cover", v.Outpoint, fixIndex, "it is %s %s, which does not exist", how, id)
	case unreadable(err): // reported with the rows
	case err != nil:
		return err
	case !fits(rec.State) || !rec.Spends(v.Outpoint):
		c.find(Fault, "cover", v.Outpoint, fixIndex, "it is %s %s, which is %s or does not renew it", how, id, rec.State)
	}
	return nil
}

func (c *check) pending() error {
	return c.snapshot.Pending(func(older, newer vigil.DelegateID) error {
		rec, err := c.snapshot.Record(newer)
		switch {
		case missing(err) || err == nil && (rec.State != delegate.Pending || !slices.Contains(rec.Replaces, older)):
			c.find(Fault, "pending", older, fixIndex, "it is to be replaced by %s, which does not wait for it", newer)
		case err != nil && !unreadable(err):
			return err
		}
		rec, err = c.snapshot.Record(older)
		switch {
		case missing(err) || err == nil && rec.State.Ended():
			c.find(Fault, "pending", newer, fixIndex, "it waits for %s, which is over", older)
		case err != nil && !unreadable(err):
			return err
		}
		return nil
	})
}

func (c *check) tombstones() error {
	return c.snapshot.Tombstones(func(op wire.OutPoint, id vigil.DelegateID) error {
		rec, err := c.snapshot.Record(id)
		if err != nil && !missing(err) && !unreadable(err) {
			return err
		}
		buried := rec != nil && rec.Spends(op) &&
			(rec.State == delegate.Replaced || rec.State == delegate.Cancelled || rec.State == delegate.Expired)
		if !buried && !unreadable(err) {
			c.find(Fault, "tombstone", op, fixIndex, "nothing of %s is buried over it", id)
		}
		return nil
	})
}

func (c *check) branches() error {
	return c.snapshot.Branches(func(b *delegate.Branch) error {
		c.report.Branches++
		_, err := c.snapshot.Record(b.Delegate)
		if !missing(err) {
			if unreadable(err) {
				err = nil
			}
			return err
		}
		// The branch of a replaced delegate outlives it when its commitment counted.
		needed, err := c.unspent(b.Leaves)
		if err == nil && !needed {
			c.find(Fault, "branch", b.Delegate, fixBug, "a branch of %s is left of a delegate that is gone", b.Commitment)
		}
		return err
	})
}

// history checks that every line tells what its record says; the record may
// have been pruned.
func (c *check) history() error {
	return c.snapshot.History(func(e *ledger.Entry) error {
		rec, err := c.snapshot.Record(e.Delegate)
		switch {
		case missing(err) || unreadable(err):
		case err != nil:
			return err
		case rec.State != delegate.Settled || rec.Commitment != e.Commitment:
			c.find(Fault, "history", e.Delegate, fixBug, "the history says settled by %s, the record does not", e.Commitment)
		case rec.StateSince != e.At:
			c.find(Fault, "history", e.Delegate, fixBug, "the history says settled at %d, the record at %d: it stands there twice", e.At, rec.StateSince)
		}
		return nil
	})
}
