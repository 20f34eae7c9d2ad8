package ledger

import (
	"errors"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// wake looks after the newer delegate that waits for rec, if there is one.
func (t *transition) wake(rec *delegate.Record) error {
	if rec.State.InFlight() {
		return nil
	}
	b, err := t.w.Get(treePending, rec.ID[:])
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return nil
	case err == nil && len(b) == idSize:
	case err == nil, errors.Is(err, ErrUnreadable):
		if b, err = t.next(rec); err != nil {
			return err
		}
	default:
		return err
	}
	newer, err := load(t.w, vigil.DelegateID(b))
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return t.w.Delete(treePending, rec.ID[:]) // it can never take over; it is marked
	}
	if err != nil {
		return err
	}
	if newer.State != delegate.Pending {
		return t.w.Delete(treePending, rec.ID[:]) // a row that outlived its wait
	}
	switch rec.State {
	case delegate.Settled, delegate.Spent:
		_, err = t.step(newer, &Change{Prev: newer, Event: delegate.InputSpent})
	case delegate.Broken:
		_, err = t.step(newer, &Change{Prev: newer, Event: delegate.InputUnrolled})
	default:
		if rec.State.Ended() {
			if newer, err = t.stopWaiting(newer, rec.ID); err != nil {
				return err
			}
		}
		err = t.promote(newer)
	}
	return err
}

// next finds the newer delegate that waits for rec by their coins, where the row
// that names it cannot be read. It returns zeros when there is none.
func (t *transition) next(rec *delegate.Record) ([]byte, error) {
	var newer vigil.DelegateID
	for _, in := range rec.Inputs {
		v, err := legibleVTXO(t.w, outpointKey(in.Outpoint))
		if err != nil {
			return nil, err
		}
		if v != nil && v.Next != (vigil.DelegateID{}) {
			newer = v.Next
		}
	}
	return newer[:], nil
}

// orphan lets the newer delegate that waits for one that cannot be read take over:
// no event of the older will come.
func (t *transition) orphan(older vigil.DelegateID) error {
	b, err := t.w.Get(treePending, older[:])
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return nil
	}
	if err != nil || len(b) != idSize {
		return err
	}
	newer, err := load(t.w, vigil.DelegateID(b))
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return nil
	}
	if err != nil || newer.State != delegate.Pending {
		return err
	}
	return t.promote(newer)
}

// given returns what must be watched of a delegate that cannot be read: its
// branches tell for which commitments it may have given forfeits.
func (t *transition) given(lost vigil.DelegateID) ([]delegate.Watched, error) {
	var watch []delegate.Watched
	err := t.w.Scan(treeBranches, lost[:], after(lost[:]), func(key, value []byte, damage error) error {
		if damage != nil {
			return nil
		}
		b, err := decodeBranch(key, value)
		if err != nil {
			_ = t.w.damaged(treeBranches, key, err)
			return nil
		}
		watch = append(watch, delegate.Watched{Commitment: b.Commitment, Since: t.at, Branch: lost})
		return nil
	})
	return watch, err
}

// stopWaiting takes an older delegate that is over off newer's list.
func (t *transition) stopWaiting(newer *delegate.Record, older vigil.DelegateID) (*delegate.Record, error) {
	if err := t.w.Delete(treePending, older[:]); err != nil {
		return nil, err
	}
	return t.step(newer, &Change{Prev: newer, Event: delegate.Note, Mutate: func(r *delegate.Record) {
		r.Replaces = slices.DeleteFunc(r.Replaces, func(id vigil.DelegateID) bool { return id == older })
	}})
}

// forget removes the rows by which the older ones find a pending delegate.
func (t *transition) forget(newer *delegate.Record) error {
	for _, id := range newer.Replaces {
		if err := t.w.Delete(treePending, id[:]); err != nil {
			return err
		}
	}
	return nil
}

// promote arms a pending delegate in the place of its older ones, unless one of
// them is still in flight.
func (t *transition) promote(newer *delegate.Record) error {
	var olders []*delegate.Record
	var watch []delegate.Watched
	for _, id := range newer.Replaces {
		older, err := load(t.w, id)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
			lost, err := t.given(id)
			if err != nil {
				return err
			}
			watch = append(watch, lost...)
			continue
		}
		if err != nil {
			return err
		}
		if older.State.InFlight() {
			return nil
		}
		olders = append(olders, older)
	}
	armed, err := t.step(newer, &Change{Prev: newer, Event: delegate.Promote, Mutate: func(r *delegate.Record) {
		r.Replaces = nil
		r.AddWatched(watch...)
		for _, older := range olders {
			r.AddWatched(older.Watch...)
		}
	}})
	if err != nil {
		return err
	}
	for _, older := range olders {
		if err := t.replace(older, newer.ID); err != nil {
			return err
		}
	}
	return cover(t.w, armed)
}

// replace ends older in favour of newer.
func (t *transition) replace(older *delegate.Record, newer vigil.DelegateID) error {
	if older.State.Ended() {
		return nil
	}
	_, err := t.step(older, &Change{Prev: older, Event: delegate.Replace, Mutate: func(r *delegate.Record) { r.ReplacedBy = newer }})
	return err
}
