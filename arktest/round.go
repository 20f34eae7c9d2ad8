package arktest

import (
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/uuid"

	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// round is one batch session from registration to its end. The process's mutex
// guards everything that calls can reach.
type round struct {
	id       string
	set      Settings // as they were when the round began
	began    time.Time
	end      time.Time
	minimum  int
	maximum  int
	lies     lieSet
	selected []*intent
	joined   []*intent // confirmed

	confirmed  map[string]bool // by intent hash; nil before the confirmation stage
	numConfirm int
	allIn      signal

	commitment *psbt.Packet
	encoded    string // the unsigned commitment as base64
	txid       chainhash.Hash
	coins      []chain.UTXO
	tree       *txtree.Node
	sweepRoot  []byte
	expiry     tapscript.Delay // of the tree
	puppets    []*keyPair      // cosigners that a lie put in
	sweepLeaf  []byte
	connectors *txtree.Node
	connKey    *keyPair
	connFor    map[wire.OutPoint]wire.OutPoint // connector to VTXO, for topics

	session   *txtree.Session
	cosigners map[string]bool // compressed hex of the clients' keys
	nonces    map[string]txtree.Nonces
	sigs      map[string]txtree.Sigs
	allNonces signal
	allSigs   signal

	toForfeit []VTXO
	forfeits  map[wire.OutPoint]forfeit
	boarding  map[int]signedInput // by commitment input index
	numBoard  int
	allSigned signal

	failed string // reason, once failed
	quiet  bool   // minted: nobody takes part
}

// signal is a channel closed once.
type signal struct{ c chan struct{} }

func newSignal() signal { return signal{make(chan struct{})} }

// fire closes the channel; the caller holds the process's mutex.
func (s signal) fire() {
	select {
	case <-s.c:
	default:
		close(s.c)
	}
}

// wait arms a timer for d, calls begun, and blocks until d has passed (false)
// or ch is closed (true). Whoever learns of the phase from begun may move the
// clock: the timer is there.
func (p *process) wait(d time.Duration, ch <-chan struct{}, begun func()) bool {
	late := make(chan struct{})
	stop := p.op.clock.AfterFunc(d, func() { close(late) })
	defer stop()
	begun()
	select {
	case <-ch:
		return true
	case <-late:
	case <-p.ctx.Done():
	}
	return false
}

// Phases last a share of what remains of the session, at least a second
// (protocol section 5.1).
func (p *process) share(r *round, part int) time.Duration {
	return max(r.end.Sub(p.op.clock.Now())/time.Duration(part), time.Second)
}

// run holds rounds one after another until the process ends.
func (p *process) run() {
	for p.ctx.Err() == nil {
		p.runRound()
	}
}

func (p *process) runRound() {
	r := p.startRound()
	p.wait(p.share(r, 6), nil, func() { p.op.rec.phase(r, PhaseRegistration) })
	if p.ctx.Err() != nil || !p.selectIntents(r) {
		return
	}
	p.confirmStage(r)
	if p.ctx.Err() != nil || r.failed != "" || len(r.joined) == 0 {
		p.finish(r)
		return
	}
	if p.finalizationStage(r) {
		p.finalize(r)
	}
	p.finish(r)
}

func (p *process) startRound() *round {
	set := p.op.Settings()
	now := p.op.clock.Now()
	r := &round{
		id: uuid.NewString(), set: set, began: now,
		minimum: set.MinParticipants, maximum: set.MaxParticipants,
		allIn: newSignal(), allNonces: newSignal(), allSigs: newSignal(), allSigned: newSignal(),
	}
	duration := set.SessionDuration
	if s := set.Scheduled; s != nil {
		start, end := s.next(now)
		if !now.Before(start) && !now.After(end) {
			duration, r.minimum, r.maximum = s.Duration, s.MinParticipants, s.MaxParticipants
		}
	}
	r.end = now.Add(duration)
	p.queue.settle()
	p.op.sweepExpired()
	p.mu.Lock()
	p.round = r
	p.mu.Unlock()
	return r
}

// selectIntents pops intents and announces the batch. When it returns false
// the round is abandoned without a word.
func (p *process) selectIntents(r *round) bool {
	if p.queue.len() < r.minimum {
		return false
	}
	balance := p.op.wallet.balance()
	popped := p.queue.pop(r.maximum)
	kept := popped[:0:0]
	for _, in := range popped {
		spent := slices.ContainsFunc(in.boarding, func(b boardingInput) bool {
			_, is := p.op.chain.Spender(b.outpoint)
			return is
		})
		if !spent {
			kept = append(kept, in)
		}
	}
	if len(kept) < r.minimum {
		p.repush(kept)
		return false
	}
	var total int64
	for _, in := range kept {
		total += in.outAmount()
	}
	if balance <= total { // the quirk: what was popped is gone
		p.op.log.Debug("not enough liquidity, intents vanish", "balance", balance, "wanted", total)
		p.op.rec.vanished(kept)
		return false
	}
	r.lies = p.op.takeLies(kept)
	kept, gone := r.lies.vanish(kept)
	p.op.rec.vanished(gone)
	if len(kept) == 0 {
		return false
	}
	p.mu.Lock()
	r.selected = kept
	r.confirmed = map[string]bool{}
	for _, in := range kept {
		r.confirmed[in.hash()] = false
	}
	p.mu.Unlock()
	p.op.rec.batch(r, kept)
	return true
}

// announce tells everybody that the batch begins.
func (p *process) announce(r *round) {
	hashes := make([]string, 0, len(r.selected))
	for _, in := range r.selected {
		hashes = append(hashes, in.hash())
	}
	p.emit(r, groupStarted, []eventMsg{{event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_BatchStarted{BatchStarted: &arkv1.BatchStartedEvent{
			Id: r.id, IntentIdHashes: hashes, BatchExpiry: r.announcedExpiry(),
		}},
	}}})
}

