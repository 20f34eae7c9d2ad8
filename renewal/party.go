package renewal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
)

// party is the part that our delegates play in one batch. Until it has begun it
// is the loop's; then it lives in one goroutine, and deliver and leave are
// called by the loop.
type party struct {
	e       *Engine
	started batch.Started
	begun   bool
	recs    map[vigil.DelegateID]*delegate.Record // that take part, as last written
	events  chan batch.Event
	left    chan struct{} // closed by leave
	reason  error         // why, set before left is closed
	session Session
	params  ark.Params // that it was confirmed under
	topics  []string   // that the stream carries for it
	nonces  bool       // ours were asked for: the tree is there
	waiting atomic.Int64
}

// queued and queuedBytes bound the events that wait while a step is being
// carried out: twice what a batch of 1,024 participants sends.
const (
	queued      = 16 << 10
	queuedBytes = 64 << 20
)

func newParty(e *Engine, started batch.Started) *party {
	return &party{
		e: e, started: started, recs: map[vigil.DelegateID]*delegate.Record{},
		events: make(chan batch.Event, queued), left: make(chan struct{}), session: noSession{},
	}
}

// deliver hands an event over without ever blocking the loop.
func (p *party) deliver(ev batch.Event) {
	if p.waiting.Add(weight(ev)) <= queuedBytes {
		select {
		case p.events <- ev:
			return
		default:
		}
	}
	p.waiting.Add(-weight(ev))
	p.leave(errors.New("more events than a batch can have"))
}

// weight is about what an event takes in memory, in bytes.
func weight(ev batch.Event) int64 {
	n := 0
	switch ev := ev.(type) {
	case batch.TreeTx:
		n = len(ev.PSBT) + 80*len(ev.Children)
		for _, t := range ev.Topics {
			n += len(t) + 16
		}
	case batch.TreeSigningStarted:
		n = len(ev.Commitment) + 82*len(ev.Cosigners)
	case batch.TreeNonces:
		n = 100 * len(ev.Nonces)
	case batch.TreeNoncesAggregated:
		n = 100 * len(ev.Nonces)
	case batch.Finalization:
		n = len(ev.Commitment)
	}
	return int64(n) + 200
}

// leave makes the party stop signing, wipe its nonces and wait for the batch's
// end by asking the indexer.
func (p *party) leave(reason error) {
	select {
	case <-p.left:
	default:
		p.reason = reason
		close(p.left)
	}
}

// run takes part from the confirmations to the end of the batch.
func (p *party) run(ctx context.Context) {
	e := p.e
	defer func() {
		e.stream.Remove(p.topics...)
		e.post(ctx, func() {
			delete(e.parties, p.started.BatchID)
			if e.latest.BatchID == p.started.BatchID {
				e.latest.IntentHashes = nil // it can be joined no more
			}
		})
	}()
	defer func() { p.session.Close() }()
	deadline, err := p.confirm(ctx)
	if err != nil {
		e.cfg.Log.Warn("a batch was not joined", "batch", p.started.BatchID, "err", err)
	}
	if len(p.recs) == 0 {
		return
	}
	e.observer.Batch(e.cfg.Now(), len(p.recs))
	limit := time.NewTimer(deadline.Sub(e.cfg.Now()))
	defer limit.Stop()
	outcome := p.follow(ctx, limit.C)
	p.session.Close() // nonces die before anything is written about the end
	p.finish(ctx, outcome)
}

