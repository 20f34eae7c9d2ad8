package renewal_test

import (
	"testing"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
)

// TestTooFewConfirmed: an operator that wants two for a batch pops one of ours
// together with one whose id was lost with the answer. Nobody can confirm the
// lost one, so that the batch fails and both are queued again: the other must
// keep its id, or the two would lose it in turn for ever.
func TestTooFewConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t, arktest.Settings{MinParticipants: 2})
	devices := []*wallet.Wallet{r.device(), r.device()}
	coins := r.boardAll(devices, 50_000)
	var recs []*delegate.Record
	for i, d := range devices {
		recs = append(recs, r.submit(d, wallet.DelegateOptions{}, coins[i]))
	}
	r.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true, Times: 1})
	r.start()
	for i, rec := range recs {
		done := r.awaitState(rec.ID, delegate.Settled)
		r.renewed(done, coins[i])
		if done.Attempts != 1 {
			t.Errorf("%s took %d attempts", rec.ID, done.Attempts)
		}
	}
	r.halt()
	r.forfeited(1, coins...)
	r.clean()
}
