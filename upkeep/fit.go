package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

// Records is the ledger's side of Fit.
type Records interface {
	Each(ctx context.Context, f func(*delegate.Record) error) error
	Delegate(ctx context.Context, id vigil.DelegateID) (*delegate.Record, error)
	Transition(ctx context.Context, prev *delegate.Record, event delegate.Event, mutate func(*delegate.Record)) (*delegate.Record, error)
}

// Announcer tells the Ark operator's parameters; *operator.Client implements it.
type Announcer interface {
	Info(ctx context.Context) (ark.Params, error)
}

// Fit holds every waiting record to the operator's parameters: at the first run
// and whenever they changed. What no longer fits is noted in the record, where
// its owner sees it; the record stays armed, since parameters may be set back
// and an expired coin needs no forfeit. What is in flight is the engine's.
type Fit struct {
	Records  Records
	Operator Announcer
	// Observe is told how many records have each misfit; nil: nobody is.
	Observe func(misfits map[string]int)
	Log     *slog.Logger
	Now     func() time.Time

	checked string // the digest that every record was held to
}

// stint is how many records are looked at between two rests; each rest is as
// long as the stint took, so that at most half of one core is used.
const stint = 256

// Run asks for the parameters and, when they are new, looks at every record. It
// must not run twice at a time.
func (f *Fit) Run(ctx context.Context) error {
	p, err := f.Operator.Info(ctx)
	if err != nil || p.Digest == f.checked && f.checked != "" {
		return err
	}
	fees, err := fee.Compile(p.Fees)
	if err != nil {
		return fmt.Errorf("the operator's fee programs: %w", err)
	}
	began, counts, looked := f.Now(), map[string]int{}, 0
	err = f.Records.Each(ctx, func(rec *delegate.Record) error {
		if looked++; looked%stint == 0 {
			pause := f.Now().Sub(began)
			if err := rest(ctx, pause); err != nil {
				return err
			}
			began = f.Now()
		}
		return f.look(ctx, rec, p, fees, counts)
	})
	if err != nil {
		return err
	}
	total := 0
	for code, n := range counts {
		total += n
		f.Log.Warn("the operator's parameters do not fit delegates; only their owners can mend that, by signing again", "code", code, "delegates", n)
	}
	f.Log.Info("delegates held to the operator's parameters", "looked", looked, "misfits", total)
	if f.Observe != nil {
		f.Observe(counts)
	}
	f.checked = p.Digest
	return nil
}

// look notes what of a record does not fit, or that it fits again.
func (f *Fit) look(ctx context.Context, rec *delegate.Record, p ark.Params, fees *fee.Estimator, counts map[string]int) error {
	now := f.Now().Unix()
	for {
		if !rec.State.Live() {
			return nil
		}
		misfits, err := delegate.ParamsChanged(rec, p, fees, now)
		if err != nil {
			return fmt.Errorf("delegate %s: %w", rec.ID, err)
		}
		note, change := remark(rec, misfits)
		if change && !rec.State.InFlight() {
			_, err = f.Records.Transition(ctx, rec, delegate.Note, func(r *delegate.Record) {
				r.LastError = delegate.Failure{}
				if note.Code != "" {
					r.Fail(note.Code, note.Text, now)
				}
			})
			if errors.Is(err, ledger.ErrConflict) {
				// It was moved meanwhile: look at it as it is now.
				if rec, err = f.Records.Delegate(ctx, rec.ID); err == nil {
					continue
				}
			}
			if err != nil && !errors.Is(err, ledger.ErrNotFound) {
				return err
			}
		}
		for _, m := range misfits {
			counts[m.Code]++
		}
		return nil
	}
}

// remark is what the record's last error must say, and whether that is news. A
// failure of another kind is left alone as long as the record fits.
func remark(rec *delegate.Record, misfits []delegate.Misfit) (delegate.Misfit, bool) {
	if len(misfits) > 0 {
		return misfits[0], misfits[0].Code != rec.LastError.Code || misfits[0].Text != rec.LastError.Text
	}
	return delegate.Misfit{}, slices.Contains(delegate.Misfits(), rec.LastError.Code)
}
