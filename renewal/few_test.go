package renewal_test

import (
	"testing"
	"testing/synctest"
	"time"

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
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{MinParticipants: 2})
		devices := []*wallet.Wallet{r.device(), r.device()}
		coins := r.mint(devices, 50_000)
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
	})
}

// TestLostIDIsNotAnOlderOne: when an answer to a registration is lost, the id
// that an earlier registration got is not that of the intent which the operator
// holds now. Taken for it, two delegates that fill the operator's batches with
// intents whose ids nobody knows would wait for each other.
func TestLostIDIsNotAnOlderOne(t *testing.T) {
	t.Parallel()
	lost := arktest.Fault{Method: "RegisterIntent", LoseAnswer: true, Times: 2}
	for _, c := range []struct {
		name  string
		until delegate.State
		hold  func(r *rig)
		then  func(r *rig)
	}{
		{"after a batch that took it", delegate.Submitted, func(r *rig) {
			r.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", Hang: true})
		}, func(r *rig) {
			r.crash()
			r.op.ClearFaults()
			r.op.Fault(lost)
			r.start()
		}},
		{"after the operator lost its queue", delegate.Registered, func(r *rig) { r.alone(3) }, func(r *rig) {
			r.op.Fault(lost)
			r.op.Down()
			if err := r.op.Up(); err != nil {
				r.t.Fatal(err)
			}
			r.alone(2)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second, MinParticipants: 2, BanThreshold: -1})
				devices := []*wallet.Wallet{r.device(), r.device()}
				coins := r.mint(devices, 50_000)
				var recs []*delegate.Record
				for i, d := range devices {
					recs = append(recs, r.submit(d, wallet.DelegateOptions{}, coins[i]))
				}
				c.hold(r)
				r.start()
				for _, rec := range recs {
					r.awaitState(rec.ID, c.until)
				}
				c.then(r)
				for i, rec := range recs {
					done := r.awaitState(rec.ID, delegate.Settled)
					r.renewed(done, coins[i])
					r.once(done, coins[i])
				}
				r.halt()
				r.clean()
			})
		})
	}
}
