package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
)

func TestDueIndexFollowsTheRecord(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	next := func(want int64) {
		t.Helper()
		at, ok, err := f.NextDue(t.Context())
		if err != nil || !ok || at.Unix() != want || f.rows(treeDue) != 1 {
			t.Fatalf("next due %v %v %v, want %d", at.Unix(), ok, err, want)
		}
	}
	next(start + 100)
	r, err := f.Transition(t.Context(), r, delegate.Ripe, func(r *delegate.Record) { r.NextAttempt = start + 7 })
	if err != nil {
		t.Fatal(err)
	}
	next(start + 7)
	due, rest, err := f.Due(t.Context(), time.Unix(start+6, 0), 10, nil)
	if err != nil || len(due) != 0 || rest != nil {
		t.Fatalf("too early: %v %v %v", due, rest, err)
	}
	due, _, err = f.Due(t.Context(), time.Unix(start+7, 0), 10, nil)
	if err != nil || len(due) != 1 || due[0].Record.State != delegate.Due {
		t.Fatalf("on time: %v %v", due, err)
	}
	f.drive(r, delegate.Cancel)
	if _, ok, err := f.NextDue(t.Context()); ok || err != nil {
		t.Fatal("an ended delegate is due")
	}
}

func TestInFlightHasAnIndexOfItsOwn(t *testing.T) {
	f := newFixture(t)
	f.submit(record(1, 1))
	var r *delegate.Record
	for n, state := range []delegate.State{delegate.Registering, delegate.Registered, delegate.Joining, delegate.Submitted, delegate.Unconfirmed} {
		r = f.drive(f.submit(record(byte(n+2), byte(n+2))), inFlight[state]...)
	}
	flights, err := f.InFlight(t.Context())
	if err != nil || len(flights) != 5 || f.rows(treeDue) != 1 {
		t.Fatalf("%d in flight, %d due rows, %v", len(flights), f.rows(treeDue), err)
	}
	f.drive(r, delegate.Confirmed)
	if flights, err = f.InFlight(t.Context()); err != nil || len(flights) != 4 {
		t.Fatalf("%d in flight, %v", len(flights), err)
	}
}

func TestDueGoesOnAtItsCursor(t *testing.T) {
	f := newFixture(t)
	for n := byte(1); n <= 10; n++ {
		r := record(n, n)
		r.NextAttempt = start + int64(n%3)
		f.submit(r)
	}
	seen := map[vigil.DelegateID]bool{}
	var from Cursor
	last := int64(0)
	for {
		due, rest, err := f.Due(t.Context(), time.Unix(start+100, 0), 3, from)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range due {
			if seen[d.ID] || d.At < last {
				t.Fatal("twice, or out of order")
			}
			seen[d.ID], last = true, d.At
		}
		if rest == nil {
			break
		}
		from = rest
	}
	if len(seen) != 10 {
		t.Fatalf("%d of 10", len(seen))
	}
}

func TestUnreadableIsQuarantinedAndKept(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	f.put(treeSessions, r.ID[:], []byte{0xff})
	due, _, err := f.Due(t.Context(), time.Unix(start+100, 0), 10, nil)
	if err != nil || len(due) != 1 || !errors.Is(due[0].Err, ErrUnreadable) {
		t.Fatalf("%v %v", due, err)
	}
	if err := f.Quarantine(t.Context(), due[0], due[0].Err.Error()+strings.Repeat("é", 600)); err != nil {
		t.Fatal(err)
	}
	if due, _, err = f.Due(t.Context(), time.Unix(start+100, 0), 10, nil); err != nil || len(due) != 0 {
		t.Fatal("it is still due")
	}
	marks, err := f.Unreadable(t.Context())
	if err != nil || len(marks) != 1 || marks[0].Tree != treeSessions || string(marks[0].Key) != string(r.ID[:]) || f.rows(treeSessions) != 1 {
		t.Fatalf("%v %v", marks, err)
	}
	healthy := f.submit(record(2, 2))
	if err := f.Quarantine(t.Context(), Due{ID: healthy.ID, At: healthy.NextAttempt}, "no"); !errors.Is(err, ErrConflict) {
		t.Fatalf("a readable record was marked: %v", err)
	}
}

