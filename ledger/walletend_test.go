package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// furnish gives a wallet something in every tree.
func (x *town) furnish(n int) *ledger.Wallet {
	x.t.Helper()
	ctx := x.t.Context()
	w := x.create(n)
	base := 100 * n
	x.sync(n, coin(n, base+1), coin(n, base+2), coin(n, base+3), coin(n, base+4), coin(n, base+5))
	x.submit(n, base+1, base+1)
	x.drive(x.submit(n, base+2, base+2), append(slices.Clone(toCommitment), delegate.Confirmed)...)
	cancelled, err := x.l.Cancel(ctx, x.submit(n, base+3, base+3), false)
	x.must(err)
	if cancelled.State != delegate.Cancelled {
		x.t.Fatal(cancelled.State)
	}
	watching := x.drive(x.submit(n, base+4, base+4), append(slices.Clone(toCommitment), delegate.Conflict)...)
	x.drive(watching, delegate.Quarantine)
	x.submit(n, base+5, base+5)
	x.sync(n, spentIn(coin(n, base+5), byte(base)))
	x.prepare(n, base+6)
	x.must(x.l.SetToken(ctx, w.ID, ledger.Token{Kind: "fcm", Text: fmt.Sprint("token of ", n)}))
	x.must(x.l.Decide(ctx, w.ID, 0, func(ledger.Spending) (ledger.Verdict, error) {
		return ledger.Verdict{Audit: []ledger.Link{entry(x.at, "sign")}, Spends: []ledger.Spend{{Sighash: [32]byte{byte(n)}, Amount: 5}}}, nil
	}))
	host := w.Epochs[0].Hosts[0]
	for i, owner := range [][]byte{w.ID[:], host[:]} {
		q := ledger.Request{Owner: owner, Nonce: [16]byte{byte(n), byte(i)}, Hash: [32]byte{1}, Stamp: x.at}
		_, err := x.l.Begin(ctx, q, window)
		x.must(err)
		x.must(x.l.Finish(ctx, q, fmt.Append(nil, "answer to ", w.ID)))
	}
	w, err = x.l.UpdateWallet(ctx, w, func(w *ledger.Wallet) {
		w.Pending = true
		w.Older, w.Descriptor = [][]byte{w.Descriptor}, []byte("the next descriptor")
		w.Scripts = append(w.Scripts, fmt.Appendf(nil, "the next VTXO script of %d", n))
		w.Epochs = append(w.Epochs, ledger.Epoch{Number: 1, Hosts: []bip340.PubKey{pubkey('n', n), pubkey('v', n)}, Info: []byte("new")})
	}, ledger.Extras{Policy: &ledger.Policy{Current: []byte("policy")}})
	x.must(err)
	return w
}

// secrets are all that the town's wallets and delegates need or plan.
func (x *town) secrets(wallets ...int) []string {
	var names []string
	for _, n := range wallets {
		names = append(names, secretsOf(n)...)
		for d := 1; d <= 6; d++ {
			names = append(names, "tree-secret."+delegateID(100*n+d).String())
		}
	}
	return names
}

// marksOf is what is still known of a wallet when it is gone.
func marksOf(n int) [][]byte {
	w := wallet(n)
	marks := slices.Clone(w.Scripts)
	for _, kind := range "hnvid" {
		k := pubkey(byte(kind), n)
		marks = append(marks, k[:])
	}
	for d := 1; d <= 6; d++ {
		id := delegateID(100*n + d)
		marks = append(marks, id[:])
	}
	return marks
}

// gone proves that nothing is left of wallet n but garbage of its secrets.
func (x *town) gone(n int) {
	x.t.Helper()
	present := x.secrets(n)
	for range 2 {
		report, err := fsck.Wallet(x.t.Context(), x.store, &fsck.Secrets{Names: present}, walletID(n), marksOf(n)...)
		x.must(err)
		if !report.Clean() {
			x.t.Fatal(report)
		}
		garbage := x.garbage() // upkeep deletes them
		present = slices.DeleteFunc(present, func(name string) bool { return garbage[name] })
		var names []string
		for name := range garbage {
			names = append(names, name)
		}
		x.must(x.l.SecretDeleted(x.t.Context(), names...))
	}
	if len(present) > 0 {
		x.t.Fatalf("secrets that nobody deletes: %v", present)
	}
}