// confirm decides who joins, writes it down, opens their sessions and confirms.
// What it leaves in p.recs has been confirmed.
func (p *party) confirm(ctx context.Context) (deadline time.Time, err error) {
	e := p.e
	mine := p.list()
	params, err := e.op.Params(ctx)
	if err == nil {
		deadline = e.cfg.Now().Add(time.Duration(params.SessionSeconds)*time.Second + e.cfg.Pace.Margin)
	}
	var found coins
	if err == nil {
		found, err = e.read(ctx, mine)
	}
	if err != nil {
		p.drop(ctx, mine...)
		return deadline, fmt.Errorf("prepare: %w", err)
	}
	p.params = params
	// What is written of those that stay out waits until the others are confirmed.
	var out []change
	defer func() { p.stayOut(ctx, out) }()
	var join []change
	var topics []string
	for _, rec := range p.willing(ctx, mine, found, &out) {
		join = append(join, change{Prev: rec, Event: delegate.Join, Mutate: func(r *delegate.Record) {
			r.BatchID, r.BatchEnd = p.started.BatchID, deadline.Unix()
			r.NextAttempt = deadline.Unix()
			r.Commitment = [32]byte{}
		}})
		topics = append(topics, batch.Topics([]batch.Task{task(rec)})...)
	}
	if len(join) == 0 {
		return deadline, nil
	}
	// An Add waits for a stream that is up; a batch does not.
	within, cancel := context.WithTimeout(ctx, deadline.Sub(e.cfg.Now()))
	defer cancel()
	if err := e.stream.Add(within, topics...); err != nil {
		for _, c := range join {
			p.drop(ctx, c.Prev)
		}
		return deadline, fmt.Errorf("add topics: %w", err)
	}
	p.topics = topics
	select {
	case <-p.left: // events are lost already: to confirm now would cost a conviction
		for _, c := range join {
			p.drop(ctx, c.Prev)
		}
		return deadline, p.reason
	default:
	}
	for i, out := range e.apply(ctx, join) {
		id := join[i].Prev.ID
		if out.Err != nil || out.Record.State != delegate.Joining {
			delete(p.recs, id)
			prev := join[i].Prev
			e.post(ctx, func() { e.written(ctx, prev, out) })
			continue
		}
		p.recs[id] = out.Record
	}
	var failed map[vigil.DelegateID]error
	p.session, failed = e.sessions.Open(ctx, p.list())
	for id, err := range failed {
		rec := p.recs[id]
		delete(p.recs, id)
		if c := e.unopened(rec, err); c.Event == delegate.Quarantine {
			e.write(ctx, c)
		} else {
			e.write(ctx, change{Prev: rec, Event: delegate.Requeued, Mutate: c.Mutate})
		}
	}
	return deadline, p.send(ctx)
}

// send confirms the registrations. One that the operator did not take is
// queued again, and its delegate waits for another batch.
func (p *party) send(ctx context.Context) error {
	e := p.e
	recs := p.list()
	errs := make([]error, len(recs))
	var calls errgroup.Group
	calls.SetLimit(e.cfg.Calls)
	for i, rec := range recs {
		calls.Go(func() error {
			errs[i] = e.op.ConfirmRegistration(ctx, rec.IntentID)
			return nil
		})
	}
	_ = calls.Wait() // errs holds every error
	for i, err := range errs {
		if err == nil {
			continue
		}
		switch operator.ClassOf(err) {
		case operator.NextBatch, operator.NotFound, operator.Rejected:
			// It surely did not count.
			delete(p.recs, recs[i].ID)
			e.write(ctx, change{Prev: recs[i], Event: delegate.Requeued, Mutate: func(r *delegate.Record) {
				r.BatchID = ""
				r.NextAttempt = after(e.cfg.Now(), time.Minute)
			}})
		default:
			// It may have counted: then the operator waits for our nonces, and
			// playing on costs nothing if it does not.
			e.cfg.Log.Warn("a confirmation was not answered", "delegate", recs[i].ID, "err", err)
		}
	}
	return nil
}