func TestSubmittedNeedsItsBranch(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Joining]...)
	foreign := branch(r, 1)
	foreign.Delegate = vigil.DelegateID{9}
	for name, b := range map[string]*delegate.Branch{"none": nil, "another's": foreign, "without commitment": branch(r, 0)} {
		if _, err := f.Submitted(t.Context(), r, b, nil); !errors.Is(err, ErrNoBranch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.wantState(r, delegate.Joining)
	got, err := f.Submitted(t.Context(), r, branch(r, 5), func(r *delegate.Record) { r.BatchID = "b" })
	if err != nil || got.Commitment != (chainhash.Hash{5}) || got.BatchID != "b" || len(got.Leaves) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := f.Branch(t.Context(), r.ID, chainhash.Hash{5}); err != nil {
		t.Fatal(err)
	}
}

// TestLateCommitmentCounts is the case of pitfall C3: the first commitment
// seems lost, a second attempt begins, the first one confirms.
func TestLateCommitmentCounts(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	first := r.Commitment
	r = f.drive(r, delegate.NotFinalized)
	if r.Commitment != (chainhash.Hash{}) || !r.Watches(first) {
		t.Fatalf("watch list: %v", r.Watch)
	}
	if _, err := f.Transition(t.Context(), r, delegate.Late, func(r *delegate.Record) { r.Commitment = chainhash.Hash{77} }); !errors.Is(err, ErrNotWatched) {
		t.Fatalf("a stranger's commitment counted: %v", err)
	}
	r = f.drive(r, delegate.Register, delegate.Accepted, delegate.Join)
	r, err := f.Submitted(t.Context(), r, branch(r, 0xd0), nil)
	if err != nil {
		t.Fatal(err)
	}
	second := r.Commitment
	r, err = f.Transition(t.Context(), r, delegate.Late, func(r *delegate.Record) { r.Commitment = first })
	if err != nil || r.State != delegate.Unconfirmed || r.Commitment != first || !r.Watches(second) {
		t.Fatalf("%+v %v", r, err)
	}
	r = f.drive(r, delegate.Confirmed)
	if _, err := f.Branch(t.Context(), r.ID, first); err != nil {
		t.Fatalf("branch of the commitment that confirmed: %v", err)
	}
	if f.rows(treeBranches) != 1 || f.rows(treeHistory) != 1 {
		t.Fatal("the branch that never confirmed is kept, or the history counts twice")
	}
}

// TestLateCommitmentOfTheReplaced settles the newer delegate by the commitment
// of the older one; the branch stays under the older one's id.
func TestLateCommitmentOfTheReplaced(t *testing.T) {
	f := newFixture(t)
	older := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	first := older.Commitment
	older = f.drive(older, delegate.NotFinalized)
	newer := f.submit(record(2, 1))
	newer = f.drive(newer, delegate.Ripe)
	newer, err := f.Transition(t.Context(), newer, delegate.Late, func(r *delegate.Record) { r.Commitment = first })
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Settle(t.Context(), newer, []VTXO{{Outpoint: op(0xc0), Amount: 1000, Script: []byte("script")}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := f.VTXO(t.Context(), op(0xc0))
	if err != nil || leaf.Origin != older.ID {
		t.Fatalf("%+v %v", leaf, err)
	}
	if _, err := f.Branch(t.Context(), leaf.Origin, leaf.Commitment); err != nil {
		t.Fatalf("the owner's exit data is gone: %v", err)
	}
	if _, err := f.Delegate(t.Context(), older.ID); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the tombstone outlived its input: %v", err)
	}
}

func TestBranchLivesAsLongAsItsVTXO(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Unconfirmed]...)
	// The owner's wallet is quick: the new VTXO is delegated before it confirms.
	again := record(2, 0xc0)
	f.submit(again)
	r, err := f.Settle(t.Context(), r, []VTXO{{Outpoint: op(0xc0), Amount: 1000, Script: []byte("script")}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := f.VTXO(t.Context(), op(0xc0))
	if err != nil || leaf.Cover != again.ID || leaf.Origin != r.ID {
		t.Fatalf("%+v %v", leaf, err)
	}
	next := f.drive(f.reload(again), delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join)
	next, err = f.Submitted(t.Context(), next, branch(next, 0xd0), nil)
	if err != nil {
		t.Fatal(err)
	}
	next = f.drive(next, delegate.Finalized)
	if _, err := f.Branch(t.Context(), r.ID, r.Commitment); err != nil {
		t.Fatalf("exit data of a VTXO that is not spent yet: %v", err)
	}
	f.drive(next, delegate.Confirmed)
	if _, err := f.Branch(t.Context(), r.ID, r.Commitment); !errors.Is(err, ErrNotFound) {
		t.Fatalf("exit data of a spent VTXO is kept: %v", err)
	}
}

func TestApplyRefusesOneAndWritesTheOthers(t *testing.T) {
	f := newFixture(t)
	a, b, c := f.submit(record(1, 1)), f.submit(record(2, 2)), f.submit(record(3, 3))
	stale := *c
	stale.Version = 99
	out, err := f.Apply(t.Context(),
		Change{Prev: a, Event: delegate.Ripe},
		Change{Prev: b, Event: delegate.Accepted},
		Change{Prev: &stale, Event: delegate.Ripe},
		Change{Prev: record(4, 4), Event: delegate.Ripe},
		Change{Prev: b, Event: delegate.Ripe, Mutate: func(r *delegate.Record) { r.IntentID = strings.Repeat("x", 1000) }},
	)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, delegate.ErrTransition, ErrConflict, ErrNotFound, errUnencodable} {
		if !errors.Is(out[i].Err, want) || (want == nil) != (out[i].Err == nil) {
			t.Errorf("change %d: %v, want %v", i, out[i].Err, want)
		}
	}
	f.wantState(a, delegate.Due)
	f.wantState(b, delegate.Armed)
	f.wantState(c, delegate.Armed)
}

func TestCountsAndNearestExpiry(t *testing.T) {
	f := newFixture(t)
	a := f.submit(record(1, 1))
	f.submit(record(2, 2))
	f.submit(record(3, 2))
	f.drive(a, delegate.Ripe)
	counts, err := f.Counts(t.Context())
	if err != nil || counts[delegate.Armed] != 1 || counts[delegate.Due] != 1 || counts[delegate.Replaced] != 1 {
		t.Fatalf("%v %v", counts, err)
	}
	at, ok, err := f.NearestExpiry(t.Context(), time.Unix(start, 0))
	if err != nil || !ok || at.Unix() != start+1001 {
		t.Fatalf("%v %v %v", at, ok, err)
	}
	if at, ok, err = f.NearestExpiry(t.Context(), time.Unix(start+1002, 0)); err != nil || !ok || at.Unix() != start+1002 {
		t.Fatalf("%v %v %v", at, ok, err)
	}
}

func TestListPages(t *testing.T) {
	f := newFixture(t)
	for n := byte(1); n <= 7; n++ {
		r := record(n, n)
		if n > 5 {
			r.Inputs[0].Script = []byte("another")
		}
		f.submit(r)
	}
	read := func(filter Filter) int {
		t.Helper()
		n := 0
		var from Cursor
		for {
			page, rest, err := f.List(t.Context(), filter, 2, from)
			if err != nil {
				t.Fatal(err)
			}
			if n += len(page); rest == nil {
				return n
			}
			from = rest
		}
	}
	if n := read(Filter{}); n != 7 {
		t.Errorf("all: %d", n)
	}
	if n := read(Filter{Script: []byte("script")}); n != 5 {
		t.Errorf("of one script: %d", n)
	}
	f.drive(f.reload(record(1, 1)), delegate.Ripe, delegate.Cancel)
	if n := read(Filter{Script: []byte("script")}); n != 5 {
		t.Errorf("of one script, the ended included: %d", n)
	}
	if n := read(Filter{Script: []byte("script"), State: delegate.Cancelled}); n != 1 {
		t.Errorf("cancelled: %d", n)
	}
	_, rest, err := f.List(t.Context(), Filter{Script: []byte("script")}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.List(t.Context(), Filter{Script: []byte("another")}, 1, rest); err == nil {
		t.Error("a cursor leads out of its list")
	}
	each := 0
	if err := f.Each(t.Context(), func(*delegate.Record) error { each++; return nil }); err != nil || each != 7 {
		t.Errorf("each: %d %v", each, err)
	}
}

func TestSecretGarbageStaysUntilConfirmed(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	if _, err := f.Cancel(t.Context(), r, false, "tree-secret.1", "tree-secret.2"); err != nil {
		t.Fatal(err)
	}
	rows, err := f.SecretGarbage(t.Context(), 1)
	if err != nil || len(rows) != 1 || rows[0].Name != "tree-secret.1" || rows[0].Delegate != r.ID {
		t.Fatalf("%v %v", rows, err)
	}
	if err := f.SecretDeleted(t.Context(), "tree-secret.1"); err != nil {
		t.Fatal(err)
	}
	if rows, err = f.SecretGarbage(t.Context(), 10); err != nil || len(rows) != 1 || rows[0].Name != "tree-secret.2" {
		t.Fatalf("%v %v", rows, err)
	}
}

func TestHistory(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), append(inFlight[delegate.Unconfirmed], delegate.Confirmed)...)
	var entries []Entry
	err := f.History(t.Context(), [32]byte{7}, func(e Entry) error { entries = append(entries, e); return nil })
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v %v", entries, err)
	}
	if e := entries[0]; e.Type != "settle" || e.Delegate != r.ID || e.Commitment != r.Commitment || e.Inputs[0] != op(1) {
		t.Fatalf("%+v", e)
	}
}

