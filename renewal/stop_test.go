package renewal_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/renewal"
)

// stopping stops the engine the moment it is about to send its nonces, which for
// one that hangs never arrive.
type stopping struct {
	renewal.Operator
	once  sync.Once
	stop  func()
	hangs bool
}

func (s *stopping) SubmitTreeNonces(ctx context.Context, batchID string, key bip340.PubKey, nonces map[chainhash.Hash]musig2.PubNonce) error {
	s.once.Do(s.stop)
	if s.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Operator.SubmitTreeNonces(ctx, batchID, key, nonces)
}

// TestStopInABatch: whoever stops Vigil while it is in a batch waits for that
// batch, which is renewed and convicts nobody; what is due meanwhile is not begun.
// When the grace is over what is joined is cut off, and taken up at the next start.
func TestStopInABatch(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]bool{"in time": false, "over": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{SessionDuration: 6 * time.Second})
				r.grace = time.Second
				alice, bob := r.device(), r.device()
				coins := r.mint([]*wallet.Wallet{alice, bob}, 100_000)
				rec := r.submit(alice, wallet.DelegateOptions{}, coins[0])
				var later *delegate.Record
				r.via = func(op renewal.Operator) renewal.Operator {
					return &stopping{Operator: op, hangs: hangs, stop: func() {
						r.stop()
						synctest.Wait() // it is stopping
						later = r.submit(bob, wallet.DelegateOptions{}, coins[1])
						r.engine.Wake()
					}}
				}
				r.start()
				if err := <-r.stopped; err != nil {
					t.Fatal(err)
				}
				_ = r.client.Close()
				r.stop = nil
				got, err := r.ledger.Delegate(r.ctx, rec.ID)
				if err != nil {
					t.Fatal(err)
				}
				if finished := got.State == delegate.Unconfirmed; finished == hangs || got.Convictions != 0 {
					t.Errorf("the joined one is %s, with %d convictions", got.State, got.Convictions)
				}
				if got, err := r.ledger.Delegate(r.ctx, later.ID); err != nil || got.State != delegate.Armed {
					t.Errorf("the other is %v, %v", got.State, err)
				}
				r.via = nil
				r.start()
				done, other := r.awaitState(rec.ID, delegate.Settled), r.awaitState(later.ID, delegate.Settled)
				r.halt()
				r.renewed(done, coins[0])
				r.renewed(other, coins[1])
				r.clean()
			})
		})
	}
}
