package renewal_test

import (
	"testing"
	"testing/synctest"
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
	t.Parallel()
	for name, end := range map[lie.Name]delegate.State{lie.IndexSpent: delegate.Spent, lie.IndexUnrolled: delegate.Broken} {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
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
		})
	}
}

// TestShorterBatchesForGood: an operator shortens its batches below what the owner
// gave. That is refused while the coin lives; once it has expired nothing is gained
// by waiting for better ones.
func TestShorterBatchesForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pass(300 * time.Millisecond) // in the very second of its expiry the operator calls a coin live
		r := newRig(t, arktest.Settings{SessionDuration: 2 * time.Second, TreeExpiry: 12, ExitDelay: 2, BoardingDelay: 30, CheckpointDelay: 2})
		alice := r.device()
		coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		before := r.op.Stats().RoundID
		if err := r.op.Update(func(s *arktest.Settings) { s.TreeExpiry = 6 }); err != nil {
			t.Fatal(err)
		}
		// A round that has begun keeps the settings that it began with.
		if err := r.op.Await(r.ctx, func(s arktest.Stats) bool { return s.RoundID != before }); err != nil {
			t.Fatal(err)
		}
		r.start()
		refused := r.await(rec.ID, "a refusal", func(rec *delegate.Record) bool {
			return rec.LastError.Code == "BATCH_EXPIRY_REFUSED" || rec.State == delegate.Settled
		})
		if refused.State == delegate.Settled {
			t.Fatal("a live coin was given for a shorter one")
		}
		done := r.awaitState(rec.ID, delegate.Settled)
		r.halt()
		if done.StateSince < coin.ExpiresAt { // both are cut to seconds
			t.Errorf("settled at %d; the coin expired at %d", done.StateSince, coin.ExpiresAt)
		}
		r.renewed(done, coin)
		r.forfeited(0, coin)
		r.clean()
	})
}
