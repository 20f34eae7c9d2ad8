package ledger

import (
	"context"
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/delegate"
)

// Change is one transition of one record with everything that must be written
// with it.
type Change struct {
	// Prev is the record as the caller read it: its version is compared.
	Prev  *delegate.Record
	Event delegate.Event
	// Mutate changes the fields that go with the event; nil for none. It works on
	// a copy, may run more than once and must have no other effect. Id, kind,
	// state and version are the ledger's.
	Mutate func(*delegate.Record)
	// Branch is stored in the same write; Submit must bring it.
	Branch *delegate.Branch
	// Dead are watched commitments that can never confirm: they leave the watch list,
	// and their branches go.
	Dead []chainhash.Hash
	// Gone says what became of inputs that are spent or unrolled.
	Gone []Gone
	// Leaves are the VTXOs that a confirmed commitment made.
	Leaves []VTXO
	// Garbage are names of secrets that nothing needs after this change.
	Garbage []string
	// Audit are the entries of whoever asked for it.
	Audit []Link
}

// Gone says that an outpoint is spent, or on chain.
type Gone struct {
	Outpoint wire.OutPoint
	Unrolled bool
	By       string // what spent it, as far as it is known
}

func (g Gone) fate() Fate {
	if g.Unrolled {
		return Unrolled
	}
	return Spent
}

// Outcome is the answer to one Change: the record as it now stands, which may
// be beyond the event's state when a cancellation or a replacement was waiting,
// or the error that left it unchanged.
type Outcome struct {
	Record *delegate.Record
	Err    error
}

// Transition applies one change; see Apply.
func (l *Ledger) Transition(ctx context.Context, prev *delegate.Record, event delegate.Event, mutate func(*delegate.Record)) (*delegate.Record, error) {
	return l.apply(ctx, Change{Prev: prev, Event: event, Mutate: mutate})
}

// Submitted stores the branch and moves the record to submitted in one write.
// Only when it has returned without error may a forfeit for that commitment
// leave.
func (l *Ledger) Submitted(ctx context.Context, prev *delegate.Record, branch *delegate.Branch, mutate func(*delegate.Record)) (*delegate.Record, error) {
	return l.apply(ctx, Change{Prev: prev, Event: delegate.Submit, Branch: branch, Mutate: mutate})
}

// Settle ends a delegate whose commitment is confirmed: state, due index, VTXOs,
// history and secret garbage in one write.
func (l *Ledger) Settle(ctx context.Context, prev *delegate.Record, leaves []VTXO, garbage ...string) (*delegate.Record, error) {
	return l.apply(ctx, Change{Prev: prev, Event: delegate.Confirmed, Leaves: leaves, Garbage: garbage})
}

// EndSpent ends a delegate because of the inputs given, spent by something that
// is not ours. Its other inputs are uncovered in the same write.
func (l *Ledger) EndSpent(ctx context.Context, prev *delegate.Record, gone []Gone, garbage ...string) (*delegate.Record, error) {
	return l.apply(ctx, Change{Prev: prev, Event: delegate.InputSpent, Gone: gone, Garbage: garbage})
}

// EndBroken ends a delegate because of the inputs given, which are on chain.
func (l *Ledger) EndBroken(ctx context.Context, prev *delegate.Record, gone []Gone, garbage ...string) (*delegate.Record, error) {
	return l.apply(ctx, Change{Prev: prev, Event: delegate.InputUnrolled, Gone: gone, Garbage: garbage})
}

func (l *Ledger) apply(ctx context.Context, c Change) (*delegate.Record, error) {
	out, err := l.Apply(ctx, c)
	if err != nil {
		return nil, err
	}
	return out[0].Record, out[0].Err
}

// Apply carries out changes of different records in one durable write. A change
// that is refused (ErrConflict, delegate.ErrTransition, ErrNotFound, …) says so
// in its outcome and does not hold up the others. The error is the store's: then
// nothing was written.
func (l *Ledger) Apply(ctx context.Context, changes ...Change) ([]Outcome, error) {
	var out []Outcome
	err := l.update(ctx, func(w writer) error {
		out = make([]Outcome, len(changes))
		for i := range changes {
			t := l.transition(w)
			var err error
			if out[i], err = t.change(&changes[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// refusal says whether err, found before anything was written, concerns one
// change alone.
func refusal(err error) bool {
	for _, e := range []error{ErrConflict, ErrNotFound, ErrUnreadable, ErrNoBranch, ErrNotWatched, errUnencodable, delegate.ErrTransition} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var errUnencodable = errors.New("ledger: the changed record cannot be encoded")
