package arktest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
)

// Phase is where a batch stands.
type Phase string

// The phases of a batch (protocol section 5.1).
const (
	PhaseRegistration Phase = "registration"
	PhaseConfirmation Phase = "confirmation"
	PhaseNonces       Phase = "nonces"
	PhaseSignatures   Phase = "signatures"
	PhaseForfeits     Phase = "forfeits"
	PhaseFinalized    Phase = "finalized"
	PhaseFailed       Phase = "failed"
)

// Batch is what happened in one batch that selected intents.
type Batch struct {
	ID          string
	Phase       Phase
	Reason      string   // of a failure
	Commitment  string   // txid, once built
	Broadcast   bool     // the commitment reached the chain
	Intents     []string // ids selected
	Joined      []string // ids that confirmed
	Inputs      []wire.OutPoint
	NeedForfeit []wire.OutPoint
	Nonces      map[string]int           // submissions by cosigner key
	Signatures  map[string]int           // submissions by cosigner key
	Forfeits    map[wire.OutPoint]int    // accepted submissions by input
	Boarding    int                      // boarding inputs signed
	Outputs     []wire.OutPoint          // new VTXOs
	Lies        []lie.Name               // told in this batch
	LastNonces  map[string]txtree.Nonces // the last submission by key
}

// Queued is an intent in the queue.
type Queued struct {
	ID     string
	Inputs []wire.OutPoint
	Proof  string // txid
}

// Stats is a copy of everything that was seen, for assertions.
type Stats struct {
	Phase       Phase // of the running round
	RoundID     string
	Batches     []Batch
	Queue       []Queued
	Registered  int                        // intents accepted so far
	Confirms    map[string]int             // calls by intent id
	Calls       map[string]int             // calls by full method name
	Forfeits    map[wire.OutPoint][]string // every forfeit sent in, by its first unknown input
	Convictions []Conviction
	Vanished    []string // intent ids lost to a liquidity abort
}

// Batch returns the batch of that id.
func (s Stats) Batch(id string) (Batch, bool) {
	i := slices.IndexFunc(s.Batches, func(b Batch) bool { return b.ID == id })
	if i < 0 {
		return Batch{}, false
	}
	return s.Batches[i], true
}

// Finalized lists the batches that were finalized.
func (s Stats) Finalized() (out []Batch) {
	for _, b := range s.Batches {
		if b.Phase == PhaseFinalized {
			out = append(out, b)
		}
	}
	return out
}

// recorder notes what happens and wakes who waits for it.
type recorder struct {
	clock   Clock
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	stats   Stats
	at      map[string]int // batch id to index
}

func newRecorder(clock Clock) *recorder {
	return &recorder{
		clock: clock, changed: make(chan struct{}), at: map[string]int{},
		stats: Stats{Confirms: map[string]int{}, Calls: map[string]int{}, Forfeits: map[wire.OutPoint][]string{}},
	}
}

// note applies f and wakes the waiters.
func (c *recorder) note(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
	close(c.changed)
	c.changed = make(chan struct{})
}

// inBatch applies f to the round's batch, if it has one.
func (c *recorder) inBatch(r *round, f func(*Batch)) {
	c.note(func(s *Stats) {
		if i, ok := c.at[r.id]; ok {
			f(&s.Batches[i])
		}
	})
}

func (c *recorder) phase(r *round, ph Phase) {
	c.note(func(s *Stats) {
		s.Phase, s.RoundID = ph, r.id
		if i, ok := c.at[r.id]; ok {
			s.Batches[i].Phase = ph
		}
	})
}

func (c *recorder) batch(r *round, list []*intent) {
	b := Batch{
		ID: r.id, Phase: PhaseConfirmation, Nonces: map[string]int{}, Signatures: map[string]int{},
		Forfeits: map[wire.OutPoint]int{}, LastNonces: map[string]txtree.Nonces{}, Lies: r.lies.names(),
	}
	for _, in := range list {
		b.Intents = append(b.Intents, in.id)
		b.Inputs = append(b.Inputs, in.outpoints()...)
	}
	c.note(func(s *Stats) {
		c.at[r.id] = len(s.Batches)
		s.Batches = append(s.Batches, b)
	})
}

func (c *recorder) joined(r *round) {
	c.inBatch(r, func(b *Batch) {
		for _, in := range r.joined {
			b.Joined = append(b.Joined, in.id)
		}
	})
}

