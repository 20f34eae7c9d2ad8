package renewal_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
)

// TestReplacedWhileRegistered: the owner signs anew while the older delegates are
// queued at the operator, which no stock wallet can take back there. They give way
// when a batch lists them, and the newer is registered in their place.
func TestReplacedWhileRegistered(t *testing.T) {
	t.Parallel()
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
}

// TestReplacedByOneThatIsNotDue: the newer delegate, over one more coin, is not due
// for long. The older goes on, since the operator holds its intent whatever is done.
// The newer ends with it, and the coin that it had beside can be delegated anew.
func TestReplacedByOneThatIsNotDue(t *testing.T) {
	t.Parallel()
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
}
