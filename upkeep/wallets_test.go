package upkeep_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/upkeep"
)

// walletLedger is a ledger whose clock is the bubble's.
func walletLedger(t *testing.T) *ledger.Ledger {
	t.Helper()
	store := kvtest.NewMemory()
	if err := ledger.Create(t.Context(), store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), store, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func name(n int) string { return fmt.Sprintf("dkg-secret.%d", n) }

// TestAbandonedCeremoniesLeaveNoSecret makes wallets of which most are never
// stored, as when Vigil is killed in between, and works the plans off: the secrets
// of the wallets stay, the others go, with more than a page of each.
func TestAbandonedCeremoniesLeaveNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := walletLedger(t), secrettest.NewMemory()
		const n, stored = 600, 5
		var want []string
		for i := range n {
			id := vigil.WalletID{byte(i), byte(i >> 8)}
			if err := l.Plan(t.Context(), ledger.Plan{Wallet: id, Secrets: []string{name(i)}, NotBefore: time.Now().Unix() + 600}); err != nil {
				t.Fatal(err)
			}
			if err := store.Put(t.Context(), name(i), secret.New([]byte{1, 2, 3})); err != nil {
				t.Fatal(err)
			}
			if i >= stored {
				continue
			}
			w := &ledger.Wallet{ID: id, State: ledger.WalletPending, Secrets: []string{name(i)}}
			if _, err := l.CreateWallet(t.Context(), w, ledger.Extras{}); err != nil {
				t.Fatal(err)
			}
			want = append(want, name(i))
		}
		left := func() []string {
			t.Helper()
			for _, job := range []func() error{
				func() error { return upkeep.Lapse(l)(t.Context()) }, func() error { return upkeep.Secrets(l, store)(t.Context()) },
			} {
				if err := job(); err != nil {
					t.Fatal(err)
				}
			}
			names, err := store.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		if got := left(); len(got) != n {
			t.Fatalf("%d secrets are left of %d that are still planned", len(got), n)
		}
		time.Sleep(11 * time.Minute) // of the bubble
		if got := left(); len(got) != n {
			t.Fatalf("%d secrets are left of plans that have just lapsed", len(got))
		}
		time.Sleep(11 * time.Minute) // of the bubble
		if got := left(); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Fatalf("%d secrets are left: %.100q", len(got), got)
		}
	})
}

// TestRequestsAreForgotten, all of them, and the audit's oldest entries.
func TestRequestsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := walletLedger(t)
		entry := func(n uint64, prev [32]byte) ([32]byte, []byte, error) {
			return [32]byte{byte(n)}, []byte("entry"), nil
		}
		const n = 600
		owner := make([]byte, 33)
		for i := range n {
			owner[1], owner[2] = byte(i), byte(i>>8)
			if _, err := l.Begin(t.Context(), ledger.Request{Owner: owner, Stamp: time.Now().Unix()}, time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := l.Audit(t.Context(), entry); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute) // of the bubble
		if err := upkeep.Replay(l)(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := l.PruneReplay(t.Context(), n); left != 0 || err != nil {
			t.Fatalf("%d are left, %v", left, err)
		}
		if err := upkeep.Audit(l, 50)(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, first, err := l.AuditBase(t.Context()); first != n-50+1 || err != nil {
			t.Fatalf("the first entry is %d, %v", first, err)
		}
	})
}

// TestDeletionsGoOn where none is cut short.
func TestDeletionsGoOn(t *testing.T) {
	if err := upkeep.Deletions(walletLedger(t))(t.Context()); err != nil {
		t.Fatal(err)
	}
}
