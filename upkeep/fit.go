package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

// Records is the ledger's side of Fit.
type Records interface {
	List(ctx context.Context, f ledger.Filter, limit int, from ledger.Cursor) ([]*delegate.Record, ledger.Cursor, error)
	Delegate(ctx context.Context, id vigil.DelegateID) (*delegate.Record, error)
	Apply(ctx context.Context, changes ...ledger.Change) ([]ledger.Outcome, error)
}

// Announcer tells the Ark operator's parameters; *operator.Client implements it.
type Announcer interface {
	Info(ctx context.Context) (ark.Params, error)
}

// Fit holds every waiting record to the operator's parameters, and its next attempt
// to the clock: at the first run, whenever the parameters changed, and after Again.
// What no longer fits is noted in the record, where its owner sees it; the record
// stays armed, since parameters may be set back and an expired coin needs no forfeit.
// What is in flight is the engine's.
type Fit struct {
	Records  Records
	Operator Announcer
	// Observe is told how many records have each misfit; nil: nobody is.
	Observe func(misfits map[string]int)
	// Hurry is told that attempts were brought forward; nil: nobody is.
	Hurry func()
	Log   *slog.Logger
	Now   func() time.Time

	checked string // the digest that every record was held to
	again   atomic.Bool
}

// Again has the next run look at every record, also when the parameters are those
// that were seen: the clock was set back, and what was noted while it ran ahead
// lies too far off. It may be called at any time.
func (f *Fit) Again() { f.again.Store(true) }

// stint is how many records are looked at, and written in one go, between two
// rests. Each rest is as long as the stint took, so that at most half of one
// core is used.
const stint = 256

// sweep is one look at every record.
type sweep struct {
	*Fit
	params  ark.Params
	fees    *fee.Estimator
	counts  map[string]int
	hurried bool // an attempt was brought forward
}

// Run asks for the parameters and, when they are new, looks at every record. It
// must not run twice at a time.
func (f *Fit) Run(ctx context.Context) error {
	p, err := f.Operator.Info(ctx)
	if err != nil {
		return err
	}
	if f.again.Swap(false) {
		f.checked = ""
	}
	if p.Digest == f.checked && f.checked != "" {
		return nil
	}
	fees, err := fee.Compile(p.Fees)
	if err != nil {
		return fmt.Errorf("the operator's fee programs: %w", err)
	}
	s := sweep{Fit: f, params: p, fees: fees, counts: map[string]int{}}
	looked, err := s.all(ctx)
	if err != nil {
		return err
	}
	for code, n := range s.counts {
		f.Log.Warn("the operator's parameters do not fit delegates; only their owners can mend that, by signing again", "code", code, "delegates", n)
	}
	f.Log.Info("delegates held to the operator's parameters", "looked", looked)
	if f.Observe != nil {
		f.Observe(s.counts)
	}
	f.checked = p.Digest
	if s.hurried && f.Hurry != nil {
		f.Hurry()
	}
	return nil
}

// all looks at every record, a stint at a time.
func (s *sweep) all(ctx context.Context) (looked int, err error) {
	var from ledger.Cursor
	for {
		began := s.Now()
		records, next, err := s.Records.List(ctx, ledger.Filter{}, stint, from)
		if err != nil {
			return looked, err
		}
		looked += len(records)
		if err := s.look(ctx, records); err != nil || next == nil {
			return looked, err
		}
		if err := rest(ctx, s.Now().Sub(began)); err != nil {
			return looked, err
		}
		from = next
	}
}

// look notes which of the records do not fit, or fit again, in one write. Those
// that were moved meanwhile are looked at again as they are then.
func (s *sweep) look(ctx context.Context, records []*delegate.Record) error {
	for len(records) > 0 {
		var changes []ledger.Change
		var noted [][]delegate.Misfit // of each change
		for _, rec := range records {
			misfits, change, err := s.one(rec)
			if err != nil {
				return fmt.Errorf("delegate %s: %w", rec.ID, err)
			}
			if change == nil {
				s.count(misfits)
				continue
			}
			changes, noted = append(changes, *change), append(noted, misfits)
		}
		records = nil
		if len(changes) == 0 {
			return nil
		}
		outcomes, err := s.Records.Apply(ctx, changes...)
		if err != nil {
			return err
		}
		for i, out := range outcomes {
			if !errors.Is(out.Err, ledger.ErrConflict) {
				if out.Err == nil {
					s.count(noted[i])
				}
				continue // written, or ended and gone meanwhile
			}
			rec, err := s.Records.Delegate(ctx, changes[i].Prev.ID)
			if errors.Is(err, ledger.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			records = append(records, rec)
		}
	}
	return nil
}

func (s *sweep) count(misfits []delegate.Misfit) {
	for _, m := range misfits {
		s.counts[m.Code]++
	}
}

// one returns a record's misfits and the note that it needs, if any.
func (s *sweep) one(rec *delegate.Record) ([]delegate.Misfit, *ledger.Change, error) {
	if !rec.State.Live() {
		return nil, nil, nil
	}
	now := s.Now().Unix()
	misfits, err := delegate.ParamsChanged(rec, s.params, s.fees, now)
	if err != nil {
		return nil, nil, err
	}
	note, news := remark(rec, misfits)
	// No pause is as long: the attempt was put off by a clock that ran ahead, and
	// until it comes nobody would look at the delegate.
	late := rec.State == delegate.Due && rec.NextAttempt > now+delegate.LongestPause
	if !news && !late || rec.State.InFlight() {
		return misfits, nil, nil
	}
	s.hurried = s.hurried || late
	return misfits, &ledger.Change{Prev: rec, Event: delegate.Note, Mutate: func(r *delegate.Record) {
		if late {
			r.NextAttempt = now
		}
		if !news {
			return
		}
		r.LastError = delegate.Failure{}
		if note.Code != "" {
			r.Fail(note.Code, note.Text, now)
		}
	}}, nil
}

// remark is what the record's last error must say, and whether that is news. A
// failure of another kind is left alone as long as the record fits.
func remark(rec *delegate.Record, misfits []delegate.Misfit) (delegate.Misfit, bool) {
	if len(misfits) > 0 {
		return misfits[0], misfits[0].Code != rec.LastError.Code || misfits[0].Text != rec.LastError.Text
	}
	return delegate.Misfit{}, slices.Contains(delegate.Misfits(), rec.LastError.Code)
}
