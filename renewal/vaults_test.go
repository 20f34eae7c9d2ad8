package renewal_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
)

// TestWalletsAndStockShareABatch renews coins of wallets, one of which has two
// delegates, in one batch with those of stock wallets. Afterwards a wallet's tree
// keys are garbage and nothing else is, and its new coins are its own, uncovered.
func TestWalletsAndStockShareABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{BanThreshold: -1})
		var coins []ark.VTXO
		var recs []*delegate.Record
		vaults := []*vault{r.vault(), r.vault(), r.vault()}
		for i, n := range []int{1, 2, 3} { // coins of each
			var mine []ark.VTXO
			for range n {
				mine = append(mine, vaults[i].coin(20_000))
			}
			coins = append(coins, mine...)
			if i == 1 {
				recs = append(recs, vaults[i].delegate(time.Time{}, mine[0]), vaults[i].delegate(time.Time{}, mine[1]))
				continue
			}
			recs = append(recs, vaults[i].delegate(time.Time{}, mine...))
		}
		devices := []*wallet.Wallet{r.device(), r.device()}
		for i, c := range r.mint(devices, 30_000) {
			coins = append(coins, c)
			recs = append(recs, r.submit(devices[i], wallet.DelegateOptions{}, c))
		}
		r.alone(len(recs))
		before := len(r.op.Stats().Finalized())
		r.start()
		for _, rec := range recs {
			r.await(rec.ID, "its place in the queue", func(rec *delegate.Record) bool { return rec.State >= delegate.Registered })
		}
		r.alone(1) // whom a busy machine makes miss the batch has another
		var want []string
		for _, rec := range recs {
			done := r.awaitState(rec.ID, delegate.Settled)
			r.renewed(done)
			want = append(want, signer.Garbage(done)...)
		}
		r.halt()
		r.forfeited(1, coins...)
		if n := len(r.op.Stats().Finalized()) - before; n > 2 {
			t.Errorf("%d batches for %d delegates", n, len(recs))
		}
		if got := r.garbage(); len(want) != 4 || !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("garbage %v, want %v", got, want)
		}
		for i, n := range []int{1, 2, 1} {
			held, err := r.ledger.VTXOsOf(r.ctx, vaults[i].id)
			r.must(err)
			fresh := slices.DeleteFunc(held, func(h ledger.Holding) bool { return h.Fate != ledger.Unspent })
			if len(fresh) != n {
				t.Errorf("wallet %d has %d coins, want %d", i, len(fresh), n)
			}
			for _, h := range fresh {
				if h.Cover != (vigil.DelegateID{}) {
					t.Errorf("the new coin %s is covered by %s", h.Outpoint, h.Cover)
				}
			}
		}
		r.clean()
	})
}

// TestWalletRestartsInEveryState is TestRestartInEveryState for a wallet's
// delegate: its tree key is there until it is settled, and garbage then.
func TestWalletRestartsInEveryState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state delegate.State
		hold  func(r *rig)
	}{
		{delegate.Due, func(r *rig) { r.op.Fault(arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable}) }},
		{delegate.Registering, func(r *rig) { r.op.Fault(arktest.Fault{Method: "RegisterIntent", Hang: true}) }},
		{delegate.Registering, func(r *rig) { r.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true}) }},
		{delegate.Registered, func(r *rig) { r.alone(2) }},
		{delegate.Joining, func(r *rig) { r.op.Fault(arktest.Fault{Method: "ConfirmRegistration", Hang: true}) }},
		{delegate.Joining, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitTreeSignatures", Hang: true}) }},
		{delegate.Submitted, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", Hang: true}) }},
		{delegate.Submitted, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true}) }},
		{delegate.Unconfirmed, func(r *rig) { r.chain = shallow{onChain{r.op.Chain()}} }},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				v := r.vault()
				coin := v.coin(100_000)
				rec := v.delegate(time.Time{}, coin)
				c.hold(r)
				r.start()
				r.awaitState(rec.ID, c.state)
				r.crash()
				if names := r.garbage(); len(names) > 0 {
					t.Errorf("%v are garbage in %s", names, c.state)
				}
				r.op.ClearFaults()
				r.alone(1)
				r.chain = nil
				r.start()
				done := r.awaitState(rec.ID, delegate.Settled)
				r.halt()
				r.renewed(done, coin)
				if got := r.garbage(); !slices.Equal(got, signer.Garbage(done)) {
					t.Errorf("garbage %v, want %v", got, signer.Garbage(done))
				}
				r.clean()
			})
		})
	}
}

// shallow is a chain without a block.
type shallow struct{ onChain }

func (s shallow) Confirmations(ctx context.Context, txid chainhash.Hash) (int64, error) {
	n, err := s.onChain.Confirmations(ctx, txid)
	return min(n, 0), err
}