func TestDeletedWalletLeavesNothing(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x, ctx := newTown(t, store), t.Context()
			x.furnish(2)
			before := x.snapshot(2)
			rows := x.rows()
			w := x.furnish(1)
			report, err := fsck.Wallet(ctx, x.store, nil, w.ID)
			x.must(err)
			trees := map[string]bool{}
			for _, f := range report.Findings {
				trees[f.Subject[:slices.Index([]byte(f.Subject), ' ')]] = true
			}
			for _, tree := range []string{
				"wallets", "recovery", "wallet_aliases", "wallet_vtxos", "prepared", "lapses", "device_tokens", "policies",
				"spend_windows", "replay", "answers", "replay_times", "delegate_sessions", "ark_tx_history",
			} {
				if !trees[tree] {
					t.Errorf("the proof does not look into %s", tree)
				}
			}
			x.clean(x.secrets(1, 2)...)
			stale := w.Clone()
			stale.Version--
			if err := x.l.DeleteWallet(ctx, stale, ledger.Extras{}); !errors.Is(err, ledger.ErrConflict) {
				t.Fatal(err)
			}
			x.must(x.l.DeleteWallet(ctx, w, ledger.Extras{Audit: []ledger.Link{entry(x.at, "delete")}}))
			x.clean(x.secrets(1, 2)...)
			x.gone(1)
			x.clean(slices.DeleteFunc(x.secrets(2), func(name string) bool { // those of what has ended are deleted
				return slices.ContainsFunc([]int{202, 203, 205}, func(d int) bool { return name == "tree-secret."+delegateID(d).String() })
			})...)
			if after := x.snapshot(2); fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
				t.Errorf("the other wallet was %+v and is %+v", before, after)
			}
			if left := x.rows(); len(left) != len(rows) {
				t.Errorf("%d rows more than before it was", len(left)-len(rows))
			}
			if _, err := x.l.Wallet(ctx, w.ID); !errors.Is(err, ledger.ErrNotFound) {
				t.Error(err)
			}
			id := walletID(2)
			if _, err := x.l.Begin(ctx, ledger.Request{Owner: id[:], Nonce: [16]byte{99}, Stamp: x.at}, window); err != nil {
				t.Errorf("another wallet's request: %v", err)
			}
			x.create(1) // its names are free again
			x.clean()
		})
	}
}

// snapshot is a wallet as others see it.
func (x *town) snapshot(n int) *ledger.WalletSnapshot {
	x.t.Helper()
	s, err := x.l.WalletSnapshot(x.t.Context(), walletID(n), 100)
	x.must(err)
	s.Wallet.Epochs = nil // by pointer in the text
	for i := range s.Delegates {
		s.Delegates[i] = &delegate.Record{ID: s.Delegates[i].ID, State: s.Delegates[i].State, Version: s.Delegates[i].Version}
	}
	return &ledger.WalletSnapshot{VTXOs: s.VTXOs, History: s.History, Tokens: s.Tokens, Prepared: s.Prepared}
}

