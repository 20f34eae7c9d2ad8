package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// Engine carries due delegates through one operator's batches. Run may be
// called once.
type Engine struct {
	cfg      Config
	op       Operator
	stream   Stream
	ledger   Ledger
	sessions Sessions
	chain    Chain // nil: the operator's word
	observer Observer

	wake        chan struct{}
	withdrawals chan vigil.DelegateID // to be taken back at the operator
	lost        lost                  // whose answers may have been lost
	posts       chan func()           // results of workers, run by the loop
	clock       *wall                 // cfg.Now's
	work        sync.WaitGroup        // every worker
	mixed       atomic.Uint64         // batches that listed sound and isolated delegates of ours

	// What follows belongs to the loop alone.
	flights   *flights
	parties   map[string]*party // by batch id
	latest    batch.Started     // the batch that was announced last
	announced time.Time         // when that was
	session   time.Duration     // the operator's, as last heard
	fullest   int               // most intents that a batch has listed
	up        bool              // the stream is open
	taking    bool
	trying    bool // one worker at a time repeats registrations
	looking   bool // one worker at a time reconciles
	watching  bool // one worker at a time looks for commitments of failed attempts
	watchFrom ledger.Cursor
	nextWatch time.Time
	stopped   bool
	nextDue   time.Time
}

// New makes an engine. chain and observer may be nil.
func New(cfg Config, op Operator, stream Stream, led Ledger, sessions Sessions, chain Chain, observer Observer) *Engine {
	if observer == nil {
		observer = silent{}
	}
	cfg = cfg.withDefaults()
	clock := &wall{now: cfg.Now}
	cfg.Now = clock.Now
	return &Engine{
		cfg: cfg, clock: clock, op: op, stream: stream, ledger: led, sessions: sessions, chain: chain, observer: observer,
		wake: make(chan struct{}, 1), withdrawals: make(chan vigil.DelegateID, 256), posts: make(chan func(), 64),
		flights: newFlights(), parties: map[string]*party{},
	}
}

// Wake makes the engine look at the due index soon: after an intake, whose
// delegate may be due before the one the engine waits for.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// errStreamEnded says that the stream's channel was closed under the engine.
var errStreamEnded = errors.New("renewal: the event stream was closed")

// Run works until ctx ends, then lets joined batches finish within the grace
// period, and returns when every worker has ended. Its error is a store that
// could not be read at the start, or the stream's end.
func (e *Engine) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer e.work.Wait()
	defer cancel()
	if err := e.load(work); err != nil {
		return err
	}
	e.spawn(func() { e.learn(work) }, nil)
	timer := time.NewTimer(0)
	defer timer.Stop()
	stopping := ctx.Done()
	var grace <-chan time.Time
	for {
		if e.stopped && len(e.parties) == 0 {
			return nil
		}
		select {
		case <-stopping:
			stopping, e.stopped = nil, true
			grace = time.After(e.cfg.Grace)
		case <-grace:
			return nil // what is joined is cut off, and recovered at the next start
		case ev, ok := <-e.stream.C():
			if !ok {
				return errStreamEnded
			}
			if e.event(work, ev) {
				timer.Reset(e.plan(work))
			}
		case f := <-e.posts:
			f()
			timer.Reset(e.plan(work))
		case <-e.wake:
			e.nextDue = time.Time{}
			timer.Reset(e.plan(work))
		case id := <-e.withdrawals:
			e.withdraw(work, id)
		case <-timer.C:
			timer.Reset(e.plan(work))
		}
	}
}

