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
	b, err := t.w.Get(treePending, rec.ID[:])
	if errors.Is(err, kv.ErrNotFound) || rec.State.InFlight() {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) != idSize {
		return t.w.Delete(treePending, rec.ID[:])
	}
	newer, err := load(t.w, vigil.DelegateID(b))
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return t.w.Delete(treePending, rec.ID[:]) // it can never take over; fsck reports it
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
	for _, id := range newer.Replaces {
		older, err := load(t.w, id)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
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
