package renewal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/signer"
)

// renewed holds what "renewed, once" means: one commitment spends every input,
// each input was forfeited once for it, and the owner has the new coin.
func (r *rig) renewed(rec *delegate.Record, coins ...ark.VTXO) {
	r.t.Helper()
	if rec.State != delegate.Settled || len(rec.Leaves) == 0 {
		r.t.Fatalf("the delegate is %s with leaves %v", rec.State, rec.Leaves)
	}
	for _, c := range coins {
		now, err := r.vtxos(c.Outpoint)
		if err != nil || len(now) != 1 || !now[0].Spent || now[0].SettledBy != rec.Commitment.String() {
			r.t.Errorf("input %s: %+v, %v; want settled by %s", c.Outpoint, now, err, rec.Commitment)
		}
	}
	fresh, err := r.vtxos(rec.Leaves...)
	if err != nil || len(fresh) != len(rec.Leaves) {
		r.t.Fatalf("leaves %v: %v", fresh, err)
	}
	for _, v := range fresh {
		if v.Spent || v.Swept {
			r.t.Errorf("the new coin is gone: %+v", v)
		}
	}
}

// forfeited holds how often each coin's forfeit was handed in.
func (r *rig) forfeited(want int, coins ...ark.VTXO) {
	r.t.Helper()
	sent := r.op.Stats().Forfeits
	for _, c := range coins {
		if got := len(sent[c.Outpoint]); got != want {
			r.t.Errorf("input %s was forfeited %d times, want %d", c.Outpoint, got, want)
		}
	}
}

// TestRenewsOneCoin is the main job at its smallest.
func TestRenewsOneCoin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice := r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		r.start()
		done := r.awaitState(rec.ID, delegate.Settled)
		r.halt()
		r.renewed(done, coin)
		r.forfeited(1, coin)
		r.clean()
	})
}

// TestManyWalletsShareABatch renews coins of many owners, who all name one
// service key, in one batch.
func TestManyWalletsShareABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{SessionDuration: 6 * time.Second})
		devices := make([]*wallet.Wallet, 12)
		for i := range devices {
			devices[i] = r.device()
		}
		coins := r.boardAll(devices, 50_000)
		recs := make([]*delegate.Record, len(devices))
		for i, d := range devices {
			recs[i] = r.submit(d, wallet.DelegateOptions{}, coins[i])
		}
		before := len(r.op.Stats().Finalized())
		r.start()
		for i, rec := range recs {
			r.renewed(r.awaitState(rec.ID, delegate.Settled), coins[i])
		}
		r.halt()
		r.forfeited(1, coins...)
		if n := len(r.op.Stats().Finalized()) - before; n > 2 {
			t.Errorf("%d batches for %d delegates", n, len(recs))
		}
		r.clean()
	})
}

// TestRestartInEveryState kills the engine while the operator holds the
// delegate in a state, starts another over the same stores, and wants the coin
// renewed once.
func TestRestartInEveryState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state delegate.State
		hold  func(r *rig)
	}{
		{delegate.Armed, func(*rig) {}},
		{delegate.Due, func(r *rig) { r.op.Fault(arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable}) }},
		{delegate.Registering, func(r *rig) { r.op.Fault(arktest.Fault{Method: "RegisterIntent", Hang: true}) }},
		{delegate.Registering, func(r *rig) { r.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true}) }},
		{delegate.Registered, func(r *rig) { r.alone(2) }},
		{delegate.Joining, func(r *rig) { r.op.Fault(arktest.Fault{Method: "ConfirmRegistration", Hang: true}) }},
		{delegate.Joining, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitTreeNonces", Hang: true}) }},
		{delegate.Joining, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitTreeSignatures", Hang: true}) }},
		{delegate.Submitted, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", Hang: true}) }},
		{delegate.Submitted, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true}) }},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				alice := r.device()
				coin := r.board(alice, 100_000)
				opt := wallet.DelegateOptions{}
				if c.state == delegate.Armed {
					opt.ValidAt = time.Now().Add(2 * time.Second)
				}
				rec := r.submit(alice, opt, coin)
				c.hold(r)
				r.start()
				r.awaitState(rec.ID, c.state)
				r.crash()
				r.op.ClearFaults()
				r.alone(1)
				r.start()
				done := r.awaitState(rec.ID, delegate.Settled)
				r.halt()
				r.renewed(done, coin)
				r.clean()
			})
		})
	}
}

// alone sets how few participants the operator makes a batch for.
func (r *rig) alone(least int) {
	r.t.Helper()
	before := r.op.Stats().RoundID
	if err := r.op.Update(func(s *arktest.Settings) { s.MinParticipants = least }); err != nil {
		r.t.Fatal(err)
	}
	if least == 1 {
		return
	}
	// A round that has begun keeps the settings that it began with.
	if err := r.op.Await(r.ctx, func(s arktest.Stats) bool { return s.RoundID != before }); err != nil {
		r.t.Fatal(err)
	}
}

