package renewal_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/signer"
)

// failing is a store that is down now and then: from some call on, for some
// calls. A call that fails has changed nothing, as when the disk is full.
type failing struct {
	kv.Store
	mu      sync.Mutex
	down    func() bool // whether the next call fails; nil: never
	updates int
	failed  int
}

func (f *failing) refuse(update bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if update {
		f.updates++
	}
	if f.down != nil && f.down() {
		f.failed++
		return fmt.Errorf("%w: no space left on device", kv.ErrUnavailable)
	}
	return nil
}

func (f *failing) View(ctx context.Context, g func(kv.Reader) error) error {
	if err := f.refuse(false); err != nil {
		return err
	}
	return f.Store.View(ctx, g)
}

func (f *failing) Update(ctx context.Context, g func(kv.Writer) error) error {
	if err := f.refuse(true); err != nil {
		return err
	}
	return f.Store.Update(ctx, g)
}

func (f *failing) tally() (updates, failed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.updates, f.failed
}

// watchful stands between engine and operator and holds, at the moment at which
// forfeits leave, that each is stored with the branch of its commitment.
type watchful struct {
	renewal.Operator
	r    *rig
	mu   sync.Mutex
	left int // forfeits seen
}

func (w *watchful) SubmitForfeits(ctx context.Context, forfeits []string, commitment string) error {
	stored := map[string]bool{}
	err := ledger.Inspect(w.r.ctx, w.r.kv, func(s *ledger.Snapshot) error {
		return s.Branches(func(b *delegate.Branch) error {
			if len(b.Nodes) > 0 && len(b.Leaves) > 0 {
				for _, f := range b.Forfeits {
					stored[base64.StdEncoding.EncodeToString(f.PSBT)] = true
				}
			}
			return nil
		})
	})
	if err != nil {
		w.r.t.Error(err)
	}
	for _, f := range forfeits {
		if !stored[f] {
			w.r.t.Error("a forfeit left without a stored branch")
		}
	}
	w.mu.Lock()
	w.left += len(forfeits)
	w.mu.Unlock()
	return w.Operator.SubmitForfeits(ctx, forfeits, commitment)
}

// newOutage is a rig whose engine's store can fail while the test's own does
// not, with delegates of as many owners as asked: stock wallets and ours in turn.
func newOutage(t *testing.T, owners int) (*rig, *failing, *watchful, []*delegate.Record) {
	t.Helper()
	r := newRig(t, arktest.Settings{SessionDuration: 3 * time.Second, BanThreshold: -1})
	r.chain = onChain{r.op.Chain()}
	store, w := &failing{Store: r.kv}, &watchful{r: r}
	r.via = func(op renewal.Operator) renewal.Operator {
		w.Operator = op
		return w
	}
	recs := make([]*delegate.Record, owners)
	for i := range recs {
		if i%2 == 1 {
			v := r.vault()
			recs[i] = v.delegate(time.Time{}, v.coin(50_000))
			continue
		}
		d := r.device()
		recs[i] = r.submit(d, wallet.DelegateOptions{}, r.mint([]*wallet.Wallet{d}, 50_000)...)
	}
	led, err := ledger.Open(r.ctx, store, ledger.Options{Garbage: signer.Garbage})
	if err != nil {
		t.Fatal(err)
	}
	r.led = led
	return r, store, w, recs
}

// whole holds that every delegate was renewed once, and that there is one line
// of history for each.
func (r *rig) whole(recs []*delegate.Record, w *watchful) {
	r.t.Helper()
	history := map[vigil.DelegateID]int{}
	if err := ledger.Inspect(r.ctx, r.kv, func(s *ledger.Snapshot) error {
		return s.History(func(e *ledger.Entry) error {
			history[e.Delegate]++
			return nil
		})
	}); err != nil {
		r.t.Fatal(err)
	}
	for _, rec := range recs {
		done := r.awaitState(rec.ID, delegate.Settled)
		coins, err := r.vtxos(rec.Outpoints()...)
		if err != nil {
			r.t.Fatal(err)
		}
		r.renewed(done, coins...)
		r.once(done, coins...)
		if names := r.garbage(); rec.Kind == delegate.Wallet && !slices.Contains(names, signer.Garbage(rec)[0]) {
			r.t.Errorf("the tree key of %s is not garbage: %v", rec.ID, names)
		}
		if history[rec.ID] != 1 {
			r.t.Errorf("%s has %d lines of history", rec.ID, history[rec.ID])
		}
	}
	if w.left < len(recs) {
		r.t.Errorf("only %d forfeits were seen leaving", w.left)
	}
	r.clean()
}

// TestStoreFailsAtEveryWrite counts the writes of a renewal of two coins, fails
// each of them and what follows for a while, and wants the coins renewed once when
// the store is back, without a restart.
func TestStoreFailsAtEveryWrite(t *testing.T) {
	t.Parallel()
	writes := 0
	synctest.Test(t, func(t *testing.T) {
		r, store, w, recs := newOutage(t, 2)
		r.start()
		for _, rec := range recs {
			r.awaitState(rec.ID, delegate.Settled)
		}
		r.halt()
		r.whole(recs, w)
		writes, _ = store.tally()
	})
	if writes < 6 { // registering, registered, joining, submitted, unconfirmed, settled
		t.Fatalf("only %d writes", writes)
	}
	for at := 1; at <= writes; at++ {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, store, w, recs := newOutage(t, 2)
				left := 3
				store.down = func() bool {
					if store.updates < at || left == 0 {
						return false
					}
					left--
					return true
				}
				r.start()
				for _, rec := range recs {
					r.awaitState(rec.ID, delegate.Settled)
				}
				r.halt()
				r.whole(recs, w)
				if _, failed := store.tally(); failed == 0 {
					t.Log("the write was not reached")
				}
			})
		})
	}
}

// TestStoreFailsAtRandom has the store fail again and again while several
// owners' delegates are carried through batches. VIGIL_SEED repeats a run.
func TestStoreFailsAtRandom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		if text := os.Getenv("VIGIL_SEED"); text != "" {
			var err error
			if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("VIGIL_SEED=%d", seed)
		r, store, w, recs := newOutage(t, 6)
		random := rand.New(rand.NewPCG(seed, 0))
		// One outage is sure to come before the renewals are through.
		outages, left, first := 25, 0, 1+random.IntN(6)
		store.down = func() bool {
			if left == 0 && outages > 0 && (random.IntN(4) == 0 || store.failed == 0 && store.updates >= first) {
				outages--
				left = 1 + random.IntN(6)
			}
			if left == 0 {
				return false
			}
			left--
			return true
		}
		// An engine that cannot read its store at the start says so; whoever runs it
		// starts it again.
		settled := r.settled(recs)
		for {
			r.start()
			select {
			case err := <-r.stopped:
				if err == nil {
					t.Fatal("the engine stopped by itself")
				}
				r.stopped <- err
				r.halt()
				continue
			case <-settled:
			}
			break
		}
		r.halt()
		store.mu.Lock()
		store.down = nil
		store.mu.Unlock()
		r.whole(recs, w)
		if _, failed := store.tally(); failed == 0 {
			t.Error("no call failed")
		}
	})
}

// settled is closed when every delegate is.
func (r *rig) settled(recs []*delegate.Record) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for _, rec := range recs {
			for {
				now, err := r.ledger.Delegate(r.ctx, rec.ID)
				if err == nil && now.State == delegate.Settled {
					break
				}
				select {
				case <-tick.C:
				case <-r.ctx.Done():
					r.t.Errorf("%s is %v, %v", rec.ID, now, err)
					return
				}
			}
		}
	}()
	return done
}