// learn asks for the session's length until it is told: by it the engine knows
// that intents were forgotten which it registered before it was started.
func (e *Engine) learn(ctx context.Context) {
	for {
		if params, err := e.op.Params(ctx); err == nil {
			e.post(ctx, func() { e.session = time.Duration(params.SessionSeconds) * time.Second })
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// load takes up what the last process left in flight.
func (e *Engine) load(ctx context.Context) error {
	found, err := e.ledger.InFlight(ctx)
	if err != nil {
		return fmt.Errorf("load delegates in flight: %w", err)
	}
	var recs []*delegate.Record
	var changes []change
	for _, f := range found {
		if f.Err != nil {
			if err := e.quarantine(ctx, ledger.Due{ID: f.ID}, f.Err); err != nil {
				e.cfg.Log.Error("an unreadable record could not be quarantined", "delegate", f.ID, "err", err)
			}
			continue
		}
		recs = append(recs, f.Record)
		changes = append(changes, change{Prev: f.Record, Event: delegate.Recover})
	}
	for i, out := range e.apply(ctx, changes) {
		rec := recs[i]
		if out.Err == nil {
			rec = out.Record
		}
		f := e.track(rec)
		if e.awaited(ctx, rec) {
			e.Withdraw(rec.ID)
		}
		switch rec.State {
		case delegate.Registering, delegate.Unconfirmed:
			e.lost.set(rec.ID, rec.State == delegate.Registering)
			e.flights.wait(f, e.cfg.Now())
		case delegate.Joining, delegate.Submitted:
			// The batch goes on without us until its session ends.
			e.flights.wait(f, e.sessionEnd(rec, e.cfg.Now()))
		}
	}
	if len(recs) > 0 {
		e.cfg.Log.Info("took up delegates in flight", "count", len(recs))
	}
	return nil
}

// track puts a record among the flights, or updates it there, to be looked at
// again at its next attempt.
func (e *Engine) track(rec *delegate.Record) *flight {
	known := e.flights.byID[rec.ID] != nil
	f, moved := e.flights.put(rec)
	switch {
	case moved:
		f.missed, f.since = 0, e.cfg.Now()
	case known && f.busy() && rec.State == delegate.Registered:
		e.passed(f)
	}
	next := e.near(time.Unix(rec.NextAttempt, 0), e.cfg.Now())
	if rec.State == delegate.Registered && e.session > 0 {
		next = earlier(next, e.cfg.Now().Add(e.session))
	}
	if rec.State == delegate.Registering && (rec.LastError.Code == duplicated || rec.LastError.Code == elsewhere) {
		// The window after a pop is shorter than the records' seconds.
		next = earlier(next, e.cfg.Now().Add(e.cfg.Pace.Duplicate))
	}
	e.flights.wait(f, next)
	return f
}

// passed notes that a batch listed an intent and went on without it: by the end
// of this session the operator has queued it again, behind all others.
func (e *Engine) passed(f *flight) {
	f.missed, f.since = 0, e.cfg.Now().Add(e.session)
}

// update tells the loop what a worker made of a record: whether it is still in
// flight, and when to look at it again.
func (e *Engine) update(rec *delegate.Record) {
	if rec.State.InFlight() {
		e.track(rec)
		return
	}
	e.flights.drop(rec.ID)
	e.nextDue = time.Time{} // it may be due again soon
}

// post runs f in the loop. It gives up when the engine has ended.
func (e *Engine) post(ctx context.Context, f func()) {
	select {
	case e.posts <- f:
	case <-ctx.Done():
	}
}

// spawn runs f as a worker. One that panics harms no other: rescue, unless it is
// nil, gives back to the loop what the worker had.
func (e *Engine) spawn(f, rescue func()) {
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		if e.guard(f) != nil && rescue != nil {
			_ = e.guard(rescue) // logged there
		}
	}()
}

// idle is the longest that the loop sleeps without looking at anything.
const idle = time.Minute

// plan starts what is due and returns the time until there is more.
func (e *Engine) plan(ctx context.Context) time.Duration {
	now := e.cfg.Now()
	next := now.Add(idle)
	if e.stopped {
		return idle
	}
	if e.clock.setBack() {
		e.rightClock(now)
	}
	soonest := func(at time.Time) {
		if !at.IsZero() {
			next = earlier(next, at)
		}
	}
	// What is left over while a worker is at it waits for the worker's last word,
	// which plans anew.
	if !e.trying {
		due, at := e.flights.registering.ripe(now, chunk)
		if e.trying = len(due) > 0; e.trying {
			list := records(due)
			e.spawn(func() { e.register(ctx, list, func() { e.trying = false }) }, e.rescue(ctx, list))
		} else {
			soonest(at)
		}
	}
	if !e.looking {
		due, at := e.flights.watched.ripe(now, chunk)
		if e.looking = len(due) > 0; e.looking {
			list := records(due)
			e.spawn(func() { e.reconcile(ctx, list, func() { e.looking = false }) }, e.rescue(ctx, list))
		} else {
			soonest(at)
		}
	}
	if !e.watching && e.cfg.Pace.Watch > 0 {
		if e.watching = !e.nextWatch.After(now); e.watching {
			from := e.watchFrom
			e.spawn(func() { e.watch(ctx, from) }, func() { e.post(ctx, func() { e.lookAgain(nil) }) })
		} else {
			soonest(e.nextWatch)
		}
	}
	due, at := e.flights.registered.ripe(now, len(e.flights.byID))
	soonest(at)
	var dropped []*flight
	for _, f := range due {
		if f.missed >= misses || now.Sub(f.since) > e.patience() || e.silent(f, now) {
			dropped = append(dropped, f)
			continue
		}
		again := now.Add(max(e.session, time.Second))
		e.flights.wait(f, again)
		soonest(again)
	}
	if len(dropped) > 0 {
		list := records(dropped)
		e.spawn(func() { e.dropped(ctx, list) }, e.rescue(ctx, list))
	}
	if room := e.cfg.Window - e.flights.claimed(); room > 0 && !e.taking {
		if !e.nextDue.After(now) {
			e.taking = true
			e.spawn(func() { e.take(ctx, min(room, chunk)) }, func() {
				e.post(ctx, func() { e.taking, e.nextDue = false, e.cfg.Now().Add(time.Second) })
			})
		} else {
			soonest(e.nextDue)
		}
	}
	return max(next.Sub(now), time.Millisecond)
}

// records are what the flights carry; workers do not touch the flights.
func records(list []*flight) []*delegate.Record {
	out := make([]*delegate.Record, len(list))
	for i, f := range list {
		out[i] = f.rec
	}
	return out
}

// chunk is the most delegates that one worker carries: their inputs are read
// in one call, and one store write serves all.
const chunk = 128

// silent says whether the operator has announced no batch for so long since the
// intent was registered that it cannot have it: with an intent queued, a batch
// begins in every session.
func (e *Engine) silent(f *flight, now time.Time) bool {
	since := f.since
	if e.announced.After(since) {
		since = e.announced
	}
	return e.up && e.session > 0 && now.Sub(since) > misses*e.session+e.cfg.Pace.Margin
}

// misses is how many batches with room may pass over a registered intent before
// it counts as dropped by the operator.
const misses = 3

// dropped sends intents that the operator forgot back to be registered again.
func (e *Engine) dropped(ctx context.Context, recs []*delegate.Record) {
	now := e.cfg.Now()
	for _, rec := range recs {
		e.write(ctx, change{Prev: rec, Event: delegate.Dropped, Mutate: func(r *delegate.Record) {
			r.Fail("INTENT_DROPPED", "no batch listed the intent", now.Unix())
			r.NextAttempt = now.Unix()
		}})
	}
}

// patience is the time after which a queued intent that no batch listed is
// registered again, however full the batches were: whether one has room is only a
// guess. Registering again is harmless: while the old copy is queued, the answer
// says so.
func (e *Engine) patience() time.Duration {
	const longest = 30 * time.Minute
	if e.session <= 0 {
		return longest
	}
	return min(longest, 10*e.session+e.cfg.Pace.Margin)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// event handles one message of the stream, and says whether it changed what is
// to be looked at when.
func (e *Engine) event(ctx context.Context, ev operator.Event) (replan bool) {
	switch ev := ev.(type) {
	case operator.StreamUp:
		e.up = true
		e.observer.StreamUp(true)
		for _, f := range slices.Clone(e.flights.watched) {
			// What happened meanwhile is unknown: look as soon as the session is over.
			if s := f.rec.State; s == delegate.Joining || s == delegate.Submitted {
				e.flights.wait(f, earlier(f.next, e.sessionEnd(f.rec, e.cfg.Now())))
			}
		}
		return true
	case operator.StreamDown:
		e.up = false
		e.observer.StreamUp(false)
		for _, p := range e.parties {
			p.leave(fmt.Errorf("the event stream was cut: %w", ev.Err))
		}
	case operator.Malformed:
		for id, p := range e.parties {
			if ev.BatchID == "" || ev.BatchID == id {
				e.observer.Violation("event-malformed")
				p.leave(fmt.Errorf("the operator sent what does not decode: %w", ev.Err))
			}
		}
	case batch.Started:
		return e.started(ctx, ev)
	case batch.Event:
		for _, p := range e.parties {
			p.deliver(ev)
		}
	}
	return false
}

// started looks for our intents in an announced batch.
func (e *Engine) started(ctx context.Context, ev batch.Started) (replan bool) {
	if ev.BatchID == e.latest.BatchID {
		return false // announced twice
	}
	now := e.cfg.Now()
	e.latest, e.announced = ev, now
	listed := map[vigil.DelegateID]bool{}
	youngest := time.Time{}
	for _, h := range ev.IntentHashes {
		if id, ok := e.flights.hashes[h]; ok {
			listed[id] = true
			if at := e.flights.byID[id].since; at.After(youngest) && !at.After(now) {
				youngest = at
			}
		}
	}
	full := len(ev.IntentHashes) >= e.fullest && len(ev.IntentHashes) > 1
	e.fullest = max(e.fullest, len(ev.IntentHashes))
	var ours, missing []*flight
	for _, f := range e.flights.registered {
		switch {
		case listed[f.rec.ID]:
			f.missed = 0
			ours = append(ours, f)
		case !full || f.since.Before(youngest):
			if f.missed++; f.missed >= misses {
				missing = append(missing, f)
			}
		}
	}
	for _, f := range missing {
		e.flights.wait(f, now)
	}
	e.join(ctx, ev, ours...)
	return len(missing) > 0
}

// late is how long a batch waits for intent ids that are being written down.
// It is short beside the second or more that the operator gives to confirm.
const late = 250 * time.Millisecond

// join starts the part that ours play in a batch, or adds them to it while it
// has not begun. It begins at once when every intent that the batch lists is
// known; while some are not and ours are being registered, theirs may be among
// those, and a batch that does not wait for them would have to do without.
func (e *Engine) join(ctx context.Context, ev batch.Started, ours ...*flight) {
	if e.stopped || !e.up || len(ours) == 0 {
		return
	}
	p := e.parties[ev.BatchID]
	if p != nil && p.begun {
		for _, f := range ours {
			e.passed(f) // who confirms is settled
		}
		return
	}
	if p == nil {
		p = newParty(e, ev)
		e.parties[ev.BatchID] = p
		if !e.complete(p) {
			e.spawn(func() {
				select {
				case <-time.After(late):
					e.post(ctx, func() { e.begin(ctx, p) })
				case <-ctx.Done():
				}
			}, nil)
		}
	}
	for _, f := range ours {
		e.flights.hold(f)
		p.recs[f.rec.ID] = f.rec
	}
	if e.complete(p) {
		e.begin(ctx, p)
	}
}

// complete says whether no more of ours can turn out to be in p's batch.
func (e *Engine) complete(p *party) bool {
	for _, h := range p.started.IntentHashes {
		if _, ok := e.flights.hashes[h]; !ok {
			return !e.flights.underway()
		}
	}
	return true
}

// begin starts a party, once. One that the stream's end overtook while it waited
// gives back what it had.
func (e *Engine) begin(ctx context.Context, p *party) {
	if p.begun {
		return
	}
	p.begun = true
	select {
	case <-p.left:
		delete(e.parties, p.started.BatchID)
		for _, rec := range p.list() {
			e.update(rec)
		}
	default:
		list := p.list()
		e.spawn(func() { p.run(ctx) }, func() {
			for _, rec := range list {
				e.reload(ctx, rec.ID) // what was written says when to look again
			}
		})
	}
}

// silent observes nothing.
type silent struct{}

func (silent) Renewal(string)       {}
func (silent) StreamUp(bool)        {}
func (silent) Batch(time.Time, int) {}
func (silent) Violation(string)     {}
