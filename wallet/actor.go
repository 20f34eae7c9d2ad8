package wallet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/internal/caught"
)

// Errors of the registry, matched with errors.Is.
var (
	// ErrBusy says that a wallet's mailbox is full, or that as many wallets are
	// active as may be. Nothing was begun.
	ErrBusy = errors.New("wallet: busy")
	// ErrStopped says that the registry takes no more work. Nothing was begun.
	ErrStopped = errors.New("wallet: stopped")
	// ErrQuarantined says that work on this wallet panicked: it does nothing more
	// until somebody has looked.
	ErrQuarantined = errors.New("wallet: quarantined")
)

// work is one command on its way to an actor.
type work[S any] struct {
	ctx  context.Context // the caller's values and none of its impatience
	f    func(context.Context, *S) error
	done chan error // holds one, so that an actor never waits for a caller
}

// actor is one wallet in memory. Its goroutine lives while there is work, and a
// little longer; state belongs to that goroutine alone.
type actor[S any] struct {
	id   vigil.WalletID
	mail chan work[S]
	poke chan struct{} // asks an idle one to make room
}

// run serves the mailbox until the actor is idle for as long as it may be.
func (r *registry[S]) run(a *actor[S]) {
	defer r.group.Done()
	var state *S
	idle := time.NewTimer(r.cfg.linger)
	defer idle.Stop()
	for {
		select {
		case w := <-a.mail:
			state = r.serve(a.id, state, w)
			idle.Reset(r.cfg.linger)
			if state != nil {
				continue
			}
		case <-idle.C:
		case <-a.poke:
		case <-r.quit:
		}
		if r.leave(a) {
			return
		}
	}
}

// serve does one piece of work and returns the state to go on with: nil when it
// could not be loaded, or when the work left it unknown.
func (r *registry[S]) serve(id vigil.WalletID, state *S, w work[S]) (next *S) {
	ctx, cancel := context.WithTimeout(w.ctx, r.cfg.patience)
	defer cancel()
	err := ErrQuarantined
	defer func() {
		if v := recover(); v != nil {
			next, err = nil, fmt.Errorf("%w: %w", ErrQuarantined, caught.Error(v))
			r.quarantine(id, err, caught.Stack())
		}
		w.done <- err
	}()
	if r.quarantined(id) {
		return nil
	}
	if state == nil {
		if state, err = r.cfg.load(ctx, id); err != nil {
			return nil
		}
	}
	err = w.f(ctx, state)
	if errors.Is(err, errStale) || r.cfg.gone != nil && r.cfg.gone(state) {
		return nil
	}
	return state
}

// errStale, wrapped by an error of a command, makes the actor forget its state:
// the next command reads it again.
var errStale = errors.New("wallet: the state in memory is not to be trusted")
