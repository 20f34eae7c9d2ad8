package renewal_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/signer"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/musig2"
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
	synctest.Test(t, func(t *testing.T) {
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
	})
}

// TestCancelWhileJoining: the wish waits for the batch, and costs neither it nor
// the others in it.
func TestCancelWhileJoining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
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
	})
}

// TestDamagedRecordHarmsNobody: what the disk has changed is not registered, or
// not confirmed when it changed later; it is kept and marked, and the others are
// renewed.
func TestDamagedRecordHarmsNobody(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"before it is registered": false, "before it is confirmed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
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
		})
	}
}

// TestRefusalToConfirmIsTold: a delegate that no announced batch suits must not
// sit there as if all were well.
func TestRefusalToConfirmIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
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
	})
}

// TestCancelledAfterABatch: the wish to cancel that was noted in one batch holds
// for the next, when the operator has queued the intent again under its id.
func TestCancelledAfterABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
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
	})
}

// trap panics where it is told to.
type trap struct {
	sessions
	open, proof, nonces func() bool
}

type trapped struct {
	renewal.Session
	*trap
}

func (t *trap) Open(ctx context.Context, recs []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	if t.open != nil && t.open() {
		panic("open")
	}
	s, failed := t.sessions.Open(ctx, recs)
	return &trapped{Session: s, trap: t}, failed
}

func (s *trapped) Proof(id vigil.DelegateID) (string, error) {
	if s.proof != nil && s.proof() {
		panic("proof")
	}
	return s.Session.Proof(id)
}

func (s *trapped) Nonces(nodes []batch.SigningNode) (map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce, error) {
	if s.nonces != nil && s.nonces() {
		panic("nonces")
	}
	return s.Session.Nonces(nodes)
}

// times is true n times.
func times(n int64) func() bool {
	var left atomic.Int64
	left.Store(n)
	return func() bool { return left.Add(-1) >= 0 }
}

// TestAPanicHarmsNobody: whatever worker panics, the engine goes on, and so do
// the delegates that it had.
func TestAPanicHarmsNobody(t *testing.T) {
	t.Parallel()
	for name, trap := range map[string]*trap{
		"opening":      {open: times(2)},
		"a proof":      {proof: times(1)},
		"in the batch": {nonces: times(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
				devices := []*wallet.Wallet{r.device(), r.device()}
				coins := r.boardAll(devices, 50_000)
				recs := make([]*delegate.Record, len(devices))
				for i, d := range devices {
					recs[i] = r.submit(d, wallet.DelegateOptions{}, coins[i])
				}
				client, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext, Log: r.log})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(r.ctx)
				stream, err := client.Events(ctx)
				if err != nil {
					t.Fatal(err)
				}
				trap.sessions = sessions{signer.New(r.secrets)}
				engine := renewal.New(renewal.Config{Pace: r.pace, Log: r.log, Grace: r.grace}, client, stream, r.ledger, trap, nil, nil)
				r.client, r.stop, r.stopped = client, cancel, make(chan error, 1)
				go func() { r.stopped <- engine.Run(ctx) }()
				t.Cleanup(r.halt)
				for i, rec := range recs {
					r.renewed(r.awaitState(rec.ID, delegate.Settled), coins[i])
				}
				r.halt()
				r.forfeited(1, coins...)
				r.clean()
			})
		})
	}
}
