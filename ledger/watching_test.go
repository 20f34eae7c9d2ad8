package ledger

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// watchers reads all that Watching returns, a page of one at a time.
func (f *fixture) watchers() (records []*delegate.Record) {
	f.t.Helper()
	var from Cursor
	for {
		page, rest, err := f.Watching(f.t.Context(), 1, from)
		if err != nil {
			f.t.Fatal(err)
		}
		if records = append(records, page...); rest == nil {
			return records
		}
		from = rest
	}
}

// TestDeadCommitmentsLeave: what can never confirm leaves the watch list with its
// branch, and the delegate the index of those that watch. What may confirm stays.
func TestDeadCommitmentsLeave(t *testing.T) {
	f := newFixture(t)
	f.submit(record(9, 9)) // watches nothing
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	first := r.Commitment
	r = f.drive(r, delegate.NotFinalized, delegate.Register, delegate.Accepted, delegate.Join)
	second := chainhash.Hash{0xd0}
	r, err := f.Submitted(t.Context(), r, branch(r, 0xd0), nil)
	if err != nil {
		t.Fatal(err)
	}
	r = f.drive(r, delegate.NotFinalized)
	newer := f.submit(record(2, 1)) // takes the list over
	all := f.watchers()
	if len(all) != 1 || all[0].ID != newer.ID || len(all[0].Watch) != 2 {
		t.Fatalf("%d watch", len(all))
	}
	drop := func(dead ...chainhash.Hash) {
		t.Helper()
		out, err := f.Apply(t.Context(), Change{Prev: newer, Event: delegate.Note, Dead: dead})
		if err != nil || out[0].Err != nil {
			t.Fatal(err, out)
		}
		newer = out[0].Record
	}
	drop(first)
	if newer.Watches(first) || !newer.Watches(second) || len(f.watchers()) != 1 {
		t.Fatalf("it watches %v", newer.Watch)
	}
	if _, err := f.Branch(t.Context(), r.ID, first); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the branch of a dead commitment is there: %v", err)
	}
	if _, err := f.Branch(t.Context(), r.ID, second); err != nil {
		t.Fatalf("the branch of a commitment that may confirm is gone: %v", err)
	}
	drop(second, chainhash.Hash{3})
	if len(newer.Watch) != 0 || len(f.watchers()) != 0 || f.rows(treeBranches) != 0 || f.rows(treeWatching) != 0 {
		t.Fatalf("it watches %v, %d branches", newer.Watch, f.rows(treeBranches))
	}
}

// TestLateOutOfArmed: the commitment of an older delegate appears before the newer
// one was due.
func TestLateOutOfArmed(t *testing.T) {
	f := newFixture(t)
	older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	given := older.Commitment
	f.drive(older, delegate.NotFinalized)
	newer := f.submit(record(2, 1))
	newer, err := f.Transition(t.Context(), newer, delegate.Late, func(r *delegate.Record) { r.Commitment = given })
	if err != nil || newer.State != delegate.Unconfirmed || newer.BranchOwner() != older.ID || len(newer.Leaves) == 0 {
		t.Fatalf("%+v, %v", newer, err)
	}
	f.drive(newer, delegate.Confirmed)
	if len(f.watchers()) != 0 {
		t.Fatal("a settled one watches")
	}
}

// TestMigrationIndexesWatchers: the first schema had no such rows.
func TestMigrationIndexesWatchers(t *testing.T) {
	f := newFixture(t)
	f.submit(record(2, 2))
	r := f.drive(f.submit(record(1, 1)), append(inFlight[delegate.Submitted], delegate.NotFinalized)...)
	ended := f.drive(f.submit(record(3, 3)), append(inFlight[delegate.Submitted], delegate.NotFinalized)...)
	f.drive(ended, delegate.Cancel)
	err := f.store.Update(t.Context(), func(w kv.Writer) error {
		if err := w.Delete(treeWatching, r.ID[:]); err != nil {
			return err
		}
		return indexWatching(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := f.watchers(); len(all) != 1 || all[0].ID != r.ID {
		t.Fatalf("%d watch", len(all))
	}
}
