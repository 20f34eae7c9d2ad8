package renewal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// change is one durable transition.
type change = ledger.Change

// apply writes changes down. When the store fails, every outcome carries the
// error: the acts that the changes announce must not happen.
func (e *Engine) apply(ctx context.Context, changes []change) []ledger.Outcome {
	if len(changes) == 0 {
		return nil
	}
	out, err := e.ledger.Apply(ctx, changes...)
	if err != nil {
		out = make([]ledger.Outcome, len(changes))
		for i := range out {
			out[i].Err = fmt.Errorf("write delegate %s: %w", changes[i].Prev.ID, err)
		}
	}
	return out
}

// insist is apply for a batch under way. A wish that was noted in a record
// meanwhile, to cancel it when the batch has failed, must not make it fail: the
// change is made to the record as it stands, if it stands where it stood.
func (e *Engine) insist(ctx context.Context, changes []change) []ledger.Outcome {
	outs := e.apply(ctx, changes)
	var again []change
	var at []int
	for i, out := range outs {
		prev, now := changes[i].Prev, out.Record
		if errors.Is(out.Err, ledger.ErrConflict) && now != nil && now.State == prev.State && now.BatchID == prev.BatchID && now.Commitment == prev.Commitment {
			c := changes[i]
			c.Prev = now
			again, at = append(again, c), append(at, i)
		}
	}
	for i, out := range e.apply(ctx, again) {
		outs[at[i]] = out
	}
	return outs
}

// write writes one change and tells the loop what became of the record.
func (e *Engine) write(ctx context.Context, c change) {
	out := e.apply(ctx, []change{c})[0]
	e.post(ctx, func() { e.written(ctx, c.Prev, out) })
}

// written updates the loop's view after a write; it runs in the loop. A write
// that failed says nothing about the record: somebody else may have moved it (a
// cancellation, a replacement), or the store may be down. It is read again.
func (e *Engine) written(ctx context.Context, prev *delegate.Record, out ledger.Outcome) {
	if out.Err != nil {
		if prev.State == delegate.Registering {
			e.lost.set(prev.ID, true) // if it was the id that was not written
		}
		e.cfg.Log.Warn("a transition was not written", "delegate", prev.ID, "err", out.Err)
		e.spawn(func() { e.reload(ctx, prev.ID) }, nil)
		return
	}
	e.update(out.Record)
	if out.Record.State.Ended() || out.Record.State == delegate.Quarantined {
		e.lost.set(out.Record.ID, false)
		e.observer.Renewal(out.Record.State.String())
	}
	e.tell(prev, out.Record)
	if rec := out.Record; rec.State == delegate.Registered && slices.Contains(e.latest.IntentHashes, batch.IntentHash(rec.IntentID)) {
		// The batch was announced before the id was written.
		e.join(ctx, e.latest, e.flights.byID[rec.ID])
	}
	if p := e.parties[e.latest.BatchID]; p != nil && !p.begun && e.complete(p) {
		e.begin(ctx, p)
	}
}

