package renewal_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
)

// held is an operator in whose queue an intent of somebody else's holds the coins of
// some delegates.
type held struct {
	renewal.Operator
	messages map[string]bool
	free     atomic.Bool
}

func (h *held) RegisterIntent(ctx context.Context, proof, message string) (string, error) {
	if h.messages[message] && !h.free.Load() {
		return "", &operator.Error{Op: "RegisterIntent", GRPC: codes.Internal, Message: "failed to push intent: duplicated input"}
	}
	return h.Operator.RegisterIntent(ctx, proof, message)
}

// TestHeldElsewhereTakesNoPlace: whoever keeps intents of his own over the coins that
// he delegated does not keep the places of the window, and renews when he lets go.
func TestHeldElsewhereTakesNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
		r.window = 2
		mallory, bob := r.device(), r.device()
		coins := r.mint([]*wallet.Wallet{mallory, mallory, mallory, bob}, 100_000)
		op := &held{messages: map[string]bool{}}
		var his []*delegate.Record
		for i, c := range coins[:3] {
			rec := r.submit(mallory, wallet.DelegateOptions{ValidAt: time.Now().Add(-time.Duration(i+2) * time.Second)}, c)
			op.messages[rec.Message] = true
			his = append(his, rec)
		}
		rec := r.submit(bob, wallet.DelegateOptions{ValidAt: time.Now().Add(-time.Second)}, coins[3])
		r.via = func(inner renewal.Operator) renewal.Operator {
			op.Operator = inner
			return op
		}
		r.start()
		done := r.awaitState(rec.ID, delegate.Settled)
		op.free.Store(true)
		for i, rec := range his {
			r.renewed(r.awaitState(rec.ID, delegate.Settled), coins[i])
		}
		r.halt()
		r.renewed(done, coins[3])
		r.clean()
	})
}
