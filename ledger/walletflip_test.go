package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/ledger"
)

// TestFlippedBitOfAWalletIsFound flips one bit of every row of a furnished wallet in
// turn, in its value and then in its key, and wants fsck to name that row; when it
// is the value, that row alone.
func TestFlippedBitOfAWalletIsFound(t *testing.T) {
	x := newTown(t, nil)
	x.furnish(1)
	x.clean()
	seen := map[string]bool{}
	for n, r := range readRows(t, x.store) {
		seen[r.tree] = true
		if r.tree == "meta" {
			continue // TestFlippedBitIsFound
		}
		for _, part := range []string{"value", "key"} {
			bad := storedRow{r.tree, bytes.Clone(r.key), bytes.Clone(r.value)}
			of := bad.value
			if part == "key" {
				of = bad.key
			}
			of[n*31%len(of)] ^= 1 << (n % 8)
			swap(t, x.store, r, bad)
			report, err := fsck.Check(t.Context(), x.store, nil)
			x.must(err)
			found := findings(report)
			if r.tree == "audit" { // and the chain is broken there
				found = slices.DeleteFunc(found, func(f string) bool { return f == "audit audit" })
			}
			if !slices.Contains(found, fmt.Sprintf("unreadable %s/%x", bad.tree, bad.key)) || part == "value" && len(found) != 1 {
				t.Errorf("a bit in the %s of %s %x: found %q", part, r.tree, r.key, found)
			}
			swap(t, x.store, bad, r)
		}
	}
	for _, tree := range ledger.Trees() {
		if !seen[tree] && !slices.Contains([]string{"in_flight", "pending", "deleting", "quarantine", "secret_gc"}, tree) {
			t.Errorf("nothing is in %s", tree)
		}
	}
}

