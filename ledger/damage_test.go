package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// raw overwrites a row as a disk does that flips bits.
func (f *fixture) raw(change func(kv.Writer) error) {
	f.t.Helper()
	if err := f.store.Update(f.t.Context(), change); err != nil {
		f.t.Fatal(err)
	}
}

// flip flips a bit of a row's stored value, or of its key.
func (f *fixture) flip(tree string, key []byte, inKey bool) (at []byte) {
	f.t.Helper()
	at = append([]byte(nil), key...)
	f.raw(func(w kv.Writer) error {
		stored, err := w.Get(tree, key)
		if err != nil {
			return err
		}
		stored = append([]byte(nil), stored...)
		if inKey {
			if at[len(at)-1] ^= 4; w.Delete(tree, key) != nil {
				return kv.ErrUnavailable
			}
		} else {
			stored[len(stored)/2] ^= 4
		}
		return w.Put(tree, at, stored)
	})
	return at
}

func (f *fixture) due() []Due {
	f.t.Helper()
	due, _, err := f.Due(f.t.Context(), time.Unix(start+1000, 0), 10, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return due
}

func (f *fixture) inFlight() []Flight {
	f.t.Helper()
	flights, err := f.InFlight(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return flights
}

// wantMarks holds the marks to rows "tree/key".
func (f *fixture) wantMarks(want ...string) {
	f.t.Helper()
	marks, err := f.Unreadable(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range marks {
		got[m.Tree+"/"+string(m.Key)] = true
		if m.Text == "" {
			f.t.Errorf("a mark that says nothing: %+v", m)
		}
	}
	for _, w := range want {
		if !got[w] {
			f.t.Errorf("no mark of %q", w)
		}
	}
	if len(marks) != len(want) {
		f.t.Errorf("marks: %+v, want %q", marks, want)
	}
	if n, err := f.UnreadableRows(f.t.Context()); n != len(want) || err != nil {
		f.t.Errorf("counted %d, %v", n, err)
	}
}

// TestDamagedRecordIsToldAndHoldsUpNobody flips a bit in a record that is in
// flight, and in one that is due.
func TestDamagedRecordIsToldAndHoldsUpNobody(t *testing.T) {
	f := newFixture(t)
	flying := f.drive(f.submit(record(1, 1)), inFlight[delegate.Registered]...)
	f.drive(f.submit(record(2, 2)), inFlight[delegate.Registered]...)
	waiting := f.submit(record(3, 3))
	f.submit(record(4, 4))
	f.wantMarks()
	f.flip(treeSessions, flying.ID[:], false)
	f.flip(treeSessions, waiting.ID[:], false)
	var damage *Damage
	whole := 0
	for _, fl := range f.inFlight() {
		if fl.Err == nil {
			whole++
		} else if fl.ID != flying.ID || !errors.As(fl.Err, &damage) || damage.Tree != treeSessions || string(damage.Key) != string(flying.ID[:]) {
			t.Errorf("%+v", fl)
		}
	}
	for _, d := range f.due() {
		if d.Err == nil {
			whole++
			continue
		}
		if d.ID != waiting.ID || !errors.Is(d.Err, ErrUnreadable) {
			t.Errorf("%+v", d)
		}
		if err := f.Quarantine(t.Context(), d, d.Err.Error()); err != nil {
			t.Fatal(err)
		}
	}
	if whole != 2 || damage == nil {
		t.Errorf("%d are whole, %v", whole, damage)
	}
	f.wantMarks(treeSessions+"/"+string(flying.ID[:]), treeSessions+"/"+string(waiting.ID[:]))
	f.at += 7 * told
	f.open() // a restart, days later
	f.wantMarks(treeSessions+"/"+string(flying.ID[:]), treeSessions+"/"+string(waiting.ID[:]))
	if due := f.due(); len(due) != 1 || due[0].Err != nil {
		t.Errorf("due: %+v", due)
	}
	if f.rows(treeSessions) != 4 || len(f.inFlight()) != 2 {
		t.Error("something was deleted")
	}
}

// TestDamagedIndexRow: where only the sum was hit, the record vouches for its row;
// where the key was, nobody does, and the row is told of once.
func TestDamagedIndexRow(t *testing.T) {
	f := newFixture(t)
	flying := f.drive(f.submit(record(1, 1)), inFlight[delegate.Registered]...)
	waiting, other := f.submit(record(2, 2)), f.submit(record(3, 3))
	f.flip(treeFlight, flying.ID[:], false)
	f.flip(treeDue, timeKey(waiting.NextAttempt, waiting.ID), false)
	f.flip(treeExpiries, timeKey(waiting.Expiry(), waiting.ID), false)
	if fl := f.inFlight(); len(fl) != 1 || fl[0].Err != nil || fl[0].Record.ID != flying.ID {
		t.Errorf("in flight: %+v", fl)
	}
	if due := f.due(); len(due) != 2 || due[0].Err != nil || due[1].Err != nil {
		t.Errorf("due: %+v", due)
	}
	f.wantMarks(treeFlight+"/"+string(flying.ID[:]), treeDue+"/"+string(timeKey(waiting.NextAttempt, waiting.ID)))
	f.drive(waiting, append(inFlight[delegate.Unconfirmed], delegate.Confirmed)...)
	f.drive(flying, delegate.Join)

	lost := f.flip(treeDue, timeKey(other.NextAttempt, other.ID), true)
	f.flip(treeFlight, flying.ID[:], true)
	if due := f.due(); len(due) != 1 || due[0].Err == nil || due[0].ID != (Due{}).ID {
		t.Errorf("due: %+v", due)
	}
	if due := f.due(); len(due) != 0 {
		t.Errorf("told twice: %+v", due)
	}
	if _, some, err := f.NextDue(t.Context()); some || err != nil {
		t.Errorf("the row that nobody vouches for is waited for: %v", err)
	}
	if fl := f.inFlight(); len(fl) != 1 || fl[0].Err == nil || fl[0].Record != nil {
		t.Errorf("in flight: %+v", fl)
	}
	var damage *Damage
	if err := f.store.View(t.Context(), func(r kv.Reader) error {
		_, err := (&edge{r: r}).Get(treeDue, lost)
		return err
	}); !errors.As(err, &damage) || damage.Tree != treeDue || string(damage.Key) != string(lost) {
		t.Errorf("%v", damage)
	}
}

// TestMarkOfTheMendedGoes a day after it was met.
func TestMarkOfTheMendedGoes(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	key := outpointKey(op(1))
	f.flip(treeVTXOs, key, false)
	if _, err := f.VTXO(t.Context(), op(1)); !errors.Is(err, ErrUnreadable) {
		t.Fatal(err)
	}
	f.drive(r, append(inFlight[delegate.Unconfirmed], delegate.Confirmed)...)
	f.put(treeVTXOs, key, nil)
	f.wantMarks(treeVTXOs + "/" + string(key))
	f.raw(func(w kv.Writer) error { return w.Delete(treeVTXOs, key) })
	f.wantMarks(treeVTXOs + "/" + string(key))
	f.at += told + 1
	f.wantMarks()
	if f.rows(treeUnreadable) != 0 {
		t.Error("the mark is still there")
	}
}

// TestSuccessorOfTheUnreadable: a newer delegate that waits for one in flight takes
// over when that one can no longer be read, and watches what it gave forfeits for.
func TestSuccessorOfTheUnreadable(t *testing.T) {
	f := newFixture(t)
	older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	newer := f.submit(record(2, 1))
	f.wantState(newer, delegate.Pending)
	f.flip(treeSessions, older.ID[:], false)
	for range 2 { // as often as it is met
		if err := f.Quarantine(t.Context(), Due{ID: older.ID}, "damaged"); err != nil {
			t.Fatal(err)
		}
	}
	got := f.wantState(newer, delegate.Armed)
	if len(got.Watch) != 1 || got.Watch[0].Commitment != older.Commitment || got.Watch[0].Branch != older.ID {
		t.Errorf("watched: %+v", got.Watch)
	}
	if v, err := f.VTXO(t.Context(), op(1)); err != nil || v.Cover != newer.ID {
		t.Errorf("%+v %v", v, err)
	}
	f.wantMarks(treeSessions + "/" + string(older.ID[:]))
}

// TestDamageEverywhereHoldsUpNobody flips a bit of every row but those of one
// delegate and of the ledger itself, and then does all that a Vigil does.
func TestDamageEverywhereHoldsUpNobody(t *testing.T) {
	f := newFixture(t)
	f.fill()
	sound := f.submit(record(20, 20))
	mine := map[treeKey]bool{{treeSessions, string(sound.ID[:])}: true, {treeVTXOs, string(outpointKey(op(20)))}: true}
	for row := range derived(sound) {
		mine[row] = true
	}
	f.raw(func(w kv.Writer) error {
		for _, tr := range trees() {
			if tr.name == treeMeta {
				continue // fails closed
			}
			err := rewrite(w, tr.name, func(key, stored []byte) error {
				if mine[treeKey{tr.name, string(key)}] {
					return nil
				}
				stored = append([]byte(nil), stored...)
				stored[len(stored)/2] ^= 1
				return w.Put(tr.name, key, stored)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	ctx := t.Context()
	whole := 0
	for _, d := range f.due() {
		if d.Err == nil {
			whole++
		} else if err := f.Quarantine(ctx, d, "damaged"); d.ID != (Due{}).ID && err != nil {
			t.Error(err)
		}
	}
	if whole != 1 {
		t.Errorf("%d are due", whole)
	}
	for _, fl := range f.inFlight() {
		if fl.Err == nil {
			t.Errorf("%+v", fl)
		}
	}
	for name, try := range map[string]func() error{
		"counts": func() error { _, err := f.Counts(ctx); return err },
		"next due": func() error {
			_, some, err := f.NextDue(ctx)
			return errors.Join(err, map[bool]error{false: ErrNotFound}[some])
		},
		"expiry":     func() error { _, _, err := f.NearestExpiry(ctx, time.Unix(0, 0)); return err },
		"garbage":    func() error { _, err := f.SecretGarbage(ctx, 10); return err },
		"tombstones": func() error { _, _, err := f.Tombstones(ctx, 10, nil); return err },
		"exhume":     func() error { return f.Exhume(ctx, Gone{Outpoint: op(8)}) },
		"prune":      func() error { _, err := f.Prune(ctx, time.Unix(start+1e6, 0), 10); return err },
		"history":    func() error { return f.History(ctx, record(1).Owners[0], func(Entry) error { return nil }) },
		"each":       func() error { return f.Each(ctx, func(*delegate.Record) error { return nil }) },
		"list":       func() error { _, _, err := f.List(ctx, Filter{Script: []byte("script")}, 10, nil); return err },
	} {
		if err := try(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.drive(sound, append(inFlight[delegate.Unconfirmed], delegate.Confirmed)...)
	f.wantState(sound, delegate.Settled)
	marks, err := f.Unreadable(ctx)
	if err != nil || len(marks) < 20 {
		t.Errorf("%d marks, %v", len(marks), err)
	}
}
