package ledger

import (
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// later is a delegate that was checked, and whose coins the operator reported as
// unspent, after all that was said before.
func later(f *fixture, n byte, vtxos ...byte) *delegate.Record {
	f.at += 10
	r := record(n, vtxos...)
	r.CreatedAt = f.at
	return r
}

// TestWordTakenBack: the operator says that a coin is gone and, at a later intake,
// that it is not. The coin gets a delegate again, which watches what the older gave
// forfeits for.
func TestWordTakenBack(t *testing.T) {
	for name, event := range map[string]delegate.Event{"spent": delegate.InputSpent, "unrolled": delegate.InputUnrolled} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			buried := f.submit(record(1, 1, 2))
			older := f.submit(record(2, 1, 2))
			older = f.drive(older, inFlight[delegate.Submitted]...)
			given := older.Commitment
			f.at++
			end := f.EndSpent
			if event == delegate.InputUnrolled {
				end = f.EndBroken
			}
			older, err := end(t.Context(), older, []Gone{{Outpoint: op(1), Unrolled: event == delegate.InputUnrolled}})
			if err != nil {
				t.Fatal(err)
			}
			// The operator's answer at intake was older than that word.
			stale := record(3, 1)
			stale.CreatedAt = f.at
			f.refused(Submission{Record: stale}, vigil.CodeInputSpent)

			newer := f.submit(later(f, 4, 1))
			if newer.State != delegate.Armed || !newer.Watches(given) || newer.Watch[0].Branch != older.ID {
				t.Fatalf("the newer is %s and watches %+v, want %s", newer.State, newer.Watch, given)
			}
			for _, r := range []*delegate.Record{older, buried} {
				got := f.wantState(r, delegate.Replaced)
				if r == older && (got.ReplacedBy != newer.ID || got.LastError.Code != "INPUT_NOT_SPENT") {
					t.Fatalf("it says %+v", got)
				}
				// Its body is known still.
				if receipt, err := f.Submit(t.Context(), Submission{Record: record(r.ProofTxid[0], 1, 2)}); err != nil || !receipt.Known {
					t.Fatalf("%+v, %v", receipt, err)
				}
			}
			// The commitment of the older appears after all: its branch is the newer's.
			newer = f.drive(newer, delegate.Ripe)
			newer, err = f.Transition(t.Context(), newer, delegate.Late, func(r *delegate.Record) { r.Commitment = given })
			if err != nil {
				t.Fatal(err)
			}
			f.drive(newer, delegate.Confirmed)
			if _, err := f.Branch(t.Context(), older.ID, given); err != nil {
				t.Fatalf("the exit data is gone: %v", err)
			}
			f.refused(Submission{Record: later(f, 5, 1)}, vigil.CodeInputSpent)
		})
	}
}

// TestWordTakenBackAndGivenAgain: in the end everything that the word ended is
// forgotten.
func TestWordTakenBackAndGivenAgain(t *testing.T) {
	f := newFixture(t)
	older := f.drive(f.submit(record(1, 1, 2)), inFlight[delegate.Submitted]...)
	for n := byte(2); n < 5; n++ {
		f.at++
		if _, err := f.EndSpent(t.Context(), older, []Gone{{Outpoint: op(1)}}); err != nil {
			t.Fatal(err)
		}
		older = f.submit(later(f, n, 1))
	}
	f.at++
	if _, err := f.EndSpent(t.Context(), older, []Gone{{Outpoint: op(1)}}); err != nil {
		t.Fatal(err)
	}
	f.at += 1000
	if _, err := f.Prune(t.Context(), time.Unix(f.at, 0), 100); err != nil {
		t.Fatal(err)
	}
	if f.rows(treeSessions) != 0 || f.rows(treeBranches) != 0 || f.rows(treeTombstones) != 0 {
		t.Fatalf("%d records, %d branches, %d tombstones are left", f.rows(treeSessions), f.rows(treeBranches), f.rows(treeTombstones))
	}
}

// TestWordDoesNotDropExitData: the branch by which a coin is left is kept when the
// operator says that the coin is gone, and goes when the record is pruned.
func TestWordDoesNotDropExitData(t *testing.T) {
	f := newFixture(t)
	first := f.drive(f.submit(record(1, 1)), inFlight[delegate.Unconfirmed]...)
	leaf := first.Leaves[0]
	first, err := f.Settle(t.Context(), first, []VTXO{{Outpoint: leaf, Amount: 1000, Script: []byte("script"), ExpiresAt: start + 5000}})
	if err != nil {
		t.Fatal(err)
	}
	next := record(2, 1)
	next.Inputs[0].Outpoint = leaf
	second := f.submit(next)
	f.at++
	if _, err := f.EndSpent(t.Context(), second, []Gone{{Outpoint: leaf}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Branch(t.Context(), first.ID, first.Commitment); err != nil {
		t.Fatalf("the way to the coin is gone: %v", err)
	}
	f.at += 10_000
	if _, err := f.Prune(t.Context(), time.Unix(f.at, 0), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Branch(t.Context(), first.ID, first.Commitment); err == nil || first.Commitment == (chainhash.Hash{}) {
		t.Fatal("the branch outlived its records")
	}
}