// repush queues intents again; one whose input was registered meanwhile is
// dropped, as in arkd.
func (p *process) repush(list []*intent) {
	for _, in := range list {
		if err := p.queue.push(in, p.op.clock.Now()); err != nil {
			p.op.log.Debug("failed to re-push intent", "id", in.id, "err", err)
		}
	}
}

// confirmStage waits for confirmations and puts back who did not confirm.
func (p *process) confirmStage(r *round) {
	p.wait(p.share(r, 2), r.allIn.c, func() {
		p.op.rec.phase(r, PhaseConfirmation)
		p.announce(r)
	})
	p.mu.Lock()
	var back []*intent
	for _, in := range r.selected {
		if r.confirmed[in.hash()] {
			r.joined = append(r.joined, in)
		} else {
			back = append(back, in)
		}
	}
	if len(r.joined) < r.minimum {
		back, r.joined = append(back, r.joined...), nil
	}
	p.mu.Unlock()
	p.repush(back)
	if len(r.joined) == 0 {
		p.fail(r, code.Internal.New(nil, "not enough intent confirmations received"))
		return
	}
	p.op.rec.joined(r)
	if err := r.lies.strangers(p, r); err != nil {
		p.fail(r, internalf("%w", err))
	}
	if r.lies.has(lie.CrashAfterConfirm) {
		p.crash()
	}
}

// confirm records one participant's confirmation.
func (p *process) confirm(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.round
	if r == nil || r.confirmed == nil {
		return code.NoConfirmation.New(nil, "confirmation session not started")
	}
	h := (&intent{id: id}).hash()
	done, ok := r.confirmed[h]
	if !ok || r.lies.refused(r, id) {
		return code.Internal.New(code.Meta{"intent_id": id}, "failed to confirm intent: intent hash not found")
	}
	p.op.rec.confirm(id)
	if done {
		return nil
	}
	r.confirmed[h] = true
	if r.numConfirm++; r.numConfirm == len(r.selected) {
		r.allIn.fire()
	}
	return nil
}

// fail ends the round; participants hear the reason on the topics of their
// inputs.
func (p *process) fail(r *round, reason error) {
	p.mu.Lock()
	if r.failed != "" {
		p.mu.Unlock()
		return
	}
	r.failed = reason.Error()
	p.mu.Unlock()
	p.op.log.Debug("round failed", "batch", r.id, "reason", reason)
	_, selected := p.queue.view()
	var topics []string
	for _, in := range selected {
		for _, op := range in.outpoints() {
			topics = append(topics, op.String())
		}
	}
	p.op.rec.failed(r, reason.Error())
	p.emit(r, groupEnd, []eventMsg{{topics: topics, event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_BatchFailed{BatchFailed: &arkv1.BatchFailedEvent{Id: r.id, Reason: reason.Error()}},
	}}})
}

// finish releases what the round held.
func (p *process) finish(r *round) { p.op.wallet.release(r.coins) }
