package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
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
	// Gone says what became of inputs that are spent or unrolled.
	Gone []Gone
	// Leaves are the VTXOs that a confirmed commitment made.
	Leaves []VTXO
	// Garbage are names of secrets that nothing needs after this change.
	Garbage []string
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

// Submit stores the branch and moves the record to submitted in one write.
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
	err := l.store.Update(ctx, func(w kv.Writer) error {
		out = make([]Outcome, len(changes))
		for i := range changes {
			t := &transition{w: w, at: l.now().Unix()}
			rec, err := t.change(&changes[i])
			if err != nil && !refusal(err) {
				return err
			}
			out[i] = Outcome{Record: rec, Err: err}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// refusal says whether err concerns one change alone, and was found before
// anything was written for it.
func refusal(err error) bool {
	return errors.Is(err, ErrConflict) || errors.Is(err, delegate.ErrTransition) || errors.Is(err, ErrNotFound) ||
		errors.Is(err, ErrNoBranch) || errors.Is(err, ErrNotWatched) || errors.Is(err, errUnencodable)
}

var errUnencodable = errors.New("ledger: the changed record cannot be encoded")

// transition is one change being written.
type transition struct {
	w  kv.Writer
	at int64
}

func (t *transition) change(c *Change) (*delegate.Record, error) {
	cur, err := load(t.w, c.Prev.ID)
	if err != nil {
		if errors.Is(err, ErrUnreadable) {
			return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return nil, err
	}
	if cur.Version != c.Prev.Version {
		return cur, fmt.Errorf("%w: %s is at version %d, not %d", ErrConflict, cur.ID, cur.Version, c.Prev.Version)
	}
	rec, err := t.step(cur, c)
	if err != nil {
		return cur, err
	}
	if err := t.wake(rec); err != nil {
		return nil, err
	}
	rec, err = load(t.w, rec.ID)
	if err != nil {
		return nil, err
	}
	if rec.State == delegate.Due && rec.CancelWanted {
		if rec, err = t.step(rec, &Change{Prev: rec, Event: delegate.Cancel}); err != nil {
			return nil, err
		}
		return rec, t.wake(rec)
	}
	return rec, nil
}

// step writes one edge of the state table and all that hangs on it.
func (t *transition) step(cur *delegate.Record, c *Change) (*delegate.Record, error) {
	rec, err := t.advance(cur, c)
	if err != nil {
		return nil, err
	}
	if _, err := rec.Encode(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnencodable, err)
	}
	if cur.State == delegate.Pending && rec.State != delegate.Pending {
		if err := t.forget(cur); err != nil {
			return nil, err
		}
		if err := uncover(t.w, cur, nil, t.at); err != nil {
			return nil, err
		}
	}
	if c.Branch != nil {
		if err := t.putBranch(c.Branch); err != nil {
			return nil, err
		}
	}
	if rec.State.Ended() {
		if err := t.end(rec, c); err != nil {
			return nil, err
		}
	}
	if err := write(t.w, cur, rec); err != nil {
		return nil, err
	}
	for _, name := range c.Garbage {
		if err := putRow(t.w, treeSecretGC, []byte(name), &Garbage{Delegate: rec.ID, Since: t.at}); err != nil {
			return nil, err
		}
	}
	return rec, nil
}

// advance computes the record after the change, without writing.
func (t *transition) advance(cur *delegate.Record, c *Change) (*delegate.Record, error) {
	to, err := delegate.Next(cur.State, c.Event)
	if err != nil {
		return nil, fmt.Errorf("delegate %s: %w", cur.ID, err)
	}
	rec := cur.Clone()
	if c.Mutate != nil {
		c.Mutate(rec)
	}
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
		return rec, t.recallLeaves(rec)
	}
	return rec, nil
}

// recallLeaves takes the leaves of a record's commitment from the stored branch.
func (t *transition) recallLeaves(rec *delegate.Record) error {
	raw, err := t.w.Get(treeBranches, branchKey(rec.BranchOwner(), rec.Commitment))
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	branch, err := delegate.DecodeBranch(raw)
	if err != nil {
		return fmt.Errorf("%w: branch of %s: %w", ErrUnreadable, rec.ID, err)
	}
	rec.Leaves = branch.Leaves
	return nil
}

func (t *transition) putBranch(b *delegate.Branch) error {
	raw, err := b.Encode()
	if err != nil {
		return fmt.Errorf("%w: branch of %s: %w", errUnencodable, b.Delegate, err)
	}
	return t.w.Put(treeBranches, branchKey(b.Delegate, b.Commitment), raw)
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
	for op := range gone {
		if err := exhume(t.w, op, rec.Commitment); err != nil {
			return err
		}
	}
	switch rec.State {
	case delegate.Replaced, delegate.Cancelled, delegate.Expired:
		return bury(t.w, rec)
	}
	return dropBranches(t.w, rec.ID, rec.Commitment)
}

// settle writes the VTXOs that the commitment made and the line of history.
func (t *transition) settle(rec *delegate.Record, leaves []VTXO) error {
	for i := range leaves {
		leaf := leaves[i]
		key := outpointKey(leaf.Outpoint)
		known, err := loadVTXO(t.w, key)
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
	return putRow(t.w, treeHistory, historyKey(rec, t.at), &Entry{
		Type: "settle", Delegate: rec.ID, Commitment: rec.Commitment, Inputs: rec.Outpoints(),
		Leaves: rec.Leaves, Amount: rec.InputAmount(), Fee: rec.Fee, At: t.at,
	})
}

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
		return fmt.Errorf("%w: pending row of %s", ErrUnreadable, rec.ID)
	}
	newer, err := load(t.w, vigil.DelegateID(b))
	if err != nil {
		return err
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
