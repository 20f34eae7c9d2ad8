package renewal

import (
	"context"
	"encoding/base64"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
)

// lost remembers delegates of whose registration an answer may have been lost: the
// operator may hold an intent of theirs whose id nobody knows. What a start finds
// in registering belongs to them too.
type lost struct {
	mu  sync.Mutex
	ids map[vigil.DelegateID]bool
}

func (l *lost) set(id vigil.DelegateID, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !is:
		delete(l.ids, id)
	case l.ids == nil:
		l.ids = map[vigil.DelegateID]bool{id: true}
	default:
		l.ids[id] = true
	}
}

func (l *lost) has(id vigil.DelegateID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}

// enlist registers a delegate. An intent of ours whose id was lost, and that is in
// the way now, is taken back where the owner signed that ahead; what else is in
// the way may be the owner's own and stays.
func (e *Engine) enlist(ctx context.Context, r ready, session time.Duration) change {
	id, err := e.op.RegisterIntent(ctx, r.proof, r.rec.Message)
	if err != nil && operator.ClassOf(err) == operator.Duplicate {
		if r.held != "" {
			return e.queued(r.rec, r.held)
		}
		if e.lost.has(r.rec.ID) && e.takeBack(ctx, r.rec) {
			id, err = e.op.RegisterIntent(ctx, r.proof, r.rec.Message)
		}
	}
	switch {
	case err == nil:
		e.lost.set(r.rec.ID, false)
	case unanswered(operator.ClassOf(err)):
		e.lost.set(r.rec.ID, true)
	}
	return e.registered(r.rec, id, err, session)
}

// unanswered says whether the operator may have done what it was asked to.
func unanswered(class operator.Class) bool {
	switch class {
	case operator.Transient, operator.Canceled, operator.Unknown, operator.Unverified, operator.Stale:
		return true
	}
	return false
}

// takeBack deletes a delegate's queued intent at the operator, and says whether
// that was done. Without the owner's delete proof, or with the intent in a batch
// already, it is not.
func (e *Engine) takeBack(ctx context.Context, rec *delegate.Record) bool {
	if len(rec.DeleteProof) == 0 {
		return false
	}
	err := e.op.DeleteIntent(ctx, base64.StdEncoding.EncodeToString(rec.DeleteProof), rec.DeleteMessage)
	if err != nil {
		e.cfg.Log.Info("a queued intent was not deleted", "delegate", rec.ID, "err", err)
	}
	return err == nil
}

// Withdraw takes the registrations of delegates back, in the background: of those
// that wait in the operator's queue and whose owners signed the delete proof ahead.
// They are due again then, and a cancellation or a replacement that waited for them
// is carried out in the same write. Of one that is in a batch nothing happens: what
// waits goes on waiting for the batch's end. It does not block.
func (e *Engine) Withdraw(ids ...vigil.DelegateID) {
	for _, id := range ids {
		select {
		case e.withdrawals <- id:
		default: // too many at once: they wait for the batch
		}
	}
}

// awaited says whether a cancellation or a newer delegate waits for the end of one
// that may be queued: a start asks, as the wish may have died with the process
// before it was carried out.
func (e *Engine) awaited(ctx context.Context, rec *delegate.Record) bool {
	if rec.CancelWanted {
		return true
	}
	if len(rec.DeleteProof) == 0 || len(rec.Inputs) == 0 || rec.State != delegate.Registering && rec.State != delegate.Registered {
		return false
	}
	v, err := e.ledger.VTXO(ctx, rec.Inputs[0].Outpoint) // a newer one covers every input
	return err == nil && v.Next != (vigil.DelegateID{})
}

// withdraw runs in the loop.
func (e *Engine) withdraw(ctx context.Context, id vigil.DelegateID) {
	f := e.flights.byID[id]
	if f == nil || e.stopped {
		return
	}
	if f.busy() { // its worker is about to register it, or it is joining
		if s := f.rec.State; s == delegate.Due || s == delegate.Registering {
			e.spawn(func() {
				select {
				case <-time.After(e.cfg.Pace.Duplicate):
					e.Withdraw(id)
				case <-ctx.Done():
				}
			}, nil)
		}
		return
	}
	if s := f.rec.State; s != delegate.Registering && s != delegate.Registered {
		return
	}
	e.flights.hold(f) // it joins no batch meanwhile
	e.spawn(func() { e.unlist(ctx, id) }, func() { e.reload(ctx, id) })
}

// unlist is withdraw's worker.
func (e *Engine) unlist(ctx context.Context, id vigil.DelegateID) {
	rec, err := e.ledger.Delegate(ctx, id) // with the wish that was noted just now
	if err != nil || rec.State != delegate.Registering && rec.State != delegate.Registered || !e.takeBack(ctx, rec) {
		e.reload(ctx, id)
		return
	}
	e.lost.set(id, false)
	event := delegate.Dropped
	if rec.State == delegate.Registering {
		event = delegate.Refused
	}
	out := e.insist(ctx, []change{{Prev: rec, Event: event, Mutate: func(r *delegate.Record) {
		r.IntentID = ""
		r.NextAttempt = e.cfg.Now().Unix()
	}}})[0]
	e.post(ctx, func() { e.written(ctx, rec, out) })
}

// tell tells of what a delegate's owner may want to know.
func (e *Engine) tell(prev, now *delegate.Record) {
	if e.cfg.Tell == nil {
		return
	}
	over := now.State != prev.State && (now.State.Ended() || now.State == delegate.Quarantined)
	if over || now.LastError.Code != "" && now.LastError.Code != prev.LastError.Code {
		e.cfg.Tell(now)
	}
}
