package ledger_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// city is a town with something in every derived tree.
func newCity(t testing.TB) *town {
	x, ctx := newTown(t, nil), t.Context()
	x.furnish(1)
	for n := range 3 {
		_, err := x.l.Submit(ctx, ledger.Submission{Record: newRecord(n, []int{900 + n})})
		x.must(err)
	}
	older, err := x.l.Delegate(ctx, newRecord(0, nil).ID)
	x.must(err)
	x.drive(older, toCommitment[:5]...)
	_, err = x.l.Submit(ctx, ledger.Submission{Record: newRecord(9, []int{900, 909})})
	x.must(err)
	w, err := x.l.UpdateWallet(ctx, x.create(2), func(w *ledger.Wallet) { w.State = ledger.WalletDeleting }, ledger.Extras{})
	x.must(err)
	// As DeleteWallet, and a row that was met and cannot be read.
	x.must(x.store.Update(ctx, func(kw kv.Writer) error {
		if err := kw.Put("deleting", w.ID[:], ledger.Seal("deleting", w.ID[:], nil)); err != nil {
			return err
		}
		return kw.Put("secret_gc", []byte("x"), []byte("rotten"))
	}))
	x.garbage()
	x.must(x.store.Update(ctx, func(kw kv.Writer) error { return kw.Delete("secret_gc", []byte("x")) }))
	x.clean()
	return x
}

func (x *town) repair() *ledger.Repaired {
	x.t.Helper()
	out, err := x.l.Repair(x.t.Context())
	x.must(err)
	return out
}

// again wants a second repair to change nothing.
func (x *town) again() {
	x.t.Helper()
	before := fmt.Sprint(readRows(x.t, x.store))
	if out := x.repair(); out.Changed() || fmt.Sprint(readRows(x.t, x.store)) != before {
		x.t.Fatalf("a second repair changed %v", out.Mended)
	}
}

// differ are the rows of two stores that are not the same, but those that nothing
// else tells: counts of none, how far requests were forgotten, and the trees given.
func differ(a, b []storedRow, but ...string) (rows []string) {
	a, b = known(a, but), known(b, but)
	in := func(rows []storedRow, r storedRow) bool {
		_, found := slices.BinarySearchFunc(rows, r, compareRows)
		return found
	}
	for _, r := range a {
		if !in(b, r) {
			rows = append(rows, fmt.Sprintf("- %s %x", r.tree, r.key))
		}
	}
	for _, r := range b {
		if !in(a, r) {
			rows = append(rows, fmt.Sprintf("+ %s %x", r.tree, r.key))
		}
	}
	return rows
}

func known(rows []storedRow, but []string) []storedRow {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r storedRow) bool {
		none := bytes.Equal(r.value, ledger.Seal(r.tree, r.key, []byte{1, 0}))
		return r.tree == "counts" && (none || string(r.key) == "forgotten") || slices.Contains(but, r.tree)
	})
	slices.SortFunc(rows, compareRows)
	return rows
}

func compareRows(a, b storedRow) int {
	return cmp.Or(cmp.Compare(a.tree, b.tree), bytes.Compare(a.key, b.key), bytes.Compare(a.value, b.value))
}

// TestRepairLeavesTheSaneAlone, byte by byte.
func TestRepairLeavesTheSaneAlone(t *testing.T) {
	newCity(t).again()
}

// harms are what a disk, or a fault of ours, does to a row of a derived tree.
var harms = map[string]func(w kv.Writer, r storedRow) error{
	"gone": func(w kv.Writer, r storedRow) error { return w.Delete(r.tree, r.key) },
	"a bit of its value": func(w kv.Writer, r storedRow) error {
		bad := bytes.Clone(r.value)
		bad[len(bad)/3] ^= 8
		return w.Put(r.tree, r.key, bad)
	},
	"a bit of its key": func(w kv.Writer, r storedRow) error {
		bad := bytes.Clone(r.key)
		bad[len(bad)*2/3] ^= 8
		return firstError(w.Delete(r.tree, r.key), w.Put(r.tree, bad, r.value))
	},
	"a stray beside it": func(w kv.Writer, r storedRow) error { return stray(w, r, len(r.key)-1) },
	"a stray before it": func(w kv.Writer, r storedRow) error { return stray(w, r, 0) },
	"cut short": func(w kv.Writer, r storedRow) error {
		return firstError(w.Delete(r.tree, r.key), w.Put(r.tree, r.key[:len(r.key)-1], ledger.Seal(r.tree, r.key[:len(r.key)-1], nil)))
	},
}

func firstError(errs ...error) error { return cmp.Or(errs...) }

// stray puts a row like r that has a sum, and that nobody asks for.
func stray(w kv.Writer, r storedRow, at int) error {
	value, err := ledger.Unseal(r.tree, r.key, r.value)
	if err != nil {
		return err
	}
	key := bytes.Clone(r.key)
	key[at] ^= 0x40
	return w.Put(r.tree, key, ledger.Seal(r.tree, key, value))
}

