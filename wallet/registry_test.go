package wallet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter is the state of a test's wallet: live says whether its actor is the
// only one, and seen is not guarded by anything but the actor.
type counter struct {
	id   vigil.WalletID
	seen int
}

func wid(n int) (id vigil.WalletID) {
	id[0], id[1], id[2] = byte(n), byte(n>>8), byte(n>>16)
	return id
}

func testBounds() bounds[counter] {
	return bounds[counter]{
		load:    func(_ context.Context, id vigil.WalletID) (*counter, error) { return &counter{id: id}, nil },
		mailbox: 16, active: 64, linger: time.Minute, patience: time.Minute,
	}
}

func TestWorkOfOneWalletIsSerialAndOfManyParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(testBounds())
		defer r.stop()
		gate, entered := make(chan struct{}), make(chan vigil.WalletID, 2)
		slow := func(_ context.Context, c *counter) error { entered <- c.id; <-gate; return nil }
		for i := range 2 {
			go func() { _ = r.do(t.Context(), wid(i), slow) }()
		}
		// Both are in the middle of their work at once: a slow wallet holds up no other.
		<-entered
		<-entered
		done := make(chan error, 1)
		go func() {
			done <- r.do(t.Context(), wid(0), func(_ context.Context, c *counter) error { c.seen++; return nil })
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("a command ran while another of the same wallet was running")
		default:
		}
		close(gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestAFullMailboxRefusesAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBounds()
		b.mailbox = 2
		r := newRegistry(b)
		defer r.stop()
		gate := make(chan struct{})
		var ran atomic.Int32
		results := make(chan error, 10)
		for range 10 {
			go func() {
				results <- r.do(t.Context(), wid(1), func(context.Context, *counter) error { <-gate; ran.Add(1); return nil })
			}()
			synctest.Wait()
		}
		close(gate)
		var took, busy int32
		for range 10 {
			switch err := <-results; {
			case err == nil:
				took++
			case errors.Is(err, ErrBusy):
				busy++
			default:
				t.Fatal(err)
			}
		}
		if took != 3 || busy != 7 || ran.Load() != took {
			t.Fatalf("%d taken, %d busy, %d ran: want one running, two waiting, the rest refused", took, busy, ran.Load())
		}
	})
}

func TestACallerMayLeaveAndItsWorkIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(testBounds())
		gate, done := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error, 1)
		go func() {
			left <- r.do(ctx, wid(1), func(ctx context.Context, _ *counter) error {
				<-gate
				if ctx.Err() != nil {
					t.Error("the work lost its context with its caller")
				}
				close(done)
				return nil
			})
		}()
		synctest.Wait()
		gone := errors.New("gone")
		cancel(gone)
		if err := <-left; !errors.Is(err, gone) {
			t.Fatalf("the caller left with %v", err)
		}
		close(gate)
		<-done
		r.stop()
	})
}

func TestIdleWalletsAreForgottenAndStopRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		b := testBounds()
		b.load = func(_ context.Context, id vigil.WalletID) (*counter, error) {
			loads.Add(1)
			return &counter{id: id}, nil
		}
		r := newRegistry(b)
		nothing := func(context.Context, *counter) error { return nil }
		for range 3 {
			if err := r.do(t.Context(), wid(1), nothing); err != nil {
				t.Fatal(err)
			}
		}
		if n, _ := r.count(); n != 1 || loads.Load() != 1 {
			t.Fatalf("%d actors after %d loads", n, loads.Load())
		}
		time.Sleep(b.linger) // the bubble's clock
		synctest.Wait()
		if n, _ := r.count(); n != 0 {
			t.Fatalf("%d actors are left of an idle wallet", n)
		}
		if err := r.do(t.Context(), wid(1), nothing); err != nil || loads.Load() != 2 {
			t.Fatalf("%v after %d loads", err, loads.Load())
		}
		r.stop()
		r.stop()
		if err := r.do(t.Context(), wid(1), nothing); !errors.Is(err, ErrStopped) {
			t.Fatalf("after the stop: %v", err)
		}
	})
}

func TestAPanicBarsOneWalletAndIsToldOnce(t *testing.T) {
	var told []vigil.WalletID
	b := testBounds()
	b.panicked = func(id vigil.WalletID, why error, stack string) {
		if stack == "" || !errors.Is(why, ErrQuarantined) {
			t.Errorf("told of %v at %q", why, stack)
		}
		told = append(told, id)
	}
	r := newRegistry(b)
	fine := func(context.Context, *counter) error { return nil }
	if err := r.do(t.Context(), wid(1), func(context.Context, *counter) error { panic("unforeseen") }); !errors.Is(err, ErrQuarantined) {
		t.Fatalf("the caller of what panicked got %v", err)
	}
	for range 2 {
		if err := r.do(t.Context(), wid(1), fine); !errors.Is(err, ErrQuarantined) {
			t.Fatalf("the wallet goes on: %v", err)
		}
	}
	if err := r.do(t.Context(), wid(2), fine); err != nil {
		t.Fatalf("another wallet: %v", err)
	}
	r.stop()
	if len(told) != 1 || told[0] != wid(1) {
		t.Fatalf("told of %v", told)
	}
}

func TestWhatWaitsBehindAPanicIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(testBounds())
		defer r.stop()
		gate := make(chan struct{})
		results := make(chan error, 4)
		go func() {
			results <- r.do(t.Context(), wid(1), func(context.Context, *counter) error { <-gate; panic("unforeseen") })
		}()
		synctest.Wait()
		for range 3 {
			go func() {
				results <- r.do(t.Context(), wid(1), func(context.Context, *counter) error { t.Error("ran after the panic"); return nil })
			}()
		}
		synctest.Wait()
		close(gate)
		for range 4 {
			if err := <-results; !errors.Is(err, ErrQuarantined) {
				t.Fatal(err)
			}
		}
	})
}

func TestAWalletThatCannotBeLoadedIsTriedAgain(t *testing.T) {
	down := errors.New("the store is down")
	fail := true
	b := testBounds()
	b.load = func(_ context.Context, id vigil.WalletID) (*counter, error) {
		if fail {
			return nil, down
		}
		return &counter{id: id}, nil
	}
	r := newRegistry(b)
	defer r.stop()
	fine := func(context.Context, *counter) error { return nil }
	if err := r.do(t.Context(), wid(1), fine); !errors.Is(err, down) {
		t.Fatal(err)
	}
	fail = false // ordered: the actor answered before
	if err := r.do(t.Context(), wid(1), fine); err != nil {
		t.Fatal(err)
	}
}

func TestAStaleStateIsReadAgain(t *testing.T) {
	r := newRegistry(testBounds())
	defer r.stop()
	seen := func(want int) func(context.Context, *counter) error {
		return func(_ context.Context, c *counter) error {
			if c.seen != want {
				return fmt.Errorf("seen %d times, want %d", c.seen, want)
			}
			c.seen++
			return nil
		}
	}
	for _, f := range []func(context.Context, *counter) error{seen(0), seen(1)} {
		if err := r.do(t.Context(), wid(1), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.do(t.Context(), wid(1), func(context.Context, *counter) error { return fmt.Errorf("lost a race: %w", errStale) }); !errors.Is(err, errStale) {
		t.Fatal(err)
	}
	if err := r.do(t.Context(), wid(1), seen(0)); err != nil {
		t.Fatal(err)
	}
}

func TestRoomIsMadeForWhoeverComesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBounds()
		b.active = 4
		r := newRegistry(b)
		defer r.stop()
		fine := func(context.Context, *counter) error { return nil }
		for i := range 4 {
			if err := r.do(t.Context(), wid(i), fine); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.do(t.Context(), wid(9), fine); !errors.Is(err, ErrBusy) {
			t.Fatalf("a fifth of four: %v", err)
		}
		synctest.Wait()
		if err := r.do(t.Context(), wid(9), fine); err != nil {
			t.Fatalf("no room was made: %v", err)
		}
	})
}

// Racing callers, evictions at every moment and panics: a wallet's state is
// touched by one goroutine at a time (the race detector looks too), a command is
// done exactly once or refused, and nothing is left in the end.
func TestStressOneActorPerWallet(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 100
	}
	const wallets, callers = 8, 16
	var inside [wallets]atomic.Int32
	var done, ran atomic.Int64
	b := testBounds()
	b.mailbox, b.active = 4, 6
	b.linger = time.Nanosecond // leaves whenever it can
	b.load = func(_ context.Context, id vigil.WalletID) (*counter, error) {
		if inside[id[0]].Load() != 0 {
			t.Error("a wallet was loaded while another actor of it was at work")
		}
		return &counter{id: id}, nil
	}
	r := newRegistry(b)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range rounds {
				id := wid((c + i) % wallets)
				err := r.do(t.Context(), id, func(_ context.Context, s *counter) error {
					if inside[id[0]].Add(1) != 1 {
						t.Error("two commands of one wallet at once")
					}
					s.seen++
					ran.Add(1)
					inside[id[0]].Add(-1)
					return nil
				})
				switch {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, ErrBusy):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.stop()
	if n, _ := r.count(); n != 0 {
		t.Errorf("%d actors are left", n)
	}
	if done.Load() != ran.Load() || done.Load() == 0 {
		t.Errorf("%d commands ran, %d callers were told so", ran.Load(), done.Load())
	}
}
