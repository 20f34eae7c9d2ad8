package renewal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
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

	wake  chan struct{}
	posts chan func()    // results of workers, run by the loop
	work  sync.WaitGroup // every worker

	// What follows belongs to the loop alone.
	flights   map[vigil.DelegateID]*flight
	hashes    map[string]vigil.DelegateID // of the intent ids that we wait to see listed
	parties   map[string]*party           // by batch id
	latest    batch.Started               // the batch that was announced last
	announced time.Time                   // when that was
	session   time.Duration               // the operator's, as last heard
	fullest   int                         // most intents that a batch has listed
	up        bool                        // the stream is open
	taking    bool
	trying    bool // one worker at a time repeats registrations
	looking   bool // one worker at a time reconciles
	stopped   bool
	nextDue   time.Time
}

// flight is a delegate between registration and its end, with the time at
// which the loop looks at it again. Its durable twin is the record.
type flight struct {
	rec    *delegate.Record
	next   time.Time
	busy   bool // a worker has it
	missed int  // batches that should have listed it and did not
	since  time.Time
}

// New makes an engine. chain and observer may be nil.
func New(cfg Config, op Operator, stream Stream, led Ledger, sessions Sessions, chain Chain, observer Observer) *Engine {
	if observer == nil {
		observer = silent{}
	}
	return &Engine{
		cfg: cfg.withDefaults(), op: op, stream: stream, ledger: led, sessions: sessions, chain: chain, observer: observer,
		wake: make(chan struct{}, 1), posts: make(chan func(), 64),
		flights: map[vigil.DelegateID]*flight{}, hashes: map[string]vigil.DelegateID{}, parties: map[string]*party{},
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
		case <-timer.C:
			timer.Reset(e.plan(work))
		}
	}
}

// load takes up what the last process left in flight.
func (e *Engine) load(ctx context.Context) error {
	recs, err := e.ledger.InFlight(ctx)
	if err != nil {
		return fmt.Errorf("load delegates in flight: %w", err)
	}
	changes := make([]change, 0, len(recs))
	for _, rec := range recs {
		changes = append(changes, change{Prev: rec, Event: delegate.Recover})
	}
	for i, out := range e.apply(ctx, changes) {
		rec := recs[i]
		if out.Err == nil {
			rec = out.Record
		}
		f := e.track(rec)
		switch rec.State {
		case delegate.Registering, delegate.Unconfirmed:
			f.next = e.cfg.Now()
		case delegate.Joining, delegate.Submitted:
			// The batch goes on without us until its session ends.
			f.next = time.Unix(rec.BatchEnd, 0).Add(e.cfg.Pace.Margin)
		}
	}
	if len(recs) > 0 {
		e.cfg.Log.Info("took up delegates in flight", "count", len(recs))
	}
	return nil
}

// track puts a record among the flights, or updates it there.
func (e *Engine) track(rec *delegate.Record) *flight {
	f := e.flights[rec.ID]
	if f == nil {
		f = &flight{}
		e.flights[rec.ID] = f
	}
	if f.rec == nil || f.rec.State != rec.State || f.rec.IntentID != rec.IntentID {
		f.missed, f.since = 0, e.cfg.Now()
	}
	f.rec, f.busy = rec, false
	f.next = time.Unix(rec.NextAttempt, 0)
	if rec.State == delegate.Registered && e.session > 0 {
		f.next = earlier(f.next, e.cfg.Now().Add(e.session))
	}
	if rec.State == delegate.Registering {
		// The window after a pop is shorter than the records' seconds.
		f.next = earlier(f.next, e.cfg.Now().Add(e.cfg.Pace.Duplicate))
	}
	if rec.State == delegate.Registered {
		e.hashes[batch.IntentHash(rec.IntentID)] = rec.ID
	}
	return f
}

// update tells the loop what a worker made of a record: whether it is still in
// flight, and when to look at it again.
func (e *Engine) update(rec *delegate.Record) {
	if rec.State.InFlight() {
		e.track(rec)
		return
	}
	if f := e.flights[rec.ID]; f != nil {
		delete(e.flights, rec.ID)
		if f.rec.IntentID != "" {
			delete(e.hashes, batch.IntentHash(f.rec.IntentID))
		}
	}
	e.nextDue = time.Time{} // it may be due again soon
}

// post runs f in the loop. It gives up when the engine has ended.
func (e *Engine) post(ctx context.Context, f func()) {
	select {
	case e.posts <- f:
	case <-ctx.Done():
	}
}