// TestSpentInputEndsIt: a coin that its owner spent is not renewed any more.
func TestSpentInputEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice, bob := r.device(), r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		to, err := bob.Address(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Send(r.ctx, to, 40_000); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.awaitState(rec.ID, delegate.Spent)
		r.halt()
		r.forfeited(0, coin)
		r.clean()
	})
}

// TestUnrolledInputEndsIt: anybody may unroll a coin; it is then no VTXO.
func TestUnrolledInputEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice := r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		if err := alice.Unroll(r.ctx, coin.Outpoint, r.op.Chain().Broadcast); err != nil {
			t.Fatal(err)
		}
		if err := r.op.Mine(1); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.awaitState(rec.ID, delegate.Broken)
		r.halt()
		r.clean()
	})
}

// TestRecoverableIsRenewedWithoutForfeit: expiry ends nothing.
func TestRecoverableIsRenewedWithoutForfeit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{TreeExpiry: 6, ExitDelay: 2, BoardingDelay: 30, CheckpointDelay: 2})
		alice := r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{ValidAt: time.Now().Add(time.Second)}, coin)
		// Nobody is there until the coin has expired.
		wait := time.NewTimer(time.Until(time.Unix(coin.ExpiresAt+1, 0)))
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.ctx.Done():
		}
		r.start()
		done := r.awaitState(rec.ID, delegate.Settled)
		r.halt()
		r.renewed(done, coin)
		r.forfeited(0, coin)
		r.clean()
	})
}

// TestMissingSecretQuarantines: a delegate whose key is gone is kept, and
// carried out once the key is back.
func TestMissingSecretQuarantines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice := r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		kept, err := r.secrets.Get(r.ctx, signer.ServiceName(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.secrets.Delete(r.ctx, signer.ServiceName(1)); err != nil {
			t.Fatal(err)
		}
		r.start()
		held := r.awaitState(rec.ID, delegate.Quarantined)
		if held.LastError.Code != "SECRET_MISSING" {
			t.Errorf("last error %+v", held.LastError)
		}
		if err := r.secrets.Put(r.ctx, signer.ServiceName(1), kept); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ledger.Transition(r.ctx, held, delegate.Release, func(r *delegate.Record) { r.NextAttempt = time.Now().Unix() }); err != nil {
			t.Fatal(err)
		}
		r.engine.Wake()
		r.renewed(r.awaitState(rec.ID, delegate.Settled), coin)
		r.halt()
		r.clean()
	})
}

// TestSecretStoreDownIsNotMissing: it is tried again.
func TestSecretStoreDownIsNotMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice := r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		r.secrets.Fail(secret.ErrUnavailable)
		r.start()
		r.await(rec.ID, "a failed attempt", func(rec *delegate.Record) bool { return rec.LastError.Code == "SECRET_STORE_UNAVAILABLE" })
		r.secrets.Fail(nil)
		r.renewed(r.awaitState(rec.ID, delegate.Settled), coin)
		r.halt()
		r.clean()
	})
}

// TestOperatorAway: an operator that is down at the hour costs time, not the
// renewal; one that loses its queue is registered at again.
func TestOperatorAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice := r.device()
		coin := r.board(alice, 100_000)
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		r.alone(2)
		r.start()
		r.awaitState(rec.ID, delegate.Registered)
		r.op.Down()
		r.alone(1)
		if err := r.op.Up(); err != nil {
			t.Fatal(err)
		}
		// The queue is gone with the process. Another's batches pass the lost intent
		// over until it counts as dropped.
		others := make([]*wallet.Wallet, 3)
		for i := range others {
			others[i] = r.device()
			r.board(others[i], 20_000)
		}
		r.renewed(r.awaitState(rec.ID, delegate.Settled), coin)
		r.halt()
		r.clean()
	})
}

// TestCancelled: a delegate that its owner took back in time never fires.
func TestCancelledNeverFires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice, bob := r.device(), r.device()
		coins := r.boardAll([]*wallet.Wallet{alice, bob}, 100_000)
		taken := r.submit(alice, wallet.DelegateOptions{}, coins[0])
		other := r.submit(bob, wallet.DelegateOptions{}, coins[1])
		if _, err := r.ledger.Cancel(r.ctx, taken, false); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.renewed(r.awaitState(other.ID, delegate.Settled), coins[1])
		r.halt()
		if rec, err := r.ledger.Delegate(r.ctx, taken.ID); err != nil || rec.State != delegate.Cancelled {
			t.Errorf("the cancelled one is %v, %v", rec, err)
		}
		r.forfeited(0, coins[0])
		r.clean()
	})
}
