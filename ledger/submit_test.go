package ledger

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// inFlight are the events that bring an armed delegate to each state in which
// the operator may hold something of it.
var inFlight = map[delegate.State][]delegate.Event{
	delegate.Registering: {delegate.Ripe, delegate.Register},
	delegate.Registered:  {delegate.Ripe, delegate.Register, delegate.Accepted},
	delegate.Joining:     {delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join},
	delegate.Submitted:   {delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit},
	delegate.Unconfirmed: {delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit, delegate.Finalized},
}

func (f *fixture) refused(s Submission, code vigil.Code) {
	f.t.Helper()
	if _, err := f.Submit(f.t.Context(), s); vigil.CodeOf(err) != code {
		f.t.Fatalf("refused with %v, want %s", err, code)
	}
}

func TestSubmitIsIdempotentInEveryState(t *testing.T) {
	check := func(f *fixture, r *delegate.Record) {
		t.Helper()
		before := f.reload(r)
		receipt, err := f.Submit(t.Context(), Submission{Record: record(1, 1)})
		if err != nil || !receipt.Known {
			t.Fatalf("in %s the same body was answered with %+v, %v", before.State, receipt, err)
		}
		if receipt.Record.Version != before.Version || receipt.Record.State != before.State {
			t.Fatalf("the same body changed the delegate in %s", before.State)
		}
	}
	for state, events := range inFlight {
		f := newFixture(t)
		r := f.submit(record(1, 1))
		check(f, r)
		check(f, f.drive(r, events...))
		f.wantState(r, state)
	}
	for _, end := range []delegate.Event{delegate.Cancel, delegate.Expire, delegate.InputSpent, delegate.InputUnrolled, delegate.Quarantine} {
		f := newFixture(t)
		check(f, f.drive(f.submit(record(1, 1)), end))
	}
}

// TestOldBodyDoesNotRollBack is the replay of pitfall H10: the older body comes
// again after a newer one took its place.
func TestOldBodyDoesNotRollBack(t *testing.T) {
	f := newFixture(t)
	older, newer := f.submit(record(1, 1)), f.submit(record(2, 1))
	f.wantState(older, delegate.Replaced)
	receipt, err := f.Submit(t.Context(), Submission{Record: record(1, 1)})
	if err != nil || !receipt.Known || receipt.Record.State != delegate.Replaced {
		t.Fatalf("%+v, %v", receipt, err)
	}
	f.wantState(newer, delegate.Armed)
	cover, err := f.ByOutpoint(t.Context(), op(1))
	if err != nil || cover.ID != newer.ID {
		t.Fatal("the replay took the VTXO over")
	}
	// The newer is cancelled: the old body still brings nothing back.
	if _, err := f.Cancel(t.Context(), newer, false); err != nil {
		t.Fatal(err)
	}
	if receipt, err = f.Submit(t.Context(), Submission{Record: record(1, 1)}); err != nil || !receipt.Known {
		t.Fatalf("%+v, %v", receipt, err)
	}
}

func TestReplace(t *testing.T) {
	f := newFixture(t)
	older := f.submit(record(1, 1, 2))
	f.refused(Submission{Record: record(2, 1, 2), RejectReplace: true}, vigil.CodeReplaceRejected)
	f.refused(Submission{Record: record(2, 1, 3)}, vigil.CodeReplaceIncomplete)
	f.wantState(older, delegate.Armed)

	receipt, err := f.Submit(t.Context(), Submission{Record: record(2, 1, 2, 3)})
	if err != nil || len(receipt.Replaced) != 1 || receipt.Replaced[0] != older.ID {
		t.Fatalf("%+v, %v", receipt, err)
	}
	got := f.wantState(older, delegate.Replaced)
	if got.ReplacedBy != receipt.Record.ID || len(got.Proof) > 0 || f.rows(treeDue) != 1 || f.rows(treeTombstones) != 2 {
		t.Fatalf("replaced: %+v", got)
	}
}