func TestOpen(t *testing.T) {
	ctx := t.Context()
	store := kvtest.NewMemory()
	if _, err := Open(ctx, store, Options{}); !errors.Is(err, ErrNoLedger) {
		t.Fatalf("an empty store: %v", err)
	}
	if err := Create(ctx, store, Generation{4}); err != nil {
		t.Fatal(err)
	}
	if err := Create(ctx, store, Generation{5}); !errors.Is(err, ErrExists) {
		t.Fatalf("made over another: %v", err)
	}
	l, err := Open(ctx, store, Options{})
	if err != nil || l.Generation() != (Generation{4}) {
		t.Fatalf("%v", err)
	}
	if why, err := l.Hold(ctx); why != "" || err != nil {
		t.Fatalf("%q %v", why, err)
	}
	if err := l.SetHold(ctx, "restored"); err != nil {
		t.Fatal(err)
	}
	if why, err := l.Hold(ctx); why != "restored" || err != nil {
		t.Fatalf("%q %v", why, err)
	}
	if err := l.SetHold(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Operator(ctx); !errors.Is(err, ErrNotFound) {
		t.Fatalf("nothing is pinned yet: %v", err)
	}
	key, err := bip340.ParsePubKeyHex("02466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27")
	if err != nil {
		t.Fatal(err)
	}
	pinned := Pinned{Signer: key, Network: ark.Regtest, URL: "http://localhost:7070"}
	if err := l.SetOperator(ctx, pinned); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Operator(ctx); err != nil || got != pinned {
		t.Fatalf("%+v %v", got, err)
	}
	if err := l.Retire(ctx, key); err != nil {
		t.Fatal(err)
	}
	if keys, err := l.Retired(ctx); err != nil || len(keys) != 1 || keys[0] != key {
		t.Fatalf("%v %v", keys, err)
	}
	put := func(b []byte) {
		t.Helper()
		if err := store.Update(ctx, func(w kv.Writer) error { return w.Put(treeMeta, []byte(metaSchema), b) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, flipped := range [][]byte{{0, 0, 0, byte(Schema) + 1}, {0, 0, 0, 1}, {0, 0, 0, 0}, {1}} {
		put(flipped)
		if _, err := Open(ctx, store, Options{}); !errors.Is(err, ErrUnreadable) {
			t.Fatalf("the schema number %x: %v", flipped, err)
		}
	}
	if err := store.Update(ctx, func(w kv.Writer) error { return putSchema(w, Schema+1) }); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, store, Options{}); !errors.Is(err, kv.ErrNewer) {
		t.Fatalf("a newer ledger: %v", err)
	}
}

func TestMigrationIsOneWriteAfterACopy(t *testing.T) {
	ctx := t.Context()
	store := kvtest.NewMemory()
	if err := Create(ctx, store, Generation{4}); err != nil {
		t.Fatal(err)
	}
	copied := false
	before := func(context.Context, uint32) error { copied = true; return nil }
	broken := errors.New("broken")
	first := func(w kv.Writer) error {
		if !copied {
			t.Error("migrated before the copy")
		}
		return w.Put(treeMeta, []byte("x"), nil)
	}
	failing := func(kv.Writer) error { return broken }
	if err := migrate(ctx, store, 1, 3, nil, []migration{first, first}); err == nil {
		t.Error("migrated without a copy")
	}
	if err := migrate(ctx, store, 1, 3, before, []migration{first}); err == nil {
		t.Error("migrated with a step missing")
	}
	if err := migrate(ctx, store, 1, 3, before, []migration{first, failing}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if n, err := storedSchema(ctx, store); n != Schema || err != nil {
		t.Fatalf("half migrated: schema %d, %v", n, err)
	}
	if err := migrate(ctx, store, 1, 3, before, []migration{first, first}); err != nil {
		t.Fatal(err)
	}
	if _, err := storedSchema(ctx, store); !errors.Is(err, kv.ErrNewer) {
		t.Fatalf("schema 3 must be beyond this version: %v", err)
	}
}

func TestTimeKeysKeepTheirOrder(t *testing.T) {
	for _, at := range []int64{0, 1, 255, 256, 1 << 40} {
		got, id, ok := parseTimeKey(timeKey(at, vigil.DelegateID{3}))
		if !ok || got != at || id != (vigil.DelegateID{3}) {
			t.Errorf("%d reads back as %d", at, got)
		}
	}
	if string(timeKey(255, vigil.DelegateID{9})) >= string(timeKey(256, vigil.DelegateID{})) {
		t.Error("a later time sorts first")
	}
	if after([]byte{0xff, 0xff}) != nil || string(after([]byte{1, 0xff})) != "\x02" {
		t.Error("end of a prefix")
	}
	if _, ok := parseOutpointKey(outpointKey(wire.OutPoint{Index: 7})); !ok {
		t.Error("outpoint key")
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t)
	settled := f.drive(f.submit(record(1, 1)), inFlight[delegate.Unconfirmed]...)
	if _, err := f.Settle(t.Context(), settled, []VTXO{{Outpoint: op(0xc0), Amount: 1000, Script: []byte("script"), ExpiresAt: start + 5000}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.EndSpent(t.Context(), f.submit(record(2, 2, 3)), []Gone{{Outpoint: op(2)}}); err != nil {
		t.Fatal(err)
	}
	f.drive(f.submit(record(3, 4)), delegate.Cancel) // its tombstone must stay
	live := f.submit(record(4, 5))
	prune := func(before int64, want int) {
		t.Helper()
		if n, err := f.Prune(t.Context(), time.Unix(before, 0), 10); err != nil || n != want {
			t.Fatalf("%d pruned, want %d: %v", n, want, err)
		}
	}
	prune(start, 0)
	prune(start+1, 2)
	if _, err := f.Branch(t.Context(), settled.ID, settled.Commitment); err != nil {
		t.Fatalf("exit data of a coin that lives: %v", err)
	}
	if f.rows(treeSessions) != 2 || f.rows(treeHistory) != 1 || f.rows(treeTombstones) != 1 || f.rows(treeVTXOs) != 4 {
		t.Fatalf("%d records, %d lines, %d tombstones, %d VTXOs", f.rows(treeSessions), f.rows(treeHistory), f.rows(treeTombstones), f.rows(treeVTXOs))
	}
	f.wantState(live, delegate.Armed)

	// With the coin expired, its exit data goes too.
	again := f.drive(f.submit(record(6, 6)), append(inFlight[delegate.Unconfirmed], delegate.Confirmed)...)
	f.at = start + 10_000
	prune(start+6000, 1)
	if _, err := f.Branch(t.Context(), again.ID, again.Commitment); !errors.Is(err, ErrNotFound) {
		t.Fatalf("exit data of an expired coin: %v", err)
	}
}

// TestDamageHoldsUpNobody ends a delegate whose coin's row, branch and waiting
// successor cannot be read.
func TestDamageHoldsUpNobody(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	newer := f.submit(record(2, 1))
	key := op(1)
	f.put(treeVTXOs, outpointKey(key), []byte{9})
	f.put(treeBranches, branchKey(r.ID, r.Commitment), []byte{9})
	f.put(treeSessions, newer.ID[:], []byte{9})
	r = f.drive(r, delegate.Finalized, delegate.Confirmed)
	if r.State != delegate.Settled || f.rows(treeHistory) != 1 {
		t.Fatalf("%+v", r)
	}
	if f.rows(treeBranches) != 1 || f.rows(treeSessions) != 2 {
		t.Fatal("something unreadable was deleted")
	}
	other := f.submit(record(3, 3))
	f.put(treeSessions, other.ID[:], []byte{9})
	out, err := f.Apply(t.Context(), Change{Prev: other, Event: delegate.Ripe}, Change{Prev: f.submit(record(4, 4)), Event: delegate.Ripe})
	if err != nil || !errors.Is(out[0].Err, ErrUnreadable) || out[1].Err != nil {
		t.Fatalf("%v %v", out, err)
	}
}