// TestDamagedWalletHoldsUpNobody flips a bit of every row of one wallet, and of all
// that is shared, and then does with another all that a Vigil does.
func TestDamagedWalletHoldsUpNobody(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.furnish(1)
	other := x.create(2)
	x.sync(2, coin(2, 1), coin(2, 2))
	mine := x.submit(2, 1, 1)
	x.prepare(2, 3)
	own := [][]byte{other.ID[:], mine.ID[:]}
	for _, v := range []int{1, 2} {
		op := outpoint(v)
		own = append(own, op.Hash[:])
	}
	x.must(x.store.Update(ctx, func(w kv.Writer) error {
		for _, tree := range ledger.Trees() {
			if tree == "meta" {
				continue
			}
			var rows []storedRow
			if err := w.Scan(tree, nil, nil, func(key, value []byte) error {
				is := func(b []byte) bool {
					return bytes.Contains(key, b) || tree == "wallet_aliases" && bytes.Contains(value, b)
				}
				if !slices.ContainsFunc(own, is) {
					rows = append(rows, storedRow{tree, key, value})
				}
				return nil
			}); err != nil {
				return err
			}
			for _, r := range rows {
				bad := bytes.Clone(r.value)
				bad[len(bad)/2] ^= 1
				if err := w.Put(tree, r.key, bad); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	if _, err := x.l.Wallet(ctx, walletID(1)); err == nil {
		t.Fatal("the damaged wallet can be read")
	}
	if _, err := x.l.WalletByHost(ctx, pubkey('h', 1)); err == nil {
		t.Fatal("by its host key too")
	}
	again := wallet(1)
	again.ID[5]++
	again.Secrets = nil
	if made, err := x.l.CreateWallet(ctx, again, ledger.Extras{}); err == nil {
		t.Fatalf("a second wallet beside one that cannot be read: %+v", made)
	}
	w, err := x.l.Wallet(ctx, other.ID)
	x.must(err)
	for name, try := range map[string]func() error{
		"update": func() (err error) {
			w, err = x.l.UpdateWallet(ctx, w, nil, ledger.Extras{Audit: []ledger.Link{entry(x.at, "update")}, Policy: &ledger.Policy{}})
			return err
		},
		"decide": func() error {
			return x.l.Decide(ctx, w.ID, 0, func(s ledger.Spending) (ledger.Verdict, error) {
				if s.Amount != 0 {
					t.Errorf("spent %d", s.Amount)
				}
				return ledger.Verdict{Audit: []ledger.Link{entry(x.at, "sign")}, Spends: []ledger.Spend{{Amount: 1}}}, nil
			})
		},
		"begin": func() error {
			q := ledger.Request{Owner: w.ID[:], Stamp: x.at}
			if _, err := x.l.Begin(ctx, q, window); err != nil {
				return err
			}
			return x.l.Finish(ctx, q, []byte("answer"))
		},
		"prune":     func() error { _, err := x.l.PruneReplay(ctx, 100); return err },
		"lapse":     func() error { _, err := x.l.Lapse(ctx, 100); return err },
		"dismantle": func() error { _, err := x.l.Dismantle(ctx); return err },
		"counts":    func() error { _, err := x.l.WalletCounts(ctx); return err },
		"wallets":   func() error { _, _, err := x.l.Wallets(ctx, 10, nil); return err },
		"snapshot":  func() error { _, err := x.l.WalletSnapshot(ctx, w.ID, 10); return err },
		"token":     func() error { return x.l.SetToken(ctx, w.ID, ledger.Token{Text: "t"}) },
		"sync":      func() error { _, err := x.l.PutVTXOs(ctx, w.ID, nil); return err },
	} {
		if err := try(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	x.drive(mine, append(slices.Clone(toCommitment), delegate.Confirmed)...)
	receipt, err := x.l.Submit(ctx, ledger.Submission{Record: x.signed(2, 3, 2)})
	if err != nil || receipt.Record.State != delegate.Armed {
		t.Error(receipt, err)
	}
	x.at += 100_000
	for range 3 {
		if _, err := x.l.Lapse(ctx, 100); err != nil {
			t.Error(err)
		}
		if _, err := x.l.PruneReplay(ctx, 100); err != nil {
			t.Error(err)
		}
	}
	if g := x.garbage(); g[secretsOf(1)[0]] || g[secretsOf(2)[0]] {
		t.Error("secrets of wallets are deleted", g)
	}
	marks, err := x.l.Unreadable(ctx)
	if err != nil || len(marks) < 10 {
		t.Errorf("%d marks, %v", len(marks), err)
	}
	if err := x.l.DeleteWallet(ctx, w, ledger.Extras{}); err != nil {
		t.Error(err)
	}
}

// TestDelegatesOfADamagedWalletGoOn: they are renewed though their wallet's row, its
// names or its coins' rows cannot be read.
func TestDelegatesOfADamagedWalletGoOn(t *testing.T) {
	for _, tree := range []string{"wallets", "wallet_aliases", "wallet_vtxos", "vtxos", "recovery", "ark_tx_history"} {
		x := newTown(t, nil)
		x.create(1)
		x.sync(1, coin(1, 1), coin(1, 2))
		r := x.submit(1, 1, 1, 2)
		for _, row := range readRows(t, x.store) {
			if row.tree == tree {
				bad := storedRow{row.tree, row.key, bytes.Clone(row.value)}
				bad.value[len(bad.value)/2] ^= 2
				swap(t, x.store, row, bad)
			}
		}
		if r = x.drive(r, append(slices.Clone(toCommitment), delegate.Confirmed)...); r.State != delegate.Settled {
			t.Errorf("%s: %s", tree, r.State)
		}
		if _, err := x.l.PutVTXOs(t.Context(), walletID(1), nil); err != nil && (tree != "wallets" && tree != "recovery" || !errors.Is(err, ledger.ErrUnreadable)) {
			t.Errorf("%s: %v", tree, err)
		}
	}
}

// TestDamagedSpendIsCountedHigh: what cannot be read is no licence to spend.
func TestDamagedSpendIsCountedHigh(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.furnish(1)
	for _, r := range readRows(t, x.store) {
		if r.tree == "spend_windows" {
			bad := storedRow{r.tree, r.key, bytes.Clone(r.value)}
			bad.value[0] ^= 1
			swap(t, x.store, r, bad)
		}
	}
	if s, err := x.l.SpentSince(ctx, walletID(1), 0); err != nil || s.Amount < 21e14 || len(s.Each) != 1 {
		t.Fatalf("%+v %v", s, err)
	}
}
