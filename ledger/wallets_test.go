package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// A wallet without older descriptors is stored as it always was; one with them is
// newer than what earlier versions read, and they leave it alone.
func TestOlderDescriptors(t *testing.T) {
	x := newTown(t, nil)
	row := func() []byte {
		t.Helper()
		var b []byte
		x.must(x.store.View(t.Context(), func(r kv.Reader) (err error) {
			id := walletID(1)
			b, err = r.Get("wallets", id[:])
			return err
		}))
		return b
	}
	w := x.create(1)
	if b := row(); b[0] != 1 {
		t.Fatalf("format %d", b[0])
	}
	older := [][]byte{[]byte("first"), []byte("second")}
	w, err := x.l.UpdateWallet(t.Context(), w, func(w *ledger.Wallet) {
		w.Older = older
		for n := range 3 * 31 {
			w.Scripts = append(w.Scripts, fmt.Append(nil, "one more script ", n))
		}
	}, ledger.Extras{})
	x.must(err)
	if b := row(); b[0] != 2 {
		t.Fatalf("format %d", b[0])
	}
	got, err := x.l.Wallet(t.Context(), w.ID)
	if err != nil || !slices.EqualFunc(got.Older, older, bytes.Equal) || len(got.Scripts) != 2+3*31 {
		t.Fatalf("%+v, %v", got, err)
	}
	if by, err := x.l.WalletByScript(t.Context(), []byte("one more script 92")); err != nil || by.ID != w.ID {
		t.Fatalf("%v, %v", by, err)
	}
	x.clean(secretsOf(1)...)
	if w, err = x.l.UpdateWallet(t.Context(), w, func(w *ledger.Wallet) { w.Older, w.Scripts = nil, w.Scripts[:2] }, ledger.Extras{}); err != nil || row()[0] != 1 {
		t.Fatalf("%v, %v", w, err)
	}
	if _, err := x.l.UpdateWallet(t.Context(), w, func(w *ledger.Wallet) { w.Older = make([][]byte, 32) }, ledger.Extras{}); err == nil {
		t.Fatal("32 older ones are stored")
	}
}

func TestWalletIsFoundByAllItsNames(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x, ctx := newTown(t, store), t.Context()
			made := x.create(1)
			x.create(2)
			x.reopen()
			want := wallet(1)
			want.Version, want.CreatedAt = 1, start
			if !reflect.DeepEqual(made, want) {
				t.Fatalf("%+v\nwant %+v", made, want)
			}
			for by, find := range map[string]func() (*ledger.Wallet, error){
				"id":     func() (*ledger.Wallet, error) { return x.l.Wallet(ctx, walletID(1)) },
				"host":   func() (*ledger.Wallet, error) { return x.l.WalletByHost(ctx, pubkey('h', 1)) },
				"script": func() (*ledger.Wallet, error) { return x.l.WalletByScript(ctx, want.Scripts[1]) },
			} {
				if got, err := find(); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("by %s: %+v, %v", by, got, err)
				}
			}
			if _, err := x.l.WalletByHost(ctx, pubkey('v', 1)); !errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("found by Vigil's own host key: %v", err)
			}
			ids, rest, err := x.l.Wallets(ctx, 1, nil)
			if err != nil || len(ids) != 1 || rest == nil {
				t.Fatal(ids, rest, err)
			}
			if more, rest, err := x.l.Wallets(ctx, 1, rest); err != nil || len(more) != 1 || more[0] == ids[0] || rest != nil {
				t.Fatal(more, rest, err)
			}
			if n, err := x.l.WalletCounts(ctx); err != nil || n[ledger.WalletActive] != 2 {
				t.Fatal(n, err)
			}
			x.clean(append(secretsOf(1), secretsOf(2)...)...)
		})
	}
}

