package ledger

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/delegate"
)

// TestExitDataOutlivesTheOperatorsWord: forfeits left for a commitment that the
// operator then called failed. It may still broadcast that one and take the old
// coin by the forfeit, while it tells us that the coin was spent or unrolled:
// what proves the owner's new coin is the branch, and it must be there.
func TestExitDataOutlivesTheOperatorsWord(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(f *fixture, r *delegate.Record)
	}{
		{"spent", func(f *fixture, r *delegate.Record) { f.drive(r, delegate.InputSpent) }},
		{"unrolled", func(f *fixture, r *delegate.Record) { f.drive(r, delegate.InputUnrolled) }},
		{"said to be spent", func(f *fixture, r *delegate.Record) {
			if _, err := f.EndSpent(t.Context(), r, []Gone{{Outpoint: op(1)}}); err != nil {
				t.Fatal(err)
			}
		}},
		{"said to be spent, in a second attempt", func(f *fixture, r *delegate.Record) {
			r = f.drive(r, delegate.Register, delegate.Accepted, delegate.Join)
			r, err := f.Submitted(t.Context(), r, branch(r, 0xd0), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.EndSpent(t.Context(), r, []Gone{{Outpoint: op(1)}}); err != nil {
				t.Fatal(err)
			}
		}},
		{"replaced, then said to be spent", func(f *fixture, _ *delegate.Record) {
			newer := f.submit(record(2, 1))
			if _, err := f.EndSpent(t.Context(), newer, []Gone{{Outpoint: op(1)}}); err != nil {
				t.Fatal(err)
			}
		}},
		{"cancelled, then said to be spent", func(f *fixture, r *delegate.Record) {
			f.drive(r, delegate.Cancel)
			if err := f.Exhume(t.Context(), Gone{Outpoint: op(1)}); err != nil {
				t.Fatal(err)
			}
		}},
		{"cancelled, then said to be unrolled", func(f *fixture, r *delegate.Record) {
			f.drive(r, delegate.Cancel)
			if err := f.Exhume(t.Context(), Gone{Outpoint: op(1), Unrolled: true}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
			first := r.Commitment
			r = f.drive(r, delegate.NotFinalized)
			c.end(f, r)
			if _, err := f.Branch(t.Context(), r.ID, first); err != nil {
				t.Fatalf("the owner's exit data is gone: %v", err)
			}
			// In the end it goes like everything else.
			f.at = start + 1000
			for range 2 {
				if _, err := f.Prune(t.Context(), time.Unix(start+500, 0), 10); err != nil {
					t.Fatal(err)
				}
			}
			if f.rows(treeBranches) != 0 || f.rows(treeSessions) != 0 || f.rows(treeTombstones) != 0 {
				t.Fatalf("%d branches, %d records, %d tombstones are left", f.rows(treeBranches), f.rows(treeSessions), f.rows(treeTombstones))
			}
		})
	}
}

// TestDamagedCountHoldsUpNobody: the counts are for the metrics, and fsck
// counts again.
func TestDamagedCountHoldsUpNobody(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	for _, s := range delegate.States() {
		f.put(treeCounts, []byte{byte(s)}, []byte{9, 9})
	}
	f.drive(r, append(inFlight[delegate.Unconfirmed], delegate.Confirmed)...)
	f.wantState(r, delegate.Settled)
}

// TestStalePendingRowHoldsUpNobody: the row names a delegate that does not wait.
func TestStalePendingRowHoldsUpNobody(t *testing.T) {
	f := newFixture(t)
	r, other := f.submit(record(1, 1)), f.submit(record(2, 2))
	f.put(treePending, r.ID[:], other.ID[:])
	r = f.drive(r, inFlight[delegate.Registered]...)
	f.drive(r, delegate.Dropped)
	f.wantState(other, delegate.Armed)
	f.wantState(r, delegate.Due)
}