// reload reads a record until the store answers, and gives it back to the loop.
func (e *Engine) reload(ctx context.Context, id vigil.DelegateID) {
	for {
		rec, err := e.ledger.Delegate(ctx, id)
		switch {
		case err == nil:
			e.post(ctx, func() {
				e.update(rec)
				// Whatever could not be written is not tried again at once.
				if f := e.flights.byID[id]; f != nil {
					e.flights.wait(f, later(f.next, e.cfg.Now().Add(e.cfg.Pace.First)))
				}
			})
			return
		case errors.Is(err, ledger.ErrUnreadable):
			if e.quarantine(ctx, ledger.Due{ID: id}, err) != nil {
				break // the store is down: again
			}
			e.post(ctx, func() { e.flights.drop(id) })
			return
		case errors.Is(err, ledger.ErrNotFound):
			e.post(ctx, func() { e.flights.drop(id) })
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// quarantine marks a record that cannot be read, so that it is told of and in
// nobody's way. A row of an index that cannot be believed, which has no id, is
// marked already. The error is the store's.
func (e *Engine) quarantine(ctx context.Context, due ledger.Due, why error) error {
	if due.ID == (vigil.DelegateID{}) {
		e.cfg.Log.Error("a stored row cannot be read: some delegate may not be renewed; see vigil fsck", "err", why)
		return nil
	}
	err := e.ledger.Quarantine(ctx, due, why.Error())
	if errors.Is(err, ledger.ErrConflict) {
		return nil // whole again
	}
	if err == nil {
		e.cfg.Log.Error("a delegate cannot be read and is quarantined", "delegate", due.ID, "err", why)
		e.observer.Renewal(delegate.Quarantined.String())
	}
	return err
}

// take reads due delegates from the index and starts their registration.
func (e *Engine) take(ctx context.Context, room int) {
	now := e.cfg.Now()
	var ripe []change
	var due []*delegate.Record
	var cursor ledger.Cursor
	var failed error
	for len(due)+len(ripe) < room {
		rows, next, err := e.ledger.Due(ctx, now, room, cursor)
		if err != nil {
			failed = err
			break
		}
		for _, row := range rows {
			switch {
			case row.Err != nil:
				if err := e.quarantine(ctx, row, row.Err); err != nil {
					e.cfg.Log.Error("an unreadable record could not be quarantined", "delegate", row.ID, "err", err)
				}
			case !inStep(row):
				e.stray(ctx, row)
			case row.Record.State == delegate.Armed:
				ripe = append(ripe, change{Prev: row.Record, Event: delegate.Ripe, Mutate: func(r *delegate.Record) {
					r.NextAttempt = now.Unix()
				}})
			default:
				due = append(due, row.Record)
			}
		}
		if next == nil || len(rows) == 0 {
			break
		}
		cursor = next
	}
	for i, out := range e.apply(ctx, ripe) {
		if out.Err != nil {
			e.cfg.Log.Warn("a due delegate was not taken up", "delegate", ripe[i].Prev.ID, "err", out.Err)
			continue
		}
		if out.Record.State == delegate.Due {
			due = append(due, out.Record)
		}
	}
	at, ok, err := e.ledger.NextDue(ctx)
	e.post(ctx, func() {
		e.taking = false
		fresh := due[:0]
		for _, rec := range due {
			if e.flights.byID[rec.ID] != nil {
				continue // a worker has it, and its next write is still to come
			}
			f, _ := e.flights.put(rec) // not to wait: the worker has it
			f.since = now
			fresh = append(fresh, rec)
		}
		now := e.cfg.Now()
		switch {
		case failed != nil || err != nil:
			e.cfg.Log.Error("the due index could not be read", "err", errors.Join(failed, err))
			e.nextDue = now.Add(time.Second)
		case !ok:
			e.nextDue = now.Add(idle)
		case len(fresh) > 0:
			// While rows that are due already fill the window, the next look is when
			// there is room again.
			e.nextDue = later(at, now.Add(100*time.Millisecond))
		default:
			// What is due already is in work, or could not be taken up.
			e.nextDue = later(at, now.Add(time.Second))
		}
		if len(fresh) > 0 {
			e.spawn(func() { e.register(ctx, fresh, func() {}) }, e.rescue(ctx, fresh))
		}
	})
}

// inStep says whether a row of the due index is the one that its record asks for.
func inStep(row ledger.Due) bool {
	at, waits := row.Record.DueAt()
	return waits && at == row.At
}

// stray removes a row of the due index that its record does not ask for: followed,
// it would have the record attempted again and again.
func (e *Engine) stray(ctx context.Context, row ledger.Due) {
	e.cfg.Log.Error("a row of the due index is out of step with its record, and is removed", "delegate", row.ID, "state", row.Record.State)
	if err := e.ledger.DropStray(ctx, row); err != nil {
		e.cfg.Log.Error("it could not be removed", "delegate", row.ID, "err", err)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// register reads the inputs of due (or registering) delegates again, opens
// their sessions, writes that they are being registered, and registers them.
// done runs in the loop when all have their outcome.
func (e *Engine) register(ctx context.Context, recs []*delegate.Record, done func()) {
	defer e.post(ctx, done)
	params, err := e.op.Params(ctx)
	if err != nil {
		e.putOff(ctx, recs, "OPERATOR_UNAVAILABLE", err)
		return
	}
	found, err := e.read(ctx, recs)
	if err != nil {
		e.putOff(ctx, recs, "OPERATOR_UNAVAILABLE", err)
		return
	}
	session := time.Duration(params.SessionSeconds) * time.Second
	e.post(ctx, func() { e.session = session })
	if params, err = e.current(ctx, recs, params, found); err != nil {
		e.putOff(ctx, recs, "OPERATOR_UNAVAILABLE", err)
		return
	}
	todo := e.proofs(ctx, e.registrable(ctx, recs, params, found))
	var begin []change
	for _, r := range todo {
		if r.rec.State == delegate.Due {
			begin = append(begin, change{Prev: r.rec, Event: delegate.Register, Mutate: func(r *delegate.Record) {
				r.Attempts++
				r.BatchID, r.BatchEnd = "", 0
				// From here on the operator may hold an intent whose id nobody knows.
				r.IntentID = ""
			}})
		}
	}
	started := map[*delegate.Record]ledger.Outcome{}
	for i, out := range e.apply(ctx, begin) {
		started[begin[i].Prev] = out
	}
	calls := errgroup.Group{}
	calls.SetLimit(e.cfg.Calls)
	for i := range todo {
		prev := todo[i].rec
		out, begun := started[prev]
		if !begun {
			out = e.unmoved(ctx, prev)
		}
		if out.Err != nil || out.Record.State != delegate.Registering {
			todo[i].rec = nil
			e.post(ctx, func() { e.written(ctx, prev, out) })
			continue
		}
		if begun {
			todo[i].held = prev.IntentID
		}
		todo[i].rec = out.Record
	}
	for _, r := range todo {
		if r.rec == nil {
			continue
		}
		calls.Go(func() error {
			e.write(ctx, e.enlist(ctx, r, session))
			return nil
		})
	}
	_ = calls.Wait() // every outcome is written above
}

// unmoved reads a record again that is to be registered once more: its owner may
// have cancelled it meanwhile, and the intent with it. One that was registered
// after that would stay queued, and hold up what its owner does with the coin.
func (e *Engine) unmoved(ctx context.Context, prev *delegate.Record) ledger.Outcome {
	rec, err := e.ledger.Delegate(ctx, prev.ID)
	if err == nil && rec.Version != prev.Version {
		err = ledger.ErrConflict
	}
	return ledger.Outcome{Record: rec, Err: err}
}

// registrable writes down what became of the delegates that cannot be registered
// now, and returns the others.
func (e *Engine) registrable(ctx context.Context, recs []*delegate.Record, params ark.Params, found coins) []*delegate.Record {
	var out []*delegate.Record
	for _, rec := range recs {
		if c, ended := e.verdict(ctx, rec, found); ended {
			e.write(ctx, c)
			continue
		}
		if failure := unfit(rec, params, found, e.cfg.Now()); failure != nil {
			e.write(ctx, e.backOff(rec, failure.Code, failure.Text, e.cfg.Pace.retry(rec, e.cfg.Now(), random())))
			continue
		}
		out = append(out, rec)
	}
	return out
}

// ready is a delegate that can be registered, with its proof.
type ready struct {
	rec   *delegate.Record
	proof string
	held  string // the intent id that it had until now, "" for none
}

// proofs opens the delegates' sessions for as long as it takes to sign their
// proofs.
func (e *Engine) proofs(ctx context.Context, recs []*delegate.Record) []ready {
	if len(recs) == 0 {
		return nil
	}
	session, failed := e.sessions.Open(ctx, recs)
	defer session.Close()
	proofs := make([]string, len(recs))
	errs := make([]error, len(recs))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, rec := range recs {
		work.Go(func() error {
			if errs[i] = failed[rec.ID]; errs[i] != nil {
				return nil
			}
			if panicked := e.guard(func() { proofs[i], errs[i] = session.Proof(rec.ID) }); panicked != nil {
				errs[i] = panicked // one that does harms no other
			}
			return nil
		})
	}
	_ = work.Wait() // errs holds every error
	var out []ready
	for i, rec := range recs {
		if errs[i] != nil {
			e.write(ctx, e.unopened(rec, errs[i]))
			continue
		}
		out = append(out, ready{rec: rec, proof: proofs[i]})
	}
	return out
}

// current asks the operator for its parameters again when what was last heard
// does not fit a record: they may have been set back, or have been a lie.
func (e *Engine) current(ctx context.Context, recs []*delegate.Record, params ark.Params, found coins) (ark.Params, error) {
	for _, rec := range recs {
		if unfit(rec, params, found, e.cfg.Now()) != nil {
			return e.op.Info(ctx)
		}
	}
	return params, nil
}

// registered says what follows from the operator's answer to RegisterIntent.
func (e *Engine) registered(rec *delegate.Record, id string, err error, session time.Duration) change {
	now := e.cfg.Now()
	if err == nil {
		return change{Prev: rec, Event: delegate.Accepted, Mutate: func(r *delegate.Record) {
			r.IntentID, r.RegisteredAt = id, now.Unix()
			r.NextAttempt = after(now, time.Minute)
			r.LastError = delegate.Failure{}
		}}
	}
	note := func(event delegate.Event, code string, wait time.Duration) change {
		return change{Prev: rec, Event: event, Mutate: func(r *delegate.Record) {
			r.Fail(code, err.Error(), now.Unix())
			r.NextAttempt = after(now, wait)
		}}
	}
	class := operator.ClassOf(err)
	if unanswered(class) { // it may or may not be queued
		return note(delegate.Note, "OPERATOR_UNAVAILABLE", e.cfg.Pace.retry(rec, now, random()))
	}
	switch class {
	case operator.Duplicate:
		if now.Sub(time.Unix(rec.StateSince, 0)) <= misses*session+e.cfg.Pace.Margin {
			code := duplicated
			if rec.LastError.Code == elsewhere { // an attempt ago: it is told once
				code = elsewhere
			}
			return note(delegate.Note, code, e.cfg.Pace.Duplicate)
		}
		// A copy of ours would have been popped by now. To go on trying would keep a
		// place that others wait for, and anybody may hold his own coins for ever.
		if rec.LastError.Code != elsewhere {
			e.cfg.Log.Warn("an intent that is not ours holds a delegate's coins: their owner's, or a thief's", "delegate", rec.ID)
			e.observer.Renewal("held_elsewhere")
		}
		return note(delegate.Refused, elsewhere, e.cfg.Pace.retry(rec, now, random()))
	case operator.Banned:
		return note(delegate.Refused, "VTXO_BANNED", e.cfg.Pace.banned(random()))
	case operator.Expired:
		if past(rec, now) {
			return note(delegate.Expire, "INTENT_EXPIRED", 0)
		}
		// Only the intent's own time ends it, and not a clock that runs ahead.
		return note(delegate.Refused, codeOf(class), e.cfg.Pace.retry(rec, now, random()))
	default:
		// Even a rejection ends nothing: what is wrong for a live coin may be
		// right once it is recoverable, and the operator may be wrong.
		return note(delegate.Refused, codeOf(class), e.cfg.Pace.retry(rec, now, random()))
	}
}

// queued says that an intent which was taken for dropped is at the operator still.
// Only the first registration after that can tell: once one more answer may have
// been lost, it may be an intent with another id.
func (e *Engine) queued(rec *delegate.Record, id string) change {
	return change{Prev: rec, Event: delegate.Accepted, Mutate: func(r *delegate.Record) {
		r.IntentID = id
		r.NextAttempt = after(e.cfg.Now(), time.Minute)
	}}
}

// What a delegate's last error says while the operator answers "duplicated input":
// as it may for a few sessions after an answer was lost, and for longer than that.
const (
	duplicated = "DUPLICATED_INPUT"
	elsewhere  = "INTENT_HELD_ELSEWHERE"
)

// clockSkew is how far two clocks may be apart before one of them is wrong.
const clockSkew = 2 * time.Minute

// past says whether the intent's own expire_at has passed on every clock.
func past(rec *delegate.Record, now time.Time) bool {
	return rec.ExpireAt > 0 && time.Unix(rec.ExpireAt, 0).Add(clockSkew).Before(now)
}

// codeOf names a class as the record keeps it.
func codeOf(class operator.Class) string {
	switch class {
	case operator.NotYet:
		return "OPERATOR_NOT_YET"
	case operator.FeeTooLow:
		return "OPERATOR_FEE_TOO_LOW"
	case operator.Outdated:
		return "OPERATOR_OUTDATED"
	case operator.Spent, operator.Unrolled:
		return "OPERATOR_SAYS_SPENT"
	}
	return "OPERATOR_REJECTED"
}

// coins are VTXOs as the indexer reported them just now.
type coins map[wire.OutPoint]ark.VTXO

// read asks the indexer for the inputs of recs, and for the leaves that those
// which had a batch expect.
func (e *Engine) read(ctx context.Context, recs []*delegate.Record) (coins, error) {
	var outpoints []wire.OutPoint
	for _, rec := range recs {
		outpoints = append(outpoints, rec.Outpoints()...)
		outpoints = append(outpoints, rec.Leaves...)
	}
	vtxos, err := e.op.VTXOs(ctx, outpoints)
	if err != nil {
		return nil, fmt.Errorf("read inputs: %w", err)
	}
	found := make(coins, len(vtxos))
	for _, v := range vtxos {
		found[v.Outpoint] = v
	}
	return found, nil
}

// verdict ends a delegate whose inputs are gone, or takes it to the commitment
// of an earlier attempt that appeared after all. That its intent's own time has
// passed ends it only once the operator says so too, when it is registered: a clock
// that runs ahead must not, nor may a batch be lost sight of over it.
func (e *Engine) verdict(ctx context.Context, rec *delegate.Record, found coins) (c change, ended bool) {
	var gone []ledger.Gone
	event := delegate.Event(0)
	for _, in := range rec.Inputs {
		v, ok := found[in.Outpoint]
		if !ok {
			continue
		}
		// First of all: anybody may unroll a coin that our own commitment settled.
		if late, ok := watched(rec, v.SettledBy); ok && v.Spent {
			if !e.believable(ctx, late) {
				return e.backOff(rec, "COMMITMENT_LOST", "the operator says that its commitment "+late.String()+" settled the coins, and the chain does not have it",
					e.cfg.Pace.retry(rec, e.cfg.Now(), random())), true
			}
			return change{Prev: rec, Event: delegate.Late, Mutate: func(r *delegate.Record) {
				r.Commitment = late
				r.NextAttempt = e.cfg.Now().Unix()
			}}, true
		}
		switch {
		case v.Unrolled:
			gone = append(gone, ledger.Gone{Outpoint: in.Outpoint, Unrolled: true})
			if event == 0 {
				event = delegate.InputUnrolled
			}
		case v.Spent:
			by := v.SettledBy
			if by == "" {
				by = v.ArkTxid
			}
			gone = append(gone, ledger.Gone{Outpoint: in.Outpoint, By: by})
			event = delegate.InputSpent
		}
	}
	if event == delegate.InputSpent {
		if c, ours := e.unseen(ctx, rec, found); ours {
			return c, true
		}
	}
	if event != 0 {
		return change{Prev: rec, Event: event, Gone: gone}, true
	}
	return change{}, false
}

// unseen takes up a batch that the operator called failed, or that went on without
// us, and that renewed coins which needed no forfeit any more: its commitment is on
// no watch list, as nothing of ours left for it. All inputs are settled by it, and
// it made what the intent asks for. It is watched from now on, so that the next
// look finds it.
func (e *Engine) unseen(ctx context.Context, rec *delegate.Record, found coins) (c change, ours bool) {
	now := e.cfg.Now()
	txid, all, _ := settledBy(rec, found)
	if !all || rec.RegisteredAt == 0 || rec.NeedsForfeits(now.Unix()) {
		return change{}, false
	}
	commitment, err := ark.ParseTxid(txid)
	if err != nil {
		return change{}, false
	}
	bare := rec.Clone()
	bare.Leaves = nil
	leaves, err := e.leaves(ctx, bare, commitment, found)
	switch {
	case err != nil:
		return e.backOff(rec, "OPERATOR_UNAVAILABLE", err.Error(), e.cfg.Pace.retry(rec, now, random())), true
	case leaves == nil:
		return change{}, false
	}
	return change{Prev: rec, Event: delegate.Note, Mutate: func(r *delegate.Record) {
		r.AddWatched(delegate.Watched{Commitment: commitment, Since: now.Unix(), Branch: r.ID})
		r.Leaves = nil
		for _, l := range leaves {
			r.Leaves = append(r.Leaves, l.Outpoint)
		}
		r.Fail("BATCH_UNSEEN", "a batch that was taken for failed renewed the coins: "+txid, now.Unix())
		r.NextAttempt = now.Unix()
	}}, true
}

// believable says whether a commitment that the operator calls settled is in
// chain or mempool, where the chain can be asked. A chain that does not answer
// proves nothing.
func (e *Engine) believable(ctx context.Context, txid chainhash.Hash) bool {
	if e.chain == nil {
		return true
	}
	n, err := e.chain.Confirmations(ctx, txid)
	return err != nil || n >= 0
}

// putOff backs all of recs off for the same reason.
func (e *Engine) putOff(ctx context.Context, recs []*delegate.Record, code string, err error) {
	now := e.cfg.Now()
	changes := make([]change, len(recs))
	for i, rec := range recs {
		changes[i] = e.backOff(rec, code, err.Error(), e.cfg.Pace.retry(rec, now, random()))
	}
	outs := e.apply(ctx, changes)
	e.post(ctx, func() {
		for i, out := range outs {
			e.written(ctx, recs[i], out)
		}
	})
}

// rescue backs off delegates whose worker panicked.
func (e *Engine) rescue(ctx context.Context, recs []*delegate.Record) func() {
	return func() {
		for _, rec := range recs {
			if rec.State == delegate.Registering {
				e.lost.set(rec.ID, true)
			}
		}
		e.putOff(ctx, recs, "INTERNAL_ERROR", errPanic)
	}
}

// backOff leaves the state and moves the next attempt.
func (e *Engine) backOff(rec *delegate.Record, code, text string, wait time.Duration) change {
	now := e.cfg.Now()
	return change{Prev: rec, Event: delegate.Note, Mutate: func(r *delegate.Record) {
		r.Attempts++
		r.Fail(code, text, now.Unix())
		r.NextAttempt = after(now, wait)
	}}
}

// unopened says what follows when a session could not be opened.
func (e *Engine) unopened(rec *delegate.Record, err error) change {
	code := ""
	switch {
	case errors.Is(err, delegate.ErrDamaged):
		code = "RECORD_DAMAGED"
	case errors.Is(err, delegate.ErrSecretWrong):
		code = "SECRET_WRONG"
	case errors.Is(err, delegate.ErrSecretMissing):
		code = "SECRET_MISSING"
	}
	if code != "" {
		e.cfg.Log.Error("a delegate is quarantined", "delegate", rec.ID, "code", code, "err", err)
		now := e.cfg.Now()
		return change{Prev: rec, Event: delegate.Quarantine, Mutate: func(r *delegate.Record) { r.Fail(code, err.Error(), now.Unix()) }}
	}
	return e.backOff(rec, "SECRET_STORE_UNAVAILABLE", err.Error(), e.cfg.Pace.retry(rec, e.cfg.Now(), random()))
}
