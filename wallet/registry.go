package wallet

import (
	"context"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
)

// bounds are how a registry behaves.
type bounds[S any] struct {
	// load rehydrates a wallet from the store, in its actor's goroutine.
	load func(context.Context, vigil.WalletID) (*S, error)
	// panicked is told, once, of a wallet that is now quarantined; nil: nobody is.
	panicked func(id vigil.WalletID, why error, stack string)
	// gone says that a wallet is no more and its state worthless; nil: never.
	gone     func(*S) bool
	mailbox  int           // commands that may wait for one wallet
	active   int           // wallets in memory at once
	linger   time.Duration // how long an idle wallet stays in memory
	patience time.Duration // how long one command may take
}

// registry holds the actors of the wallets that something is being done with.
// The lock guards the map alone and is never held over work. A command enters a
// mailbox under it, and an actor leaves only when, under it, its mailbox is
// empty: so no command is lost and no wallet ever has two actors.
type registry[S any] struct {
	cfg   bounds[S]
	quit  chan struct{}
	group sync.WaitGroup

	mu      sync.Mutex
	actors  map[vigil.WalletID]*actor[S]
	barred  map[vigil.WalletID]error // quarantined, and why
	stopped bool
}

func newRegistry[S any](cfg bounds[S]) *registry[S] {
	return &registry[S]{
		cfg: cfg, quit: make(chan struct{}),
		actors: map[vigil.WalletID]*actor[S]{}, barred: map[vigil.WalletID]error{},
	}
}

// do runs f in the wallet's actor, after all that was sent to it before. A
// caller whose context ends may leave; the work is done all the same. f's own
// context has the caller's values and an end of its own.
func (r *registry[S]) do(ctx context.Context, id vigil.WalletID, f func(context.Context, *S) error) error {
	w := work[S]{ctx: context.WithoutCancel(ctx), f: f, done: make(chan error, 1)}
	if err := r.send(id, w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send puts w into the mailbox of the wallet's one actor, which it spawns when
// there is none.
func (r *registry[S]) send(id vigil.WalletID, w work[S]) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return ErrStopped
	}
	if err := r.barred[id]; err != nil {
		return err
	}
	a := r.getOrSpawn(id)
	if a == nil {
		return ErrBusy
	}
	select {
	case a.mail <- w:
		return nil
	default:
		return ErrBusy
	}
}

// getOrSpawn returns the wallet's actor, or nil when there is no room for one.
func (r *registry[S]) getOrSpawn(id vigil.WalletID) *actor[S] {
	if a := r.actors[id]; a != nil {
		return a
	}
	if len(r.actors) >= r.cfg.active {
		r.makeRoom()
		return nil
	}
	a := &actor[S]{id: id, mail: make(chan work[S], r.cfg.mailbox), poke: make(chan struct{}, 1)}
	r.actors[id] = a
	r.group.Add(1)
	go r.run(a)
	return a
}

// makeRoom asks a few wallets, whichever the map gives, to leave if they are
// idle: whoever is refused finds room at the next attempt.
func (r *registry[S]) makeRoom() {
	asked := 0
	for _, a := range r.actors {
		if len(a.mail) > 0 {
			continue
		}
		select {
		case a.poke <- struct{}{}:
		default:
		}
		if asked++; asked == 8 {
			return
		}
	}
}

// leave takes an actor with an empty mailbox out of the map: nobody can reach it
// any more, and its goroutine must end. It refuses while work waits.
func (r *registry[S]) leave(a *actor[S]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(a.mail) > 0 {
		return false
	}
	delete(r.actors, a.id)
	return true
}

// quarantine bars a wallet for as long as this process lives, and tells.
func (r *registry[S]) quarantine(id vigil.WalletID, why error, stack string) {
	r.mu.Lock()
	r.barred[id] = why
	r.mu.Unlock()
	if r.cfg.panicked != nil {
		r.cfg.panicked(id, why, stack)
	}
}

func (r *registry[S]) quarantined(id vigil.WalletID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.barred[id] != nil
}

// count returns how many wallets are in memory, and how many are quarantined.
func (r *registry[S]) count() (active, barred int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.actors), len(r.barred)
}

// stop takes no more work, does what was taken, and returns when every actor has
// ended. It may be called more than once.
func (r *registry[S]) stop() {
	r.mu.Lock()
	if !r.stopped {
		r.stopped = true
		close(r.quit)
	}
	r.mu.Unlock()
	r.group.Wait()
}
