package renewal_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/lie"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
)

// TestFalseWordTakenBack: the operator says of a coin that it is gone, which ends
// its delegate. Honest again, it reports the coin as unspent, and the owner's next
// delegate for it is taken and carried out.
func TestFalseWordTakenBack(t *testing.T) {
	for name, end := range map[lie.Name]delegate.State{lie.IndexSpent: delegate.Spent, lie.IndexUnrolled: delegate.Broken} {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
			alice := r.device()
			coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
			first := r.submit(alice, wallet.DelegateOptions{}, coin)
			r.op.Lie(name, coin.Outpoint)
			r.start()
			ended := r.awaitState(first.ID, end)
			r.op.Honest()
			r.until(time.Unix(ended.StateSince+1, 0)) // told by the second
			second := r.submit(alice, wallet.DelegateOptions{ValidAt: time.Now().Add(-5 * time.Second)}, coin)
			r.renewed(r.awaitState(second.ID, delegate.Settled), coin)
			r.halt()
			r.forfeited(1, coin)
			r.clean()
		})
	}
}