// spawn runs f as a worker.
func (e *Engine) spawn(f func()) {
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		f()
	}()
}

// idle is the longest that the loop sleeps without looking at anything.
const idle = time.Minute

// plan starts what is due and returns the time until there is more.
func (e *Engine) plan(ctx context.Context) time.Duration {
	now := e.cfg.Now()
	next := now.Add(idle)
	var register, look, dropped []*delegate.Record
	registered := 0
	for _, f := range e.flights {
		if f.rec.State != delegate.Unconfirmed {
			registered++
		}
		if f.busy || e.stopped {
			continue
		}
		if f.next.After(now) {
			next = earlier(next, f.next)
			continue
		}
		switch f.rec.State {
		case delegate.Registering:
			if !e.trying && len(register) < chunk {
				register = append(register, f.rec)
				f.busy = true
			}
		case delegate.Registered:
			f.next = now.Add(max(e.session, time.Second))
			next = earlier(next, f.next)
			if f.missed >= misses || now.Sub(f.since) > forgotten || e.silent(f, now) {
				dropped = append(dropped, f.rec)
				f.busy = true
			}
		default:
			if !e.looking && len(look) < chunk {
				look = append(look, f.rec)
				f.busy = true
			}
		}
	}
	if len(register) > 0 {
		e.trying = true
		e.spawn(func() { e.register(ctx, register, func() { e.trying = false }) })
	}
	if len(dropped) > 0 {
		e.spawn(func() { e.dropped(ctx, dropped) })
	}
	if len(look) > 0 {
		e.looking = true
		e.spawn(func() { e.reconcile(ctx, look, func() { e.looking = false }) })
	}
	if room := e.cfg.Window - registered; room > 0 && !e.taking && !e.stopped {
		if !e.nextDue.After(now) {
			e.taking = true
			e.spawn(func() { e.take(ctx, min(room, chunk)) })
		} else {
			next = earlier(next, e.nextDue)
		}
	}
	return max(next.Sub(now), time.Millisecond)
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

// forgotten is the time after which a queued intent that no batch listed is
// registered again, however full the batches were. Registering again is
// harmless: while the old copy is queued, the answer says so.
const forgotten = 30 * time.Minute

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
		for _, f := range e.flights {
			// What happened meanwhile is unknown: look at once.
			if s := f.rec.State; !f.busy && (s == delegate.Joining || s == delegate.Submitted) {
				f.next = earlier(f.next, time.Unix(f.rec.BatchEnd, 0).Add(e.cfg.Pace.Margin))
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
	e.latest, e.announced = ev, e.cfg.Now()
	listed := map[vigil.DelegateID]bool{}
	youngest := time.Time{}
	for _, h := range ev.IntentHashes {
		if id, ok := e.hashes[h]; ok && e.flights[id] != nil {
			listed[id] = true
			if at := e.flights[id].since; at.After(youngest) {
				youngest = at
			}
		}
	}
	full := len(ev.IntentHashes) >= e.fullest && len(ev.IntentHashes) > 1
	e.fullest = max(e.fullest, len(ev.IntentHashes))
	var ours []*delegate.Record
	for id, f := range e.flights {
		if f.rec.State != delegate.Registered || f.busy {
			continue
		}
		if !listed[id] {
			if !full || f.since.Before(youngest) {
				f.missed++
				if f.missed >= misses {
					f.next, replan = e.cfg.Now(), true
				}
			}
			continue
		}
		f.missed = 0
		ours = append(ours, f.rec)
	}
	e.join(ctx, ev, ours)
	return replan
}

// join starts the part that ours play in a batch.
func (e *Engine) join(ctx context.Context, ev batch.Started, ours []*delegate.Record) {
	if e.stopped || !e.up || len(ours) == 0 {
		return
	}
	p := e.parties[ev.BatchID]
	if p != nil {
		return // its part is fixed once it confirms; late ones wait for the next batch
	}
	for _, rec := range ours {
		e.flights[rec.ID].busy = true
	}
	p = newParty(e, ev, ours)
	e.parties[ev.BatchID] = p
	e.spawn(func() { p.run(ctx) })
}

// silent observes nothing.
type silent struct{}

func (silent) Renewal(string)       {}
func (silent) StreamUp(bool)        {}
func (silent) Batch(time.Time, int) {}
func (silent) Violation(string)     {}
