package renewal_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/upkeep"
)

// shifted is the wall clock, set wrong.
type shifted time.Duration

func (s shifted) Now() time.Time { return time.Now().Add(time.Duration(s)) }

func (s shifted) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// newSkewed is a rig whose operator's clock is off by the time given; Vigil's is
// the wall clock.
func newSkewed(t *testing.T, off time.Duration, set arktest.Settings) *rig {
	t.Helper()
	return newRig(t, set, func(c *arktest.Config) {
		c.Clock, c.BlockAfter, c.BlockEvery = shifted(off), time.Second, 30*time.Second
	})
}

// owner makes a device that shares the operator's clock, and gives it a coin.
func (r *rig) owner(sats int64) (*wallet.Wallet, ark.VTXO) {
	r.t.Helper()
	c, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	key, s, err := bip340.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	s.Burn()
	d := wallet.New(c, key, r.op.Now)
	return d, r.mint([]*wallet.Wallet{d}, sats)[0]
}

// until waits for a time of the operator's clock.
func (r *rig) until(at time.Time) {
	r.t.Helper()
	wait := time.NewTimer(at.Sub(r.op.Now()))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-r.ctx.Done():
		r.t.Fatal("the time did not come")
	}
}

// TestClockOff: whether Vigil's clock is a minute ahead of the operator's or a
// minute behind, every coin is renewed once, with its forfeit if the operator
// takes it for live and without if it takes it for expired, whatever Vigil
// thinks of it.
func TestClockOff(t *testing.T) {
	t.Parallel()
	short := arktest.Settings{TreeExpiry: 30, ExitDelay: 2, BoardingDelay: 300, CheckpointDelay: 2, SessionDuration: 3 * time.Second}
	shorter := short
	shorter.TreeExpiry = 6
	for _, c := range []struct {
		name     string
		off      time.Duration // of the operator's clock from Vigil's
		set      arktest.Settings
		validIn  time.Duration // from the operator's now
		expired  bool          // by the operator's clock, when Vigil begins
		forfeits int
	}{
		{"ahead", -time.Minute, arktest.Settings{}, -10 * time.Second, false, 1},
		{"behind", time.Minute, arktest.Settings{}, -time.Minute, false, 1},
		// Vigil asks a minute early: refused, and asked again.
		{"ahead, not valid yet", -time.Minute, arktest.Settings{}, 8 * time.Second, false, 1},
		{"ahead, live although Vigil thinks it expired", -time.Minute, short, -10 * time.Second, false, 1},
		{"behind, expired although Vigil thinks it live", time.Minute, shorter, -70 * time.Second, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newSkewed(t, c.off, c.set)
				d, coin := r.owner(100_000)
				rec := r.submit(d, wallet.DelegateOptions{ValidAt: r.op.Now().Add(c.validIn)}, coin)
				if len(rec.Inputs[0].Forfeit) == 0 {
					t.Fatal("no forfeit was signed")
				}
				if c.expired {
					r.until(time.Unix(coin.ExpiresAt+1, 0))
				}
				r.start()
				done := r.awaitState(rec.ID, delegate.Settled)
				r.halt()
				r.renewed(done, coin)
				r.forfeited(c.forfeits, coin)
				r.clean()
			})
		})
	}
}

// TestClockSetWhileDown: the clock is set forward or back while Vigil is away,
// in the states whose end is told by the clock.
func TestClockSetWhileDown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		state delegate.State
		fault arktest.Fault
		off   time.Duration
	}{
		{"joining, a minute forward", delegate.Joining, arktest.Fault{Method: "SubmitTreeNonces", Hang: true}, time.Minute},
		{"joining, back", delegate.Joining, arktest.Fault{Method: "SubmitTreeNonces", Hang: true}, -10 * time.Second},
		{"submitted, a minute forward", delegate.Submitted, arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true}, time.Minute},
		{"joining, two days back", delegate.Joining, arktest.Fault{Method: "SubmitTreeNonces", Hang: true}, -48 * time.Hour},
		{"submitted, two days back", delegate.Submitted, arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true}, -48 * time.Hour},
		{"submitted, back", delegate.Submitted, arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true}, -10 * time.Second},
		{"registering, a minute forward", delegate.Registering, arktest.Fault{Method: "RegisterIntent", LoseAnswer: true}, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
				r.chain = onChain{r.op.Chain()}
				alice := r.device()
				coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
				rec := r.submit(alice, wallet.DelegateOptions{}, coin)
				r.op.Fault(c.fault)
				r.start()
				r.awaitState(rec.ID, c.state)
				r.crash()
				r.op.ClearFaults()
				r.now = shifted(c.off).Now
				r.start()
				done := r.awaitState(rec.ID, delegate.Settled)
				r.halt()
				r.renewed(done, coin)
				r.once(done, coin)
				r.clean()
			})
		})
	}
}