// TestRepairRebuilds harms every row of every derived tree in turn, and then all of
// a tree at once, and wants the store as it was.
func TestRepairRebuilds(t *testing.T) {
	x := newCity(t)
	was := readRows(t, x.store)
	for _, tree := range ledger.Trees() {
		if !ledger.Rebuilt(tree) {
			continue
		}
		var rows []storedRow
		for _, r := range was {
			if r.tree == tree {
				rows = append(rows, r)
			}
		}
		if len(rows) == 0 {
			t.Errorf("nothing is in %s", tree)
		}
		groups := [][]storedRow{rows}
		for _, r := range rows {
			groups = append(groups, []storedRow{r})
		}
		for how, harm := range harms {
			if tree == "counts" && strings.HasPrefix(how, "a stray") {
				continue // it may be a later version's
			}
			for _, group := range groups {
				x.harm(was, group, harm)
				out := x.repair()
				x.again()
				x.clean()
				switch tree {
				case "quarantine": // the mark of a row that can be read is nobody's loss
				case "wallet_vtxos": // a wallet's own notes are lost with it
					x.sameStory()
				default:
					if rows := differ(was, readRows(t, x.store)); len(rows) > 0 {
						t.Errorf("%s, %d rows, %s: %q, after %v", tree, len(group), how, rows, out.Mended)
					}
				}
			}
		}
	}
}

// harm brings the store back to rows, and harms some of them.
func (x *town) harm(rows, group []storedRow, harm func(kv.Writer, storedRow) error) {
	x.t.Helper()
	now := readRows(x.t, x.store)
	x.must(x.store.Update(x.t.Context(), func(w kv.Writer) error {
		for _, r := range now {
			if err := w.Delete(r.tree, r.key); err != nil {
				return err
			}
		}
		for _, r := range rows {
			if err := w.Put(r.tree, r.key, r.value); err != nil {
				return err
			}
		}
		for _, r := range group {
			if err := harm(w, r); err != nil {
				return err
			}
		}
		return nil
	}))
}

// sameStory syncs what the operator has said before, and wants no line of history
// more.
func (x *town) sameStory() {
	x.t.Helper()
	before := fmt.Sprint(x.lines(1))
	x.sync(1, spentIn(coin(1, 105), 100), coin(1, 101), coin(1, 103), coin(1, 104))
	if after := fmt.Sprint(x.lines(1)); after != before {
		x.t.Fatalf("the history says\n%s\nsaid\n%s", after, before)
	}
}

// TestRepairMakesCoinsAnew under the delegates that renew them, with the renewals
// that made them, and takes coins from under delegates that are not there.
func TestRepairMakesCoinsAnew(t *testing.T) {
	x := newTown(t, nil)
	ctx := t.Context()
	x.create(1)
	x.sync(1, coin(1, 1), coin(1, 2))
	settled := x.drive(x.submit(1, 1, 1), append(slices.Clone(toCommitment), delegate.Confirmed)...)
	leaf := leafOf(settled)
	again := x.signed(1, 2, 2)
	again.Inputs[0].Outpoint = leaf
	x.prepare(1, 2)
	_, err := x.l.Submit(ctx, ledger.Submission{Record: again})
	x.must(err)
	was := readRows(t, x.store)
	for _, r := range was {
		for how, harm := range harms {
			if r.tree != "vtxos" || !bytes.Equal(r.key[:32], leaf.Hash[:]) || how != "gone" && how != "a bit of its value" {
				continue
			}
			x.harm(was, []storedRow{r}, harm)
			x.repair()
			x.again()
			x.clean()
			v, err := x.l.VTXO(ctx, leaf)
			if err != nil || v.Cover != again.ID || v.Origin != settled.ID || v.Commitment != settled.Commitment {
				t.Errorf("%s: %+v %v", how, v, err)
			}
		}
	}
	x.harm(was, []storedRow{{tree: "vtxos"}}, func(w kv.Writer, _ storedRow) error { return w.Delete("delegate_sessions", again.ID[:]) })
	x.repair()
	x.again()
	if v, err := x.l.VTXO(ctx, leaf); err != nil || v.Cover != (vigil.DelegateID{}) {
		t.Errorf("%+v %v", v, err)
	}
	x.clean()
}