func TestReplacementWaitsForEveryAttemptInFlight(t *testing.T) {
	// How each state in flight fails back to due.
	back := map[delegate.State]delegate.Event{
		delegate.Registering: delegate.Refused, delegate.Registered: delegate.Dropped, delegate.Joining: delegate.BatchFailed,
		delegate.Submitted: delegate.NotFinalized, delegate.Unconfirmed: delegate.Conflict,
	}
	for state, events := range inFlight {
		t.Run(state.String()+" fails", func(t *testing.T) {
			f := newFixture(t)
			older := f.drive(f.submit(record(1, 1)), events...)
			newer := f.submit(record(2, 1))
			f.wantState(newer, delegate.Pending)
			f.wantState(older, state)
			if f.rows(treeDue) != 0 {
				t.Fatal("a pending delegate is in the due index")
			}
			got := f.drive(older, back[state])
			if got.State != delegate.Replaced {
				t.Fatalf("the older is %s", got.State)
			}
			armed := f.wantState(newer, delegate.Armed)
			cover, err := f.ByOutpoint(t.Context(), op(1))
			if err != nil || cover.ID != newer.ID || f.rows(treePending) != 0 || len(armed.Replaces) != 0 {
				t.Fatal("the newer did not take over")
			}
			if submitted := state == delegate.Submitted || state == delegate.Unconfirmed; armed.Watches(chainhash.Hash{0xc0}) != submitted {
				t.Fatalf("watch list of the newer: %v", armed.Watch)
			}
		})
	}
	t.Run("settles", func(t *testing.T) {
		f := newFixture(t)
		older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Unconfirmed]...)
		newer := f.submit(record(2, 1))
		f.drive(older, delegate.Confirmed)
		f.wantState(newer, delegate.Spent)
		f.refused(Submission{Record: record(3, 1)}, vigil.CodeInputSpent)
	})
	t.Run("unrolled", func(t *testing.T) {
		f := newFixture(t)
		older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Joining]...)
		newer := f.submit(record(2, 1))
		if _, err := f.EndBroken(t.Context(), older, []Gone{{Outpoint: op(1), Unrolled: true}}); err != nil {
			t.Fatal(err)
		}
		f.wantState(newer, delegate.Broken)
	})
	t.Run("two olders, one in flight", func(t *testing.T) {
		f := newFixture(t)
		a, b := f.submit(record(1, 1)), f.submit(record(2, 2))
		a = f.drive(a, inFlight[delegate.Registered]...)
		newer := f.submit(record(3, 1, 2))
		f.wantState(newer, delegate.Pending)
		f.wantState(b, delegate.Armed)
		b = f.drive(b, inFlight[delegate.Joining]...)
		f.drive(a, delegate.Dropped)
		f.wantState(newer, delegate.Pending)
		f.wantState(a, delegate.Due)
		f.drive(b, delegate.BatchFailed)
		f.wantState(newer, delegate.Armed)
		f.wantState(a, delegate.Replaced)
		f.wantState(b, delegate.Replaced)
	})
	t.Run("a newer one takes the place of the pending", func(t *testing.T) {
		f := newFixture(t)
		older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Joining]...)
		waiting := f.submit(record(2, 1, 2))
		f.refused(Submission{Record: record(3, 1)}, vigil.CodeReplaceIncomplete)
		newest := f.submit(record(4, 1, 2))
		f.wantState(waiting, delegate.Replaced)
		f.drive(older, delegate.BatchFailed)
		f.wantState(newest, delegate.Armed)
	})
	t.Run("the pending one is cancelled", func(t *testing.T) {
		f := newFixture(t)
		older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Joining]...)
		waiting := f.submit(record(2, 1))
		if _, err := f.Cancel(t.Context(), waiting, false); err != nil {
			t.Fatal(err)
		}
		if got := f.drive(older, delegate.BatchFailed); got.State != delegate.Due {
			t.Fatalf("the older is %s", got.State)
		}
		if f.rows(treePending) != 0 {
			t.Fatal("a row of the cancelled one is left")
		}
	})
}