// TestExpireAtPassesInABatch: an intent's own end passes while its batch is lost
// sight of, before a forfeit leaves and after; the delegate does not stay in that
// batch for ever.
func TestExpireAtPassesInABatch(t *testing.T) {
	t.Parallel()
	for state, fault := range map[delegate.State]arktest.Fault{
		delegate.Joining:   {Method: "SubmitTreeNonces", Hang: true},
		delegate.Submitted: {Method: "SubmitSignedForfeitTxs", Hang: true},
	} {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
				alice := r.device()
				coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
				rec := r.submit(alice, wallet.DelegateOptions{ExpireAt: time.Now().Add(30 * time.Second)}, coin)
				r.op.Fault(fault)
				r.start()
				r.awaitState(rec.ID, state)
				r.crash()
				r.op.ClearFaults()
				r.until(time.Unix(rec.ExpireAt+1, 0))
				r.now = shifted(3 * time.Minute).Now // past it by more than clocks differ
				r.start()
				r.awaitState(rec.ID, delegate.Expired)
				r.halt()
				r.clean()
			})
		})
	}
}

// TestClockRanAhead: a clock that ran two days ahead for a moment, and was set
// right under a running engine, leaves nobody waiting for the days that it
// invented.
func TestClockRanAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second})
		var ahead atomic.Bool
		ahead.Store(true)
		r.now = func() time.Time {
			now := time.Now().Round(0) // as the wall has it
			if ahead.Load() {
				now = now.Add(48 * time.Hour)
			}
			return now
		}
		client, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext, Log: r.log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		fit := &upkeep.Fit{Records: r.ledger, Operator: client, Log: r.log, Now: r.now, Hurry: func() { r.engine.Wake() }}
		if err := fit.Run(r.ctx); err != nil { // what the start does
			t.Fatal(err)
		}
		told := make(chan struct{}, 1)
		r.setBack = func() {
			fit.Again()
			told <- struct{}{}
		}
		alice := r.device()
		coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
		early := r.submit(alice, wallet.DelegateOptions{ValidAt: time.Now().Add(8 * time.Second)}, coin)
		r.start()
		r.await(early.ID, "refused", func(rec *delegate.Record) bool { return rec.LastError.Code == "OPERATOR_NOT_YET" })
		ahead.Store(false)
		r.engine.Wake() // in a minute at the latest it looks by itself
		select {
		case <-told:
		case <-r.ctx.Done():
			t.Fatal("nobody was told that the clock was set back")
		}
		if err := fit.Run(r.ctx); err != nil {
			t.Fatal(err)
		}
		done := r.awaitState(early.ID, delegate.Settled)
		r.halt()
		r.renewed(done, coin)
		r.clean()
	})
}

// once holds that one broadcast commitment alone took the coins, each forfeited
// once for it.
func (r *rig) once(rec *delegate.Record, coins ...ark.VTXO) {
	r.t.Helper()
	for _, c := range coins {
		n := 0
		for _, b := range r.op.Stats().Batches {
			if b.Broadcast && b.Forfeits[c.Outpoint] > 0 {
				n += b.Forfeits[c.Outpoint]
				if b.Commitment != rec.Commitment.String() {
					r.t.Errorf("%s was forfeited for %s; the delegate knows of %s", c.Outpoint, b.Commitment, rec.Commitment)
				}
			}
		}
		if n != 1 {
			r.t.Errorf("%s was forfeited %d times for broadcast commitments", c.Outpoint, n)
		}
	}
}