// TestRepairEndsTheWait of a delegate for one whose end it was not told of, as its
// row in the index was lost.
func TestRepairEndsTheWait(t *testing.T) {
	for name, end := range map[string]struct {
		event delegate.Event
		want  delegate.State
	}{"failed": {delegate.NotFinalized, delegate.Armed}, "settled": {delegate.Confirmed, delegate.Spent}, "unreadable": {0, delegate.Armed}} {
		x, ctx := newTown(t, nil), t.Context()
		receipt, err := x.l.Submit(ctx, ledger.Submission{Record: newRecord(0, []int{0})})
		x.must(err)
		older := x.drive(receipt.Record, toCommitment[:5]...)
		newer, err := x.l.Submit(ctx, ledger.Submission{Record: newRecord(1, []int{0, 1})})
		x.must(err)
		x.must(x.store.Update(ctx, func(w kv.Writer) error {
			if name == "unreadable" {
				if err := w.Put("delegate_sessions", older.ID[:], []byte("rotten")); err != nil {
					return err
				}
			}
			return firstError(w.Delete("in_flight", older.ID[:]), w.Delete("pending", older.ID[:]))
		}))
		switch name {
		case "failed":
			x.drive(older, delegate.NotFinalized)
		case "settled":
			x.drive(older, delegate.Finalized, delegate.Confirmed)
		}
		x.repair()
		x.again()
		got, err := x.l.Delegate(ctx, newer.Record.ID)
		if err != nil || got.State != end.want || end.want == delegate.Armed && len(got.Watch) != 1 {
			t.Errorf("%s: %+v %v", name, got, err)
		}
		if name != "unreadable" {
			x.clean()
		} else if report, err := fsck.Check(ctx, x.store, nil); err != nil || len(findings(report)) != 1 {
			t.Error(report, err)
		}
	}
}

// damage harms a few rows that pass.
func damage(t *rapid.T, x *town, passes func(tree string) bool) {
	rows := slices.DeleteFunc(readRows(x.t, x.store), func(r storedRow) bool { return !passes(r.tree) })
	if len(rows) == 0 {
		return
	}
	names := []string{"a bit of its key", "a bit of its value", "a stray before it", "a stray beside it", "cut short", "gone"}
	for range rapid.IntRange(1, 6).Draw(t, "rows") {
		r := rapid.SampledFrom(rows).Draw(t, "row")
		how := rapid.SampledFrom(names).Draw(t, "harm")
		if !ledger.Rebuilt(r.tree) {
			how = names[rapid.IntRange(0, 1).Draw(t, "bit")] // what was written, a disk can only spoil
		} else if r.tree == "counts" && strings.HasPrefix(how, "a stray") {
			how = "gone"
		}
		x.must(x.store.Update(x.t.Context(), func(w kv.Writer) error {
			if _, err := w.Get(r.tree, r.key); err != nil {
				return nil // harmed by now
			}
			return harms[how](w, r)
		}))
	}
}

// mend spoils indexes, repairs, and wants what was there before, but for the trees
// given.
func mend(t *rapid.T, x *town, but ...string) {
	was := readRows(x.t, x.store)
	damage(t, x, func(tree string) bool { return ledger.Rebuilt(tree) && tree != "quarantine" })
	x.repair()
	x.again()
	if rows := differ(was, readRows(x.t, x.store), but...); len(rows) > 0 {
		t.Fatalf("%q", rows)
	}
}

// TestRepairModel runs the ledger beside the model, and spoils its indexes now and
// then.
func TestRepairModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		x := newMachine(r)
		actions := x.actions()
		actions["damage"] = func(r *rapid.T) { mend(r, &town{t: t, store: x.store, l: x.ledger, at: x.at}) }
		r.Repeat(actions)
	})
}

// TestRepairModelOfWallets does so with wallets.
func TestRepairModelOfWallets(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		x := newWalletMachine(t)
		actions := x.actions()
		actions["damage"] = func(r *rapid.T) { mend(r, x.town, "wallet_vtxos") }
		r.Repeat(actions)
	})
}

// TestRepairOfAnythingLosesNothing spoils rows of every kind, what is written down
// nowhere else too: no such row is deleted, a second repair changes nothing, and
// what fsck finds then is what cannot be read, and what hangs on it.
func TestRepairOfAnythingLosesNothing(t *testing.T) {
	was := readRows(t, newCity(t).store)
	rapid.Check(t, func(rt *rapid.T) {
		x := newTown(t, kvtest.NewMemory())
		x.harm(was, nil, nil)
		damage(rt, x, func(tree string) bool { return tree != "meta" })
		before := readRows(t, x.store)
		x.repair()
		x.again()
		after := map[string]bool{}
		for _, r := range readRows(t, x.store) {
			after[r.tree+string(r.key)] = true
		}
		for _, r := range before {
			if !ledger.Rebuilt(r.tree) && !after[r.tree+string(r.key)] {
				rt.Fatalf("%s %x was deleted", r.tree, r.key)
			}
		}
		report, err := fsck.Check(t.Context(), x.store, nil)
		x.must(err)
		for _, f := range report.Findings {
			if slices.Contains([]string{"index", "stray-row", "tombstone", "count", "wallet-count"}, f.Code) && f.Severity == fsck.Fault {
				rt.Errorf("%v", f)
			}
		}
	})
}
