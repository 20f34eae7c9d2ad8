package wallet

import (
	"context"
	"time"

	"github.com/vigil-ark/vigil"
)

// turns bounds how many wallets' documents are read and signed at once. One request
// may take a third of a second of a core, and there are many wallets: without a
// bound they would take the cores that renewals need.
type turns struct {
	free chan struct{}
	wait time.Duration // for a turn, at most
}

func newTurns(n int, wait time.Duration) turns { return turns{make(chan struct{}, n), wait} }

// take waits for a turn and returns what ends it. Those who wait come to it in
// their order; whoever waited too long is refused and nothing was begun for him.
func (t turns) take(ctx context.Context) (done func(), err error) {
	done = func() { <-t.free }
	select {
	case t.free <- struct{}{}:
		return done, nil
	default:
	}
	limit := time.NewTimer(t.wait)
	defer limit.Stop()
	select {
	case t.free <- struct{}{}:
		return done, nil
	case <-limit.C:
		return nil, vigil.Errorf(vigil.CodeWalletBusy, "this server signs for as many wallets at once as it may; nothing was signed, retry in a moment")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
