package wallet_test

import (
	"context"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/vigilpb"
)

const validAt = start + 400_000

func TestADelegateOverTwentyCoinsIsOneRound(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	var coins []ark.VTXO
	for range 20 {
		coins = append(coins, d.coin(10_000))
	}
	a, err := d.delegate(validAt, coins...)
	if err != nil {
		t.Fatal(err)
	}
	if !a.GetStored() || a.GetDelegate().GetState() != "armed" || w.woken != 1 {
		t.Fatalf("%v, woken %d", a, w.woken)
	}
	got, err := d.list()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetVtxos()) != 20 || !got.GetHasActiveDelegate() {
		t.Fatalf("%d coins, active %v", len(got.GetVtxos()), got.GetHasActiveDelegate())
	}
	for _, v := range got.GetVtxos() {
		if !v.GetCovered() || v.GetState() != "live" || !v.GetRecoverableWithoutVigil() || v.GetExitDataOnDevice() {
			t.Fatalf("coin %v", v)
		}
	}
	// A batch no shorter than nine tenths of the coin's own life, from valid_at on.
	if least := int64(validAt + 500_000); got.GetCoveredUntil() < least || got.GetKnownAt() != start {
		t.Fatalf("covered until %d, known at %d", got.GetCoveredUntil(), got.GetKnownAt())
	}
	if names := w.secrets(); len(names) != 4 {
		t.Fatalf("secrets %v", names)
	}
	w.restart()
	if len(d.delegates()) != 1 {
		t.Fatal("the delegate is gone")
	}
	w.fsck()
}

// A stranger's coin disarms nothing and is uncovered.
func TestDustDisarmsNothing(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	if _, err := d.delegate(validAt, v); err != nil {
		t.Fatal(err)
	}
	dust := d.coin(330)
	w.clock.add(time.Minute)
	covers := d.covers()
	if !covers[v.Outpoint.String()] || covers[dust.Outpoint.String()] {
		t.Fatalf("covered: %v", covers)
	}
}