func (c *recorder) built(r *round) {
	c.inBatch(r, func(b *Batch) {
		b.Commitment = r.txid.String()
		for _, v := range r.toForfeit {
			b.NeedForfeit = append(b.NeedForfeit, v.Outpoint)
		}
	})
}

func (c *recorder) confirm(id string) {
	c.note(func(s *Stats) { s.Confirms[id]++ })
}

func (c *recorder) nonces(r *round, key string, n txtree.Nonces) {
	c.inBatch(r, func(b *Batch) { b.Nonces[key]++; b.LastNonces[key] = n })
}

func (c *recorder) signatures(r *round, key string) {
	c.inBatch(r, func(b *Batch) { b.Signatures[key]++ })
}

func (c *recorder) forfeits(list []string) {
	c.note(func(s *Stats) {
		for _, f := range list {
			if op, ok := forfeitedInput(f); ok {
				s.Forfeits[op] = append(s.Forfeits[op], f)
			}
		}
	})
}

func (c *recorder) forfeitAccepted(r *round, op wire.OutPoint) {
	c.inBatch(r, func(b *Batch) { b.Forfeits[op]++ })
}

func (c *recorder) boarding(r *round, n int) {
	c.inBatch(r, func(b *Batch) { b.Boarding = n })
}

func (c *recorder) failed(r *round, reason string) {
	c.inBatch(r, func(b *Batch) { b.Phase, b.Reason = PhaseFailed, reason })
}

func (c *recorder) broadcast(r *round) {
	c.inBatch(r, func(b *Batch) { b.Broadcast = true })
}

func (c *recorder) finalized(r *round, made []VTXO) {
	c.inBatch(r, func(b *Batch) {
		b.Phase = PhaseFinalized
		for _, v := range made {
			b.Outputs = append(b.Outputs, v.Outpoint)
		}
	})
}

func (c *recorder) convicted(list []Conviction) {
	c.note(func(s *Stats) { s.Convictions = append(s.Convictions, list...) })
}

func (c *recorder) vanished(list []*intent) {
	c.note(func(s *Stats) {
		for _, in := range list {
			s.Vanished = append(s.Vanished, in.id)
		}
	})
}

func (c *recorder) registered() { c.note(func(s *Stats) { s.Registered++ }) }

func (c *recorder) call(method string) { c.note(func(s *Stats) { s.Calls[method]++ }) }

// snapshot copies the statistics.
func (c *recorder) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Batches = slices.Clone(s.Batches)
	for i := range s.Batches {
		b := &s.Batches[i]
		b.Nonces, b.Signatures = maps.Clone(b.Nonces), maps.Clone(b.Signatures)
		b.Forfeits, b.LastNonces = maps.Clone(b.Forfeits), maps.Clone(b.LastNonces)
	}
	s.Confirms, s.Calls, s.Forfeits = maps.Clone(s.Confirms), maps.Clone(s.Calls), maps.Clone(s.Forfeits)
	s.Convictions, s.Vanished = slices.Clone(s.Convictions), slices.Clone(s.Vanished)
	return s
}

// Stats returns a copy of everything seen so far.
func (op *Operator) Stats() Stats {
	s := op.rec.snapshot()
	if p, err := op.process(); err == nil {
		queued, _ := p.queue.view()
		for _, in := range queued {
			s.Queue = append(s.Queue, Queued{ID: in.id, Inputs: in.outpoints(), Proof: in.proofTxid})
		}
	}
	return s
}

// look shows cond the live statistics under the lock, without copying them.
func (c *recorder) look(cond func(Stats) bool) (bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cond(c.stats), c.changed
}

// Await blocks until cond holds for the statistics, looking again at every
// change, or until ctx ends. cond is shown the live maps and slices, with Queue
// left out: it must not keep them.
func (op *Operator) Await(ctx context.Context, cond func(Stats) bool) error {
	for {
		holds, changed := op.rec.look(cond)
		if holds {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// AwaitPhase blocks until the running round reaches ph.
func (op *Operator) AwaitPhase(ctx context.Context, ph Phase) error {
	return op.Await(ctx, func(s Stats) bool { return s.Phase == ph })
}

// VTXO returns a stored VTXO.
func (op *Operator) VTXO(outpoint wire.OutPoint) (VTXO, bool) { return op.store.vtxo(outpoint) }

// Now is the operator's time.
func (op *Operator) Now() time.Time { return op.clock.Now() }