// TestOneWalletForEachHostKey: the same device again gets what it has, and what it
// would have made is garbage.
func TestOneWalletForEachHostKey(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	first := x.create(1)
	again := wallet(2)
	again.Epochs[0].Hosts[0] = pubkey('h', 1)
	x.must(x.l.Plan(ctx, ledger.Plan{Wallet: again.ID, Secrets: again.Secrets, NotBefore: x.at + 600}))
	got, err := x.l.CreateWallet(ctx, again, ledger.Extras{})
	if !errors.Is(err, ledger.ErrTaken) || got == nil || got.ID != first.ID {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, name := range again.Secrets {
		if !x.garbage()[name] {
			t.Errorf("%s is an orphan", name)
		}
	}
	// A retry of the first is told of the first, whose secrets stay.
	if got, err := x.l.CreateWallet(ctx, wallet(1), ledger.Extras{}); !errors.Is(err, ledger.ErrTaken) || got.ID != first.ID {
		t.Fatal(got, err)
	}
	if garbage := x.garbage(); garbage[first.Secrets[0]] || garbage[first.Secrets[1]] {
		t.Fatal("the secrets of a wallet are garbage")
	}
	x.clean(append(secretsOf(1), secretsOf(2)...)...)
}

func TestWalletCompareAndSwap(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.create(1)
	x.create(2)
	named := func(w *ledger.Wallet) { w.Identities[0].Name = "tablet"; w.ID[0]++; w.Version = 99 }
	next, err := x.l.UpdateWallet(ctx, w, named, ledger.Extras{Policy: &ledger.Policy{Current: []byte("p")}})
	x.must(err)
	if next.Version != 2 || next.ID != w.ID || next.Identities[0].Name != "tablet" || w.Identities[0].Name != "phone" {
		t.Fatalf("%+v", next)
	}
	if _, err := x.l.UpdateWallet(ctx, w, named, ledger.Extras{Policy: &ledger.Policy{Current: []byte("q")}}); !errors.Is(err, ledger.ErrConflict) {
		t.Fatal(err)
	}
	if p, err := x.l.Policy(ctx, w.ID); err != nil || string(p.Current) != "p" {
		t.Fatalf("a refused write left its policy: %v %v", p, err)
	}
	// A name of another's is refused, and nothing of the change is kept.
	steal := func(w *ledger.Wallet) { w.Scripts = append(w.Scripts, scriptOf(2)) }
	if _, err := x.l.UpdateWallet(ctx, next, steal, ledger.Extras{}); !errors.Is(err, ledger.ErrTaken) {
		t.Fatal(err)
	}
	// A sync raises no version.
	x.sync(1, coin(1, 1))
	if _, err := x.l.UpdateWallet(ctx, next, nil, ledger.Extras{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := x.l.Wallet(ctx, w.ID); got.SyncedAt != x.at {
		t.Fatalf("the change forgot when the wallet was synced: %+v", got)
	}
	x.clean()
}

// TestUnsyncedAreFoundWithoutTheOthers, the longest unsynced first, in pages.
func TestUnsyncedAreFoundWithoutTheOthers(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	for n := range 6 {
		x.create(n)
	}
	pending := wallet(7)
	pending.State, pending.Secrets = ledger.WalletPending, nil
	_, err := x.l.CreateWallet(ctx, pending, ledger.Extras{})
	x.must(err)
	for _, n := range []int{4, 2, 0, 1, 3} {
		x.at += 10
		x.sync(n, coin(n, n))
		x.sync(n, coin(n, n)) // the same again
	}
	x.at += 10
	x.must(x.l.DeleteWallet(ctx, x.row(2), ledger.Extras{}))
	x.clean()
	unsynced := func(since int64) (ids []vigil.WalletID) {
		for from := ledger.Cursor(nil); ; {
			page, rest, err := x.l.Unsynced(ctx, unix(since), 2, from)
			x.must(err)
			ids = append(ids, page...)
			if from = rest; rest == nil {
				return ids
			}
		}
	}
	for since, want := range map[int64][]vigil.WalletID{
		0:          nil,
		start + 10: {walletID(5)},
		start + 11: {walletID(5), walletID(4)},
		start + 99: {walletID(5), walletID(4), walletID(0), walletID(1), walletID(3)},
	} {
		if got := unsynced(since); !slices.Equal(got, want) {
			t.Errorf("since %d: %v, want %v", since-start, got, want)
		}
	}
	// What a clock said that is set back by now is not believed.
	x.at -= 45
	for _, n := range []int{3, 4} { // by the clock that ran ahead
		x.at += 10_000
		x.sync(n)
		x.at -= 10_000
	}
	if got, want := unsynced(start+11), []vigil.WalletID{walletID(5), walletID(3), walletID(4)}; !slices.Equal(got, want) {
		t.Errorf("after a clock that ran ahead: %v, want %v", got, want)
	}
}

// TestRefreshMovesTheAlias: a pending epoch's host key finds the wallet at once, the
// old one's until it is erased.
func TestRefreshMovesTheAlias(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.create(1)
	found := func(kind byte, want bool) {
		t.Helper()
		if _, err := x.l.WalletByHost(ctx, pubkey(kind, 1)); (err == nil) != want {
			t.Errorf("by %c: %v", kind, err)
		}
	}
	step := func(f func(*ledger.Wallet)) {
		t.Helper()
		var err error
		w, err = x.l.UpdateWallet(ctx, w, f, ledger.Extras{})
		x.must(err)
		x.reopen()
		x.clean()
	}
	step(func(w *ledger.Wallet) {
		w.Pending = true
		w.Epochs = append(w.Epochs, ledger.Epoch{Number: 1, Hosts: []bip340.PubKey{pubkey('n', 1), pubkey('v', 1)}, Info: []byte("new"), Record: []byte("record"), Sealed: []byte("sealed")})
	})
	found('h', true)
	found('n', true)
	step(func(w *ledger.Wallet) { w.Active, w.Pending, w.Retiring = 1, false, true })
	step(func(w *ledger.Wallet) { w.Retiring = false; w.Epochs = w.Epochs[1:] })
	found('h', false)
	found('n', true)
	if got, err := x.l.Wallet(ctx, w.ID); err != nil || !reflect.DeepEqual(got, w) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := x.l.UpdateWallet(ctx, w, func(w *ledger.Wallet) { w.Epochs = make([]ledger.Epoch, 3) }, ledger.Extras{}); err == nil {
		t.Fatal("three epochs were stored")
	}
}

func TestPlanIsTakenUpOrLapses(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	lapse := func() {
		t.Helper()
		_, err := x.l.Lapse(ctx, 100)
		x.must(err)
	}
	// Taken up: nothing of it is garbage, however late it gets.
	x.submit(1, 1, 1)
	// Not taken up: lapses, and is deleted a while after.
	x.prepare(1, 2)
	x.must(x.l.Plan(ctx, ledger.Plan{Wallet: walletID(2), Secrets: secretsOf(2), NotBefore: x.at + 600}))
	lapse()
	if len(x.garbage()) != 0 {
		t.Fatal("garbage before its time")
	}
	x.at += 3601
	if _, err := x.l.Prepared(ctx, walletID(1), delegateID(2)); !errors.Is(err, ledger.ErrLapsed) {
		t.Fatal(err)
	}
	if _, err := x.l.Submit(ctx, ledger.Submission{Record: x.signed(1, 2, 2)}); !errors.Is(err, ledger.ErrLapsed) {
		t.Fatalf("submitted an hour after it was prepared: %v", err)
	}
	lapse()
	if len(x.garbage()) != 0 {
		t.Fatal("a plan that has just lapsed is garbage at once: its secret may be on the way")
	}
	x.clean()
	// From then on it cannot be taken up; its secrets are garbage by the same write.
	if _, err := x.l.CreateWallet(ctx, wallet(2), ledger.Extras{}); !errors.Is(err, ledger.ErrLapsed) {
		t.Fatal(err)
	}
	if g := x.garbage(); !g[secretsOf(2)[0]] || !g[secretsOf(2)[1]] || len(g) != 2 {
		t.Fatal(g)
	}
	x.at += 2 * 3600
	x.reopen()
	lapse()
	x.at += 599
	lapse()
	if g := x.garbage(); len(g) != 2 {
		t.Fatalf("within the grace: %v", g)
	}
	x.at += 2
	lapse()
	if g := x.garbage(); !g["tree-secret."+delegateID(2).String()] || len(g) != 3 {
		t.Fatal(g)
	}
	if plans, err := x.l.Plans(ctx, walletID(1)); err != nil || len(plans) != 0 {
		t.Fatal(plans, err)
	}
	x.clean(append(secretsOf(1), "tree-secret."+delegateID(1).String())...)
}

// TestClocksThatJump: no plan is lost or deleted too early for it.
func TestClocksThatJump(t *testing.T) {
	ctx := t.Context()
	t.Run("ahead between plan and row", func(t *testing.T) {
		x := newTown(t, nil)
		x.must(x.l.Plan(ctx, ledger.Plan{Wallet: walletID(1), Secrets: secretsOf(1), NotBefore: x.at + 600}))
		x.at += 86_400 * 365
		if _, err := x.l.CreateWallet(ctx, wallet(1), ledger.Extras{}); err != nil {
			t.Fatalf("nobody has let it lapse: %v", err)
		}
		if n, err := x.l.Lapse(ctx, 10); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		x.clean(secretsOf(1)...)
	})
	t.Run("ahead, lapsed, back", func(t *testing.T) {
		x := newTown(t, nil)
		x.must(x.l.Plan(ctx, ledger.Plan{Wallet: walletID(1), Secrets: secretsOf(1), NotBefore: x.at + 600}))
		x.at += 86_400
		_, err := x.l.Lapse(ctx, 10)
		x.must(err)
		x.at -= 86_400
		if _, err := x.l.CreateWallet(ctx, wallet(1), ledger.Extras{}); !errors.Is(err, ledger.ErrLapsed) {
			t.Fatal(err)
		}
		if len(x.garbage()) != 2 {
			t.Fatal("orphans")
		}
		x.clean(secretsOf(1)...)
	})
	t.Run("planned by a clock that was years ahead", func(t *testing.T) {
		x := newTown(t, nil)
		x.create(1)
		x.at += 86_400 * 365
		x.prepare(1, 1)
		x.at -= 86_400 * 365
		for range 2 {
			_, err := x.l.Lapse(ctx, 10)
			x.must(err)
			x.clean()
			x.at += 601
		}
		if len(x.garbage()) != 1 {
			t.Fatal("it waits for the year")
		}
	})
}

func TestPreparedAreBounded(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.create(2)
	for n := range ledger.MaxPrepared {
		x.prepare(1, n)
	}
	plan := func(n int) error {
		return x.l.Plan(ctx, ledger.Plan{Wallet: walletID(1), Delegate: delegateID(n), Secrets: []string{"s"}, ExpiresAt: x.at + 3600, NotBefore: x.at + 7200})
	}
	if err := plan(50); !errors.Is(err, ledger.ErrTooMany) {
		t.Fatal(err)
	}
	x.prepare(2, 60) // another wallet is not concerned
	if _, err := x.l.Submit(ctx, ledger.Submission{Record: x.signed(1, 3, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := plan(3); !errors.Is(err, ledger.ErrTaken) {
		t.Fatalf("the id of a stored delegate: %v", err)
	}
	x.must(plan(50))
	if err := plan(50); !errors.Is(err, ledger.ErrTaken) {
		t.Fatal(err)
	}
	// Expired ones do not count, but are not without bound while nobody clears up.
	refused := 0
	for n := 100; n < 200; n++ {
		x.at += 1000
		if err := plan(n); err != nil {
			refused++
		}
	}
	if refused < 50 {
		t.Fatalf("only %d of 100 were refused", refused)
	}
	if err := x.l.Plan(ctx, ledger.Plan{Wallet: walletID(9), Delegate: delegateID(9)}); !errors.Is(err, ledger.ErrNotFound) {
		t.Fatalf("planned for no wallet: %v", err)
	}
	x.clean()
}

// TestDelegateIsItsWallets holds Submit to the plan.
func TestDelegateIsItsWallets(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.create(2)
	x.prepare(1, 1)
	submit := func(change func(*delegate.Record)) error {
		r := x.signed(1, 1, 1)
		change(r)
		_, err := x.l.Submit(ctx, ledger.Submission{Record: r})
		return err
	}
	if err := submit(func(r *delegate.Record) { r.TreeKey = pubkey('t', 9) }); !errors.Is(err, ledger.ErrLapsed) {
		t.Errorf("with another tree key: %v", err)
	}
	if err := submit(func(r *delegate.Record) { r.ID = delegateID(9) }); !errors.Is(err, ledger.ErrLapsed) {
		t.Errorf("with an id that was not issued: %v", err)
	}
	if err := submit(func(r *delegate.Record) { r.Wallet = walletID(2); r.Inputs[0].Script = scriptOf(2) }); !errors.Is(err, ledger.ErrLapsed) {
		t.Errorf("with another wallet's id: %v", err)
	}
	if err := submit(func(r *delegate.Record) { r.Inputs[0].Script = scriptOf(2) }); vigil.CodeOf(err) != vigil.CodeInputMismatch {
		t.Errorf("over another wallet's VTXO: %v", err)
	}
	x.must(submit(func(*delegate.Record) {}))
	x.must(submit(func(*delegate.Record) {})) // known
	if err := submit(func(r *delegate.Record) { r.ProofTxid[0]++ }); !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("another body under the same id: %v", err)
	}
	x.clean(append(append(secretsOf(1), secretsOf(2)...), "tree-secret."+delegateID(1).String())...)
}

// TestEveryEndMakesGarbage: however a wallet's delegate ends, its tree secret goes;
// while it has not ended it stays.
func TestEveryEndMakesGarbage(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	secret := func(n int) string { return "tree-secret." + delegateID(n).String() }
	ends := func(n int, f func(r *delegate.Record)) {
		t.Helper()
		r, err := x.l.Delegate(ctx, delegateID(n))
		x.must(err)
		if x.garbage()[secret(n)] {
			t.Errorf("%d: garbage while it is %s", n, r.State)
		}
		f(r)
		if !x.garbage()[secret(n)] {
			t.Errorf("%d: ended, and its secret stays", n)
		}
		x.clean()
	}
	x.submit(1, 1, 1)
	ends(1, func(*delegate.Record) { x.submit(1, 2, 1) }) // replaced
	ends(2, func(r *delegate.Record) { x.drive(r, append(toCommitment, delegate.Confirmed)...) })
	x.submit(1, 3, 3)
	ends(3, func(r *delegate.Record) { _, err := x.l.Cancel(ctx, r, false); x.must(err) })
	x.submit(1, 4, 4)
	ends(4, func(r *delegate.Record) { x.drive(r, delegate.Expire) })
	x.submit(1, 5, 5)
	ends(5, func(r *delegate.Record) {
		_, err := x.l.EndBroken(ctx, r, []ledger.Gone{{Outpoint: outpoint(5), Unrolled: true}})
		x.must(err)
	})
	// A pending one ends with the renewal that it waits for.
	flying := x.drive(x.submit(1, 6, 6), toCommitment...)
	x.submit(1, 7, 6)
	ends(7, func(*delegate.Record) { x.drive(flying, delegate.Confirmed) })
	x.submit(1, 8, 8)
	spent := coin(1, 8)
	spent.Spent, spent.ArkTxid = true, "ff"
	ends(8, func(*delegate.Record) { x.sync(1, spent) })
	quarantined := x.drive(x.submit(1, 9, 9), delegate.Quarantine)
	if x.garbage()[secret(9)] {
		t.Error("the secret of a quarantined delegate is garbage")
	}
	_ = quarantined
}

// TestNeededSecretIsNotDeleted: a row that says otherwise is told of.
func TestNeededSecretIsNotDeleted(t *testing.T) {
	x := newTown(t, nil)
	w := x.create(1)
	if _, err := x.l.UpdateWallet(t.Context(), w, nil, ledger.Extras{Garbage: []string{w.Secrets[0], "other"}}); err != nil {
		t.Fatal(err)
	}
	if g := x.garbage(); g[w.Secrets[0]] || !g["other"] {
		t.Fatal(g)
	}
}

// TestFailedWriteLeavesNothing fails every commit of a wallet's life once.
func TestFailedWriteLeavesNothing(t *testing.T) {
	ctx := t.Context()
	store := kvtest.NewMemory()
	x := newTown(t, store)
	down := func(f func() error) {
		t.Helper()
		m := x.store.(*kvtest.Memory)
		m.Fail(kv.ErrUnavailable)
		if err := f(); !errors.Is(err, kv.ErrUnavailable) {
			t.Fatal(err)
		}
		m.Fail(nil)
		x.clean()
		x.must(f())
	}
	var w *ledger.Wallet
	down(func() error {
		return x.l.Plan(ctx, ledger.Plan{Wallet: walletID(1), Secrets: secretsOf(1), NotBefore: x.at + 600})
	})
	keep := func(made *ledger.Wallet, err error) error {
		if err == nil {
			w = made
		}
		return err
	}
	down(func() error { return keep(x.l.CreateWallet(ctx, wallet(1), ledger.Extras{})) })
	down(func() error { return keep(x.l.UpdateWallet(ctx, w, nil, ledger.Extras{})) })
	down(func() error { _, err := x.l.PutVTXOs(ctx, w.ID, nil); return err })
	down(func() error { return x.l.SetToken(ctx, w.ID, ledger.Token{Text: "t"}) })
	down(func() error { return x.l.DeleteWallet(ctx, w, ledger.Extras{}) })
}