// An input that is spent ends its delegate; the other's cover drops in the same
// write, and the device is woken.
func TestAnUnrolledInputEndsItsDelegate(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	a, b := d.coin(100_000), d.coin(50_000)
	if _, err := d.delegate(validAt, a, b); err != nil {
		t.Fatal(err)
	}
	watch, err := w.hub.Watch(t.Context(), d.id, d.identity.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	w.op.set(func(o *fakeOperator) { a.Unrolled = true; o.coins[a.Outpoint] = a })
	w.clock.add(time.Hour)
	if err := w.local().Round(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if e := <-watch.C(); e.Kind != "unrolled" || e.Outpoints[0] != a.Outpoint.String() {
		t.Fatalf("%+v", e)
	}
	if e := <-watch.C(); e.Kind != "uncovered" || e.TimeLeft <= 0 {
		t.Fatalf("%+v", e)
	}
	if covers := d.covers(); covers[b.Outpoint.String()] {
		t.Fatalf("covered: %v", covers)
	}
	if got := d.delegates()[0].GetState(); got != "broken" {
		t.Fatalf("the delegate is %s", got)
	}
	w.fsck()
}

func TestPreparedIsBoundedAndLapses(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if _, err := d.prepare(9); vigil.CodeOf(err) != vigil.CodeMalformed {
		t.Fatal(err)
	}
	first, err := d.prepare(8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.prepare(1); vigil.CodeOf(err) != vigil.CodeTooManyPrepared {
		t.Fatal(err)
	}
	v := d.coin(100_000)
	r, err := d.signed(d.drawUp(first[0], validAt, 0, v))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.add(61 * time.Minute)
	_, err = d.submit(r)
	refusedWith(t, err, vigil.CodeNotFound)
	w.collect()
	if names := w.secrets(); len(names) != 3 {
		t.Fatalf("tree keys are left of what lapsed: %v", names)
	}
	if _, err := d.prepare(8); err != nil {
		t.Fatal(err)
	}
	// Whatever else is asked is answered all the same.
	a, err := carry(w, d.as(-1, "Coverage"), func(ctx context.Context, c auth.Call) (*vigilpb.CoverageAnswer, error) {
		return w.service.Coverage(ctx, c, &vigilpb.CoverageRequest{Prepare: 1})
	})
	if err != nil || len(a.GetPrepared()) != 0 {
		t.Fatalf("%v, %v", a, err)
	}
}

func TestCancelOfWhatIsQueuedDeletesTheIntent(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	a, err := d.delegate(validAt, v)
	if err != nil {
		t.Fatal(err)
	}
	other := made(w, 2, 2)
	id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
	if err != nil {
		t.Fatal(err)
	}
	cancel := func(d *device) (*vigilpb.CancelWalletDelegateAnswer, error) {
		return carry(w, d.as(-1, "CancelWalletDelegate"), func(ctx context.Context, c auth.Call) (*vigilpb.CancelWalletDelegateAnswer, error) {
			return w.service.CancelWalletDelegate(ctx, c, &vigilpb.CancelWalletDelegateRequest{Id: id[:]})
		})
	}
	_, err = cancel(other)
	refusedWith(t, err, vigil.CodeNotFound)
	got, err := cancel(d)
	if err != nil || got.GetDelegate().GetState() != "cancelled" {
		t.Fatalf("%v, %v", got, err)
	}
	if len(w.withdrawn) != 0 {
		t.Fatal("an intent was withdrawn that nobody had registered")
	}
	if covers := d.covers(); covers[v.Outpoint.String()] {
		t.Fatal("a coin is covered by what was cancelled")
	}
	w.fsck()
}

// A crash at any write of preparing or submitting: no secret is an orphan for
// longer than its plan, nothing is stored twice, and the device gets its delegate.
func TestCrashAtEveryWriteOfPrepareAndSubmit(t *testing.T) {
	t.Parallel()
	begin := func(w *world) *device { return made(w, 2, 2) }
	crashes(t, begin, func(d *device) error {
		_, err := d.delegate(validAt, d.coin(100_000), d.coin(50_000))
		return err
	}, func(t *testing.T, d *device, err error) {
		if n := len(d.delegates()); err != nil && n == 0 {
			var coins []ark.VTXO
			for _, v := range d.w.op.coins {
				coins = append(coins, v)
			}
			if _, err := d.delegate(validAt, coins...); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(d.delegates()); n != 1 {
			t.Fatalf("%d delegates", n)
		}
		for coin, covered := range d.covers() {
			if !covered {
				t.Fatalf("%s is uncovered", coin)
			}
		}
		d.w.collect()
		if names := d.w.secrets(); len(names) != 4 {
			t.Fatalf("secrets %v", names)
		}
	})
}

// A delegate whose intent is queued is withdrawn first: by a cancellation, and by
// a replacement that waits beside it.
func TestWhatIsQueuedIsWithdrawnFirst(t *testing.T) {
	for _, replace := range []bool{false, true} {
		w := newWorld(t)
		d := made(w, 2, 2)
		v := d.coin(100_000)
		a, err := d.delegate(validAt, v)
		if err != nil {
			t.Fatal(err)
		}
		id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
		if err != nil {
			t.Fatal(err)
		}
		rec, err := w.ledger.Delegate(t.Context(), id)
		for _, event := range []delegate.Event{delegate.Ripe, delegate.Register} {
			if err == nil {
				rec, err = w.ledger.Transition(t.Context(), rec, event, nil)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if replace {
			b, err := d.delegate(validAt+10, v)
			if err != nil || b.GetDelegate().GetState() != "pending" {
				t.Fatalf("%v, %v", b, err)
			}
		} else {
			_, err := carry(w, d.as(-1, "CancelWalletDelegate"), func(ctx context.Context, c auth.Call) (*vigilpb.CancelWalletDelegateAnswer, error) {
				return w.service.CancelWalletDelegate(ctx, c, &vigilpb.CancelWalletDelegateRequest{Id: id[:]})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(w.withdrawn) != 1 || w.withdrawn[0] != id {
			t.Fatalf("replace %v: withdrawn %v, want %v", replace, w.withdrawn, id)
		}
	}
}