// TestLostIntentIsTakenBack: the answer to a registration is lost, and the process
// with it. The next one need not wait for a batch that pops what is queued: it
// deletes that with the owner's proof and has an id at once.
func TestLostIntentIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"by the same process": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				v := r.vault()
				coin := v.coin(100_000)
				rec := v.delegate(time.Time{}, coin)
				r.alone(2) // no batch comes
				r.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true})
				r.start()
				r.await(rec.ID, "a lost answer", func(rec *delegate.Record) bool {
					return rec.State == delegate.Registering && (restart || rec.LastError.Code != "") && len(r.op.Stats().Queue) > 0
				})
				if restart {
					r.crash()
				}
				r.op.ClearFaults()
				if restart {
					r.start()
				}
				got := r.awaitState(rec.ID, delegate.Registered)
				if q := r.op.Stats().Queue; len(q) != 1 || got.IntentID == "" {
					t.Errorf("registered as %q, and %v are queued", got.IntentID, q)
				}
				r.alone(1)
				r.renewed(r.awaitState(rec.ID, delegate.Settled), coin)
				r.halt()
				r.clean()
			})
		})
	}
}

// TestForeignIntentStays: what the owner registered over the same coin, with the
// device in hand, is not taken back.
func TestForeignIntentStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		v := r.vault()
		coin := v.coin(100_000)
		first := v.delegate(time.Time{}, coin)
		r.alone(2)
		r.start()
		r.awaitState(first.ID, delegate.Registered)
		r.halt() // the intent of the first now stands for the owner's own
		foreign := r.op.Stats().Queue
		r.must(func() error {
			rec, err := r.ledger.Delegate(r.ctx, first.ID)
			if err != nil {
				return err
			}
			rec, err = r.ledger.Transition(r.ctx, rec, delegate.Dropped, func(rec *delegate.Record) { rec.IntentID, rec.NextAttempt = "", time.Now().Unix() })
			if err == nil && rec.State != delegate.Due {
				err = errors.New("not due")
			}
			return err
		}())
		r.start()
		r.await(first.ID, "a duplicate", func(rec *delegate.Record) bool { return rec.LastError.Code == "DUPLICATED_INPUT" })
		tick := time.NewTimer(1200 * time.Millisecond) // two more tries
		defer tick.Stop()
		<-tick.C
		if q := r.op.Stats().Queue; len(q) != 1 || q[0].ID != foreign[0].ID {
			t.Errorf("queued was %v, and now %v", foreign, q)
		}
		r.halt()
	})
}

// TestReplacedWhileQueued: a newer delegate over a coin whose older one waits in
// the operator's queue takes over at once: the older intent is deleted with its
// owner's proof.
func TestReplacedWhileQueued(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"by the same process": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				v := r.vault()
				coin := v.coin(100_000)
				first := v.delegate(time.Time{}, coin)
				r.alone(2)
				r.start()
				r.awaitState(first.ID, delegate.Registered)
				second := v.delegate(time.Now().Add(-5*time.Second), coin)
				if second.State != delegate.Pending || !slices.Equal(second.Replaces, []vigil.DelegateID{first.ID}) {
					t.Fatalf("the newer is %s, and replaces %v", second.State, second.Replaces)
				}
				if restart {
					r.crash()
					r.start()
				} else {
					r.engine.Withdraw(second.Replaces...)
				}
				r.awaitState(first.ID, delegate.Replaced)
				r.awaitState(second.ID, delegate.Registered)
				if q := r.op.Stats().Queue; len(q) != 1 {
					t.Errorf("%v are queued", q)
				}
				r.alone(1)
				r.renewed(r.awaitState(second.ID, delegate.Settled), coin)
				r.halt()
				r.forfeited(1, coin)
				r.clean()
			})
		})
	}
}

// TestCancelledWhileQueued: a cancellation that was noted is carried out when the
// intent is taken back, by this process or by the next.
func TestCancelledWhileQueued(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"by the same process": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				v := r.vault()
				coin := v.coin(100_000)
				rec := v.delegate(time.Time{}, coin)
				r.alone(2)
				r.start()
				for { // the engine may be writing
					_, err := r.ledger.Cancel(r.ctx, r.awaitState(rec.ID, delegate.Registered), false)
					if err == nil {
						break
					}
					if !errors.Is(err, ledger.ErrConflict) {
						t.Fatal(err)
					}
				}
				if restart {
					r.crash()
					r.start()
				} else {
					r.engine.Withdraw(rec.ID)
				}
				done := r.awaitState(rec.ID, delegate.Cancelled)
				r.halt()
				r.forfeited(0, coin)
				if got := r.garbage(); !slices.Equal(got, signer.Garbage(done)) {
					t.Errorf("garbage %v", got)
				}
				r.clean()
			})
		})
	}
}

// TestTold: who watches hears of a failure once, and of the end.
func TestTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		v := r.vault()
		var mu sync.Mutex
		var heard []string
		r.tell = func(rec *delegate.Record) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, rec.State.String()+" "+rec.LastError.Code)
		}
		rec := v.delegate(time.Time{}, v.coin(100_000))
		r.op.Fault(arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable})
		r.start()
		r.await(rec.ID, "failures", func(rec *delegate.Record) bool { return rec.Attempts > 2 })
		r.op.ClearFaults()
		r.awaitState(rec.ID, delegate.Settled)
		r.halt()
		mu.Lock()
		defer mu.Unlock()
		last := len(heard) - 1 // a busy machine may fail a batch between
		if last < 1 || heard[0] != "due OPERATOR_UNAVAILABLE" || heard[last] != "settled " || slices.Index(heard[1:], heard[0]) >= 0 {
			t.Errorf("heard %q", heard)
		}
	})
}