// list returns the records that take part, in a fixed order.
func (p *party) list() []*delegate.Record {
	out := make([]*delegate.Record, 0, len(p.recs))
	for _, rec := range p.recs {
		out = append(out, rec)
	}
	slices.SortFunc(out, func(a, b *delegate.Record) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

// drop leaves records out of this batch; they stay registered.
func (p *party) drop(ctx context.Context, recs ...*delegate.Record) {
	for _, rec := range recs {
		delete(p.recs, rec.ID)
	}
	p.e.post(ctx, func() {
		for _, rec := range recs {
			p.e.update(rec)
		}
	})
}

// ended is how a batch went for us.
type ended struct {
	failed    bool     // the operator said so
	left      error    // we stopped taking part, and why
	spoilers  []string // ids of the delegates at fault, if it was one of ours
	violation *batch.Violation
}

// follow feeds the batch's events to its view and carries out the steps.
func (p *party) follow(ctx context.Context, limit <-chan time.Time) ended {
	tasks := make([]batch.Task, 0, len(p.recs))
	for _, rec := range p.list() {
		tasks = append(tasks, task(rec))
	}
	cfg := batch.Config{ForfeitKey: p.params.ForfeitKey.XOnly(), Dust: p.params.Dust}
	view, err := batch.New(cfg, p.started, tasks)
	if err != nil {
		return ended{left: err}
	}
	var result ended
	for {
		select {
		case <-p.left:
			return ended{left: p.reason}
		case <-ctx.Done():
			return ended{left: context.Cause(ctx)}
		case <-limit:
			return ended{left: errors.New("the session's time is over")}
		case ev := <-p.events:
			p.waiting.Add(-weight(ev))
			step, err := view.Handle(ev)
			over, err := p.carry(ctx, view, step, err, &result)
			if _, ok := ev.(batch.Finalized); ok {
				result.failed = false // it went on without us: the indexer knows for whom
			}
			var lie *batch.Violation
			switch {
			case errors.As(err, &lie):
				p.e.observer.Violation(lie.Rule)
				p.e.cfg.Log.Error("the operator broke the protocol; nothing more is signed in this batch",
					"batch", p.started.BatchID, "rule", lie.Rule, "err", lie.Err)
				result.violation, result.spoilers = lie, lie.Tasks
				p.session.Close()
			case err != nil:
				result.left = err
				return result
			}
			if over {
				return result
			}
		}
	}
}

// carry carries out steps until the operator's next event is awaited.
func (p *party) carry(ctx context.Context, view *batch.Batch, step batch.Step, err error, result *ended) (over bool, _ error) {
	for err == nil {
		switch s := step.(type) {
		case batch.StepNone:
			return false, nil
		case batch.StepNonces:
			p.nonces = true
			nonces, failed := p.session.Nonces(s.Nodes)
			if failed != nil {
				return true, failed
			}
			// The view must know our nonces before the operator can echo them.
			if step, err = view.NoncesMade(nonces); err != nil {
				continue
			}
			for key, list := range nonces {
				if failed := p.e.op.SubmitTreeNonces(ctx, p.started.BatchID, key, list); failed != nil {
					return true, fmt.Errorf("submit nonces: %w", failed)
				}
			}
			continue
		case batch.StepSign:
			sigs, failed := p.session.Sign(s.Nodes)
			if failed != nil {
				return true, failed
			}
			for key, list := range sigs {
				if failed := p.e.op.SubmitTreeSignatures(ctx, p.started.BatchID, key, list); failed != nil {
					return true, fmt.Errorf("submit signatures: %w", failed)
				}
			}
		case batch.StepForfeits:
			for _, w := range s.Withheld {
				result.spoilers = append(result.spoilers, w.ID)
			}
			spoilers, failed := p.forfeit(ctx, s)
			result.spoilers = append(result.spoilers, spoilers...)
			if failed != nil {
				return true, failed
			}
		case batch.StepFinalized:
			return true, nil
		case batch.StepFailed:
			result.failed, result.left = true, errors.New(s.Reason)
			return true, nil
		}
		step, err = view.Next()
	}
	return false, err
}

// forfeit stores every branch with the completed forfeits and the new state in
// one write each, and only then hands the forfeits in, all in one call. Spoilers
// are those whose forfeits could not be made.
func (p *party) forfeit(ctx context.Context, s batch.StepForfeits) (spoilers []string, _ error) {
	e := p.e
	now := e.cfg.Now().Unix()
	gifts := make([]given, len(s.Tasks))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range s.Tasks {
		work.Go(func() error {
			if panicked := p.e.guard(func() { gifts[i] = p.give(s, t, now) }); panicked != nil {
				gifts[i] = given{spoiler: t.ID}
			}
			return nil
		})
	}
	_ = work.Wait() // errors are logged there
	var changes []change
	complete := map[vigil.DelegateID][]string{}
	for _, g := range gifts {
		if g.rec == nil {
			if g.spoiler != "" {
				spoilers = append(spoilers, g.spoiler)
			}
			continue
		}
		complete[g.rec.ID] = g.forfeits
		changes = append(changes, change{Prev: g.rec, Event: delegate.Submit, Branch: g.branch, Mutate: func(r *delegate.Record) {
			r.Commitment = s.Txid
			r.Leaves = g.branch.Leaves
		}})
	}
	var forfeits []string
	for i, out := range e.insist(ctx, changes) {
		rec := changes[i].Prev
		if out.Err != nil {
			// Without the write the forfeits must not leave.
			e.cfg.Log.Error("a branch was not stored: its forfeits stay here", "delegate", rec.ID, "err", out.Err)
			continue
		}
		p.recs[rec.ID] = out.Record
		forfeits = append(forfeits, complete[rec.ID]...)
	}
	if len(forfeits) == 0 {
		return spoilers, nil
	}
	if err := e.op.SubmitForfeits(ctx, forfeits, ""); err != nil {
		return spoilers, fmt.Errorf("submit forfeits: %w", err)
	}
	return spoilers, nil
}

// given is what one delegate gives up, and the branch that it gets for it.
type given struct {
	rec      *delegate.Record // nil: nothing
	branch   *delegate.Branch
	forfeits []string
	spoiler  string // the task's id, when nothing can be given for it
}

func (p *party) give(s batch.StepForfeits, t batch.TaskResult, now int64) given {
	rec := p.byTask(t.ID)
	if rec == nil {
		return given{}
	}
	txs, err := p.session.Forfeits(rec.ID, t.Connectors)
	if err != nil {
		p.e.cfg.Log.Error("a delegate's forfeits could not be completed", "delegate", rec.ID, "err", err)
		return given{spoiler: t.ID}
	}
	b, err := branch(rec, s, t, p.started, txs, now)
	if err != nil {
		p.e.cfg.Log.Error("a branch could not be kept", "delegate", rec.ID, "err", err)
		return given{spoiler: t.ID}
	}
	return given{rec: rec, branch: b, forfeits: txs}
}

// byTask finds the record of a task.
func (p *party) byTask(id string) *delegate.Record {
	parsed, err := vigil.ParseDelegateID(id)
	if err != nil {
		return nil
	}
	return p.recs[parsed]
}

// finish writes what became of each delegate.
func (p *party) finish(ctx context.Context, how ended) {
	e := p.e
	now := e.cfg.Now()
	var changes []change
	mine := p.list()
	for _, rec := range mine {
		guilty := slices.Contains(how.spoilers, rec.ID.String())
		// What hits all of ours is no delegate's fault.
		spoiled := guilty && (len(mine) == 1 || len(how.spoilers) < len(mine))
		switch {
		case how.left == nil && how.violation == nil && rec.State == delegate.Submitted:
			changes = append(changes, change{Prev: rec, Event: delegate.Finalized, Mutate: func(r *delegate.Record) {
				r.NextAttempt = now.Unix()
				r.Isolate = false
			}})
		case rec.State == delegate.Joining && how.failed && p.requeued(how):
			changes = append(changes, change{Prev: rec, Event: delegate.Requeued, Mutate: func(r *delegate.Record) {
				r.BatchID, r.BatchEnd = "", 0
				r.NextAttempt = after(now, time.Minute)
			}})
		case rec.State == delegate.Joining && how.failed:
			// The operator convicts who stopped answering in a batch that it confirmed.
			crimes := uint32(0)
			if guilty || how.violation != nil {
				crimes = sharing(rec, mine)
			}
			changes = append(changes, e.failed(rec, how.reason(), crimes, spoiled))
		default:
			// We left, or forfeits are out: what became of the batch is for the
			// indexer to say once the session is over.
			changes = append(changes, change{Prev: rec, Event: delegate.Note, Mutate: func(r *delegate.Record) {
				r.Fail("BATCH_LEFT", how.reason(), now.Unix())
				r.NextAttempt = r.BatchEnd
				if how.failed || how.left == nil {
					r.NextAttempt = now.Unix() // it is over
				}
				r.Isolate = r.Isolate || spoiled
			}})
		}
	}
	outs := e.insist(ctx, changes)
	e.post(ctx, func() {
		for i, out := range outs {
			e.written(ctx, changes[i].Prev, out)
		}
	})
}

// tooFew is how arkd ends a batch that fewer confirmed than it wants
// (protocol section 5.1).
const tooFew = "not enough intent confirmations received"

// requeued says whether the operator queued our intents again with their ids,
// as it does when too few confirmed. Otherwise what a batch took is gone.
// Should it not have done so, the next batches do not list them.
func (p *party) requeued(how ended) bool {
	return !p.nonces && how.violation == nil && strings.Contains(how.reason(), tooFew)
}

func (how ended) reason() string {
	switch {
	case how.violation != nil:
		return "the operator broke the protocol: " + how.violation.Rule
	case how.left != nil:
		return how.left.Error()
	}
	return ""
}

// failed sends a joined delegate back to be attempted again, with the crimes
// that its scripts were convicted of.
func (e *Engine) failed(rec *delegate.Record, text string, crimes uint32, spoiled bool) change {
	now := e.cfg.Now()
	return change{Prev: rec, Event: delegate.BatchFailed, Mutate: func(r *delegate.Record) {
		r.Fail("BATCH_FAILED", text, now.Unix())
		r.Isolate = r.Isolate || spoiled
		r.IntentID = "" // what a batch took does not return to the queue
		if crimes > 0 {
			if now.Sub(time.Unix(r.LastConviction, 0)) >= e.cfg.Pace.Ban {
				r.Convictions = 0
			}
			r.Convictions += crimes
			r.LastConviction = now.Unix()
		}
		r.NextAttempt = after(now, e.cfg.Pace.retry(r, now, random()))
	}}
}

// task is a record as the batch sees it.
func task(rec *delegate.Record) batch.Task {
	t := batch.Task{ID: rec.ID.String(), IntentID: rec.IntentID, Cosigner: rec.TreeKey}
	for _, out := range rec.Outputs {
		t.Outputs = append(t.Outputs, &wire.TxOut{Value: out.Value, PkScript: out.PkScript})
	}
	for _, in := range rec.Inputs {
		t.Inputs = append(t.Inputs, batch.Input{Outpoint: in.Outpoint, Amount: in.Amount, HasForfeit: in.HasForfeit()})
	}
	return t
}

// noSession is what a party without members closes.
type noSession struct{ Session }

func (noSession) Close() {}
