package renewal_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
)

// note changes a stored record behind the engine's back.
func (r *rig) note(rec *delegate.Record, change func(*delegate.Record)) *delegate.Record {
	r.t.Helper()
	rec, err := r.ledger.Transition(r.ctx, rec, delegate.Note, change)
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

// TestIsolatedTakeTurns: delegates that spoiled a batch are tried one by one.
// They are listed together in every batch, since none of them is confirmed, and
// must not wait for each other, nor for a batch without anybody else.
func TestIsolatedTakeTurns(t *testing.T) {
	t.Parallel()
	r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
	devices := []*wallet.Wallet{r.device(), r.device()}
	coins := r.boardAll(devices, 50_000)
	recs := make([]*delegate.Record, len(devices))
	for i, d := range devices {
		recs[i] = r.note(r.submit(d, wallet.DelegateOptions{}, coins[i]), func(rec *delegate.Record) { rec.Isolate = true })
	}
	r.start()
	for i, rec := range recs {
		r.renewed(r.awaitState(rec.ID, delegate.Settled), coins[i])
	}
	r.halt()
	r.forfeited(1, coins...)
	r.clean()
}

// TestCancelWhileJoining: the wish waits for the batch, and costs neither it nor
// the others in it.
func TestCancelWhileJoining(t *testing.T) {
	t.Parallel()
	r := newRig(t, arktest.Settings{})
	devices := []*wallet.Wallet{r.device(), r.device()}
	coins := r.boardAll(devices, 50_000)
	recs := make([]*delegate.Record, len(devices))
	for i, d := range devices {
		recs[i] = r.submit(d, wallet.DelegateOptions{}, coins[i])
	}
	r.alone(2)
	r.op.Fault(arktest.Fault{Method: "SubmitTreeNonces", Delay: 500 * time.Millisecond, Times: 1})
	r.start()
	joining := r.awaitState(recs[0].ID, delegate.Joining)
	if _, err := r.ledger.Cancel(r.ctx, joining, false); err != nil {
		t.Fatal(err)
	}
	for i, rec := range recs {
		done := r.await(rec.ID, "an end", func(rec *delegate.Record) bool { return rec.State.Ended() })
		r.renewed(done, coins[i])
		if done.Convictions > 0 {
			t.Errorf("delegate %d: %d convictions", i, done.Convictions)
		}
	}
	r.halt()
	r.forfeited(1, coins...)
	r.clean()
}

// TestDamagedRecordHarmsNobody: what the disk has changed is not registered, or
// not confirmed when it changed later; it is kept and marked, and the others are
// renewed.
func TestDamagedRecordHarmsNobody(t *testing.T) {
	for name, late := range map[string]bool{"before it is registered": false, "before it is confirmed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, arktest.Settings{})
			devices := []*wallet.Wallet{r.device(), r.device()}
			coins := r.boardAll(devices, 50_000)
			bad, good := r.submit(devices[0], wallet.DelegateOptions{}, coins[0]), r.submit(devices[1], wallet.DelegateOptions{}, coins[1])
			damage := func(rec *delegate.Record) {
				r.note(rec, func(rec *delegate.Record) {
					forfeit := append([]byte(nil), rec.Inputs[0].Forfeit...)
					forfeit[len(forfeit)/2] ^= 4
					rec.Inputs[0].Forfeit = forfeit
				})
			}
			if !late {
				damage(bad)
			} else {
				r.alone(3)
				r.start()
				damage(r.awaitState(bad.ID, delegate.Registered))
				r.awaitState(good.ID, delegate.Registered)
				r.crash() // the engine reads it again
				r.alone(1)
			}
			r.start()
			held := r.awaitState(bad.ID, delegate.Quarantined)
			if held.LastError.Code != "RECORD_DAMAGED" || len(held.Proof) == 0 {
				t.Errorf("last error %+v", held.LastError)
			}
			r.renewed(r.awaitState(good.ID, delegate.Settled), coins[1])
			r.halt()
			r.forfeited(0, coins[0])
			for key, n := range r.op.Stats().Convictions {
				t.Errorf("%v was convicted %v", key, n)
			}
		})
	}
}

// TestRefusalToConfirmIsTold: a delegate that no announced batch suits must not
// sit there as if all were well.
func TestRefusalToConfirmIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
	alice := r.device()
	coin := r.board(alice, 50_000)
	rec := r.note(r.submit(alice, wallet.DelegateOptions{}, coin), func(rec *delegate.Record) { rec.MinBatchExpiry = 1 << 30 })
	r.start()
	held := r.await(rec.ID, "a reason", func(rec *delegate.Record) bool { return rec.LastError.Code == "BATCH_EXPIRY_REFUSED" })
	if held.State != delegate.Registered {
		t.Errorf("it is %s", held.State)
	}
	r.halt()
	r.forfeited(0, coin)
}

// TestCancelledAfterABatch: the wish to cancel that was noted in one batch holds
// for the next, when the operator has queued the intent again under its id.
func TestCancelledAfterABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
	alice := r.device()
	coin := r.board(alice, 50_000)
	rec := r.submit(alice, wallet.DelegateOptions{}, coin)
	r.alone(2)
	r.start()
	r.note(r.awaitState(rec.ID, delegate.Registered), func(rec *delegate.Record) { rec.CancelWanted = true })
	r.crash()
	r.alone(1)
	r.start()
	r.awaitState(rec.ID, delegate.Cancelled)
	r.halt()
	r.forfeited(0, coin)
}
