package renewal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// TestReplacedWhileRegistered: the owner signs anew while the older delegates are
// queued at the operator, which no stock wallet can take back there. They give way
// when a batch lists them, and the newer is registered in their place.
func TestReplacedWhileRegistered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
		alice := r.device()
		coins := r.mint([]*wallet.Wallet{alice, alice}, 100_000)
		var olders []*delegate.Record
		for _, c := range coins {
			olders = append(olders, r.submit(alice, wallet.DelegateOptions{}, c))
		}
		r.alone(3)
		r.start()
		for _, older := range olders {
			r.awaitState(older.ID, delegate.Registered)
		}
		newer := r.submit(alice, wallet.DelegateOptions{ValidAt: time.Now().Add(-5 * time.Second)}, coins...)
		if newer.State != delegate.Pending {
			t.Fatalf("the newer is %s", newer.State)
		}
		r.alone(1)
		r.renewed(r.awaitState(newer.ID, delegate.Settled), coins...)
		for _, older := range olders {
			rec, err := r.ledger.Delegate(r.ctx, older.ID)
			if err == nil && rec.State != delegate.Replaced {
				t.Errorf("the older is %s", rec.State)
			}
		}
		r.halt()
		r.forfeited(1, coins...)
		r.clean()
	})
}

// TestReplacedByOneThatIsNotDue: the newer delegate, over one more coin, is not due
// for long. The older goes on, since the operator holds its intent whatever is done.
// The newer ends with it, and the coin that it had beside can be delegated anew.
func TestReplacedByOneThatIsNotDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
		alice := r.device()
		coins := r.mint([]*wallet.Wallet{alice, alice}, 100_000)
		older := r.submit(alice, wallet.DelegateOptions{}, coins[0])
		r.alone(2)
		r.start()
		r.awaitState(older.ID, delegate.Registered)
		newer := r.submit(alice, wallet.DelegateOptions{ValidAt: time.Now().Add(10 * time.Minute)}, coins...)
		if newer.State != delegate.Pending {
			t.Fatalf("the newer is %s", newer.State)
		}
		r.alone(1)
		r.renewed(r.awaitState(older.ID, delegate.Settled), coins[0])
		r.awaitState(newer.ID, delegate.Spent)
		again := r.submit(alice, wallet.DelegateOptions{}, coins[1])
		if again.State != delegate.Armed {
			t.Fatalf("the coin that was left is %s", again.State)
		}
		r.renewed(r.awaitState(again.ID, delegate.Settled), coins[1])
		r.halt()
		r.forfeited(1, coins...)
		r.clean()
	})
}

// TestRenewedByABatchThatFailed: the operator called a batch failed that had signed
// trees and needed no forfeit of ours, and finished it all the same. The coin was
// not lost to somebody else: it was renewed.
func TestRenewedByABatchThatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{SessionDuration: 2 * time.Second, TreeExpiry: 4, ExitDelay: 2, BoardingDelay: 30, CheckpointDelay: 2})
		alice := r.device()
		coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
		rec := r.submit(alice, wallet.DelegateOptions{ValidAt: time.Now().Add(time.Second)}, coin)
		r.until(time.Unix(coin.ExpiresAt+1, 0))
		r.start()
		done := r.awaitState(rec.ID, delegate.Settled)
		r.halt()
		// Another store, which knows of the attempt and not how it ended.
		var err error
		r.kv = kvtest.NewMemory()
		if err = ledger.Create(r.ctx, r.kv, ledger.Generation{1}); err != nil {
			t.Fatal(err)
		}
		if r.ledger, err = ledger.Open(r.ctx, r.kv, ledger.Options{}); err != nil {
			t.Fatal(err)
		}
		receipt, err := r.ledger.Submit(r.ctx, ledger.Submission{Record: rec})
		if err != nil {
			t.Fatal(err)
		}
		again := receipt.Record
		for _, event := range []delegate.Event{delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.BatchFailed} {
			again, err = r.ledger.Transition(r.ctx, again, event, func(r *delegate.Record) { r.RegisteredAt, r.NextAttempt = time.Now().Unix(), time.Now().Unix() })
			if err != nil {
				t.Fatal(err)
			}
		}
		r.start()
		found := r.await(rec.ID, "an end", func(rec *delegate.Record) bool { return rec.State.Ended() })
		r.halt()
		r.renewed(found, coin)
		if found.Commitment != done.Commitment {
			t.Errorf("settled by %s, want %s", found.Commitment, done.Commitment)
		}
		r.clean()
	})
}