// rows lists every row but those of the audit and the counts.
func (x *town) rows() []string {
	x.t.Helper()
	var all []string
	x.must(x.store.View(x.t.Context(), func(r kv.Reader) error {
		all = nil
		for _, tree := range ledger.Trees() {
			if tree == "audit" || tree == "counts" || tree == "secret_gc" {
				continue
			}
			if err := r.Scan(tree, nil, nil, func(key, _ []byte) error {
				all = append(all, fmt.Sprintf("%s %x", tree, key))
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}))
	return all
}

func TestNoWalletIsDeletedInFlight(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.create(1)
	flying := x.drive(x.submit(1, 1, 1), toCommitment...)
	x.submit(1, 2, 1) // pending behind it
	if err := x.l.DeleteWallet(ctx, w, ledger.Extras{}); !errors.Is(err, ledger.ErrInFlight) {
		t.Fatal(err)
	}
	x.drive(flying, delegate.Confirmed)
	x.must(x.l.DeleteWallet(ctx, w, ledger.Extras{}))
	x.clean()
}

// limited is a store that commits so many updates and then no more, as one whose
// process was killed.
type limited struct {
	*kvtest.Memory
	left int
}

var errKilled = errors.New("killed")

func (l *limited) Update(ctx context.Context, f func(kv.Writer) error) error {
	return l.Memory.Update(ctx, func(w kv.Writer) error {
		if err := f(w); err != nil {
			return err
		}
		if l.left--; l.left < 0 {
			return errKilled
		}
		return nil
	})
}

// TestDeletionIsTakenUpAgain kills a deletion of many rows after every one of its
// writes: until it goes on, the wallet takes nothing new; then nothing is left.
func TestDeletionIsTakenUpAgain(t *testing.T) {
	for kill := 0; ; kill++ {
		x, ctx := newTown(t, nil), t.Context()
		w := x.furnish(1)
		for page := range 3 {
			var dust []ark.VTXO
			for v := range 400 {
				c := coin(1, 1)
				c.Outpoint.Hash[3], c.Outpoint.Index = byte(page+1), uint32(v)
				dust = append(dust, c)
			}
			x.sync(1, dust...)
		}
		m := x.store.(*kvtest.Memory)
		x.store = &limited{m, kill}
		x.reopen()
		err := x.l.DeleteWallet(ctx, w, ledger.Extras{})
		if err == nil {
			if kill < 4 {
				t.Fatalf("deleted in %d writes: one is too long", kill)
			}
			return
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		x.store = m
		x.reopen()
		x.clean(x.secrets(1)...)
		if kill > 0 {
			if _, err := x.l.UpdateWallet(ctx, w, nil, ledger.Extras{}); err == nil {
				t.Fatal("changed while it is deleted")
			}
			for what, err := range map[string]error{
				"token": x.l.SetToken(ctx, w.ID, ledger.Token{Text: "x"}),
				"plan":  x.l.Plan(ctx, ledger.Plan{Wallet: w.ID, Delegate: delegateID(9999), ExpiresAt: x.at + 10}),
				"spend": x.l.Decide(ctx, w.ID, 0, func(ledger.Spending) (ledger.Verdict, error) { return ledger.Verdict{}, nil }),
			} {
				if err == nil {
					t.Errorf("%s while it is deleted", what)
				}
			}
			if _, err := x.l.PutVTXOs(ctx, w.ID, nil); err == nil {
				t.Error("synced while it is deleted")
			}
		}
		if n, err := x.l.Dismantle(ctx); err != nil || n != min(kill, 1) {
			t.Fatal(n, err)
		}
		if kill > 0 {
			x.clean(x.secrets(1)...)
			x.gone(1)
		}
	}
}

// TestExitDataGoesWithTheWallet also when the record of the renewal was pruned.
func TestExitDataGoesWithTheWallet(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.create(1)
	x.drive(x.submit(1, 1, 1), append(slices.Clone(toCommitment), delegate.Confirmed)...)
	x.at += 1000
	if _, err := x.l.Prune(ctx, unix(x.at), 10); err != nil {
		t.Fatal(err)
	}
	if x.count("branches") != 1 || x.count("delegate_sessions") != 0 {
		t.Fatal(x.count("branches"), x.count("delegate_sessions"))
	}
	x.must(x.l.DeleteWallet(ctx, w, ledger.Extras{}))
	if x.count("branches") != 0 || x.count("commitments") != 0 {
		t.Fatal("exit data of nobody")
	}
	x.clean()
}

// TestDamagedRecordsAreDeletedToo with the rows that only they could name.
func TestDamagedRecordsAreDeletedToo(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.furnish(1)
	spoiled := 0
	for _, r := range readRows(t, x.store) {
		if r.tree == "delegate_sessions" || r.tree == "branches" || r.tree == "prepared" || r.tree == "device_tokens" {
			bad := storedRow{r.tree, r.key, slices.Clone(r.value)}
			bad.value[0] ^= 8
			swap(t, x.store, r, bad)
			spoiled++
		}
	}
	if spoiled < 8 {
		t.Fatal(spoiled)
	}
	x.must(x.l.DeleteWallet(ctx, w, ledger.Extras{}))
	report, err := fsck.Wallet(ctx, x.store, nil, w.ID, marksOf(1)...)
	x.must(err)
	if !report.Clean() {
		t.Error(report)
	}
}

// TestProofFindsWhatIsLeft puts one row of a deleted wallet back at a time.
func TestProofFindsWhatIsLeft(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.furnish(1)
	before := readRows(t, x.store)
	x.must(x.l.DeleteWallet(ctx, w, ledger.Extras{}))
	x.gone(1)
	after := map[string]bool{}
	for _, r := range readRows(t, x.store) {
		after[r.tree+string(r.key)] = true
	}
	tried := 0
	for _, r := range before {
		switch r.tree {
		case "meta", "counts", "audit", "secret_gc":
			continue
		}
		if after[r.tree+string(r.key)] {
			continue
		}
		tried++
		putRows(t, x.store, []storedRow{r})
		report, err := fsck.Wallet(ctx, x.store, nil, w.ID, marksOf(1)...)
		x.must(err)
		all, err := fsck.Check(ctx, x.store, nil)
		x.must(err)
		if report.Clean() && all.Clean() {
			t.Errorf("%s %x is not found", r.tree, r.key)
		}
		swap(t, x.store, r, storedRow{"counts", []byte("x"), ledger.Seal("counts", []byte("x"), []byte{1, 0})})
	}
	if tried < 40 {
		t.Fatalf("only %d rows were tried", tried)
	}
	report, err := fsck.Wallet(ctx, x.store, &fsck.Secrets{Names: secretsOf(1)}, w.ID)
	if err != nil || report.Clean() {
		t.Error("a secret that is left is not found")
	}
}