func TestCancelInFlight(t *testing.T) {
	for state, events := range inFlight {
		f := newFixture(t)
		r := f.drive(f.submit(record(1, 1)), events...)
		r, err := f.Cancel(t.Context(), r, false)
		if err != nil || r.State != state || !r.CancelWanted {
			t.Fatalf("%s: %+v, %v", state, r, err)
		}
		switch state {
		case delegate.Joining:
			if got := f.drive(r, delegate.BatchFailed); got.State != delegate.Cancelled || f.rows(treeDue) != 0 {
				t.Fatalf("after the batch failed it is %s", got.State)
			}
		case delegate.Registered:
			if r, err = f.Cancel(t.Context(), r, true); err != nil || r.State != delegate.Cancelled {
				t.Fatalf("with the intent deleted: %v, %v", r, err)
			}
		case delegate.Unconfirmed:
			if got := f.drive(r, delegate.Confirmed); got.State != delegate.Settled {
				t.Fatalf("confirmed it is %s", got.State)
			}
		}
	}
}

func TestLimitPerScript(t *testing.T) {
	f := newFixture(t)
	for n := byte(1); n <= 3; n++ {
		if _, err := f.Submit(t.Context(), Submission{Record: record(n, n), PerScript: 3}); err != nil {
			t.Fatal(err)
		}
	}
	f.refused(Submission{Record: record(4, 4), PerScript: 3}, vigil.CodeTooManyDelegates)
	if _, err := f.Submit(t.Context(), Submission{Record: record(5, 1), PerScript: 3}); err != nil {
		t.Fatalf("a replacement takes no room: %v", err)
	}
	r, err := f.Delegate(t.Context(), record(2, 2).ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Cancel(t.Context(), r, false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Submit(t.Context(), Submission{Record: record(6, 6), PerScript: 3}); err != nil {
		t.Fatalf("a cancelled one takes no room: %v", err)
	}
}

func TestTombstonesGoWithTheirInputs(t *testing.T) {
	f := newFixture(t)
	f.submit(record(1, 1, 2))
	f.submit(record(2, 1, 2))
	live := f.submit(record(3, 1, 2))
	if f.rows(treeTombstones) != 4 {
		t.Fatalf("%d tombstones", f.rows(treeTombstones))
	}
	if _, err := f.EndSpent(t.Context(), live, []Gone{{Outpoint: op(1), By: "x"}}); err != nil {
		t.Fatal(err)
	}
	// It is only said: they stay known until they are pruned, as ended by it.
	if f.rows(treeTombstones) != 0 || f.rows(treeSessions) != 3 || f.rows(treeEnded) != 3 {
		t.Fatal("the replaced ones are buried still")
	}
	other, err := f.VTXO(t.Context(), op(2))
	if err != nil || other.Fate != Unspent || other.Cover != (vigil.DelegateID{}) {
		t.Fatalf("the other input must be uncovered: %+v, %v", other, err)
	}

	// Without a live delegate somebody has to ask: Tombstones and Exhume.
	r := f.submit(record(4, 4))
	if _, err := f.Cancel(t.Context(), r, false); err != nil {
		t.Fatal(err)
	}
	ops, rest, err := f.Tombstones(t.Context(), 10, nil)
	if err != nil || len(ops) != 1 || ops[0] != op(4) || rest != nil {
		t.Fatalf("%v, %v, %v", ops, rest, err)
	}
	if err := f.Exhume(t.Context(), Gone{Outpoint: op(4)}); err != nil {
		t.Fatal(err)
	}
	f.wantState(r, delegate.Spent)
}

func TestUnreadableOlderIsNotInTheWay(t *testing.T) {
	f := newFixture(t)
	older := f.submit(record(1, 1))
	f.put(treeSessions, older.ID[:], []byte{0xff, 1})
	newer := f.submit(record(2, 1))
	f.wantState(newer, delegate.Armed)
	if _, err := f.Delegate(t.Context(), older.ID); !errors.Is(err, ErrUnreadable) {
		t.Fatalf("the unreadable record: %v", err)
	}
}
