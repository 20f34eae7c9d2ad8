package batch_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// recording is an honest batch as it once ran: every group of events, and the
// public nonces that we made.
type recording struct {
	op     *operator
	groups [][]batch.Event
	nonces pubNonces
	result *batch.StepForfeits
}

// record plays a batch of ours with the operator.
func record(t testing.TB, op *operator, keys ...*bip340.Key) *recording {
	t.Helper()
	r := &recording{op: op}
	s := newSigner(t, keys...)
	o := run(op, s, op.open(), func(_ int, evs []batch.Event) []batch.Event {
		r.groups = append(r.groups, slices.Clone(evs))
		return evs
	})
	if o.err != nil || o.forfeits == nil || o.finalized == nil {
		t.Fatalf("the honest run failed: %v", o.err)
	}
	r.result = o.forfeits
	r.nonces = make(pubNonces)
	for _, n := range o.nonces.Nodes {
		if r.nonces[n.Cosigner] == nil {
			r.nonces[n.Cosigner] = make(map[chainhash.Hash]musig2.PubNonce)
		}
		for _, ev := range r.groups[1] {
			if e, ok := ev.(batch.TreeNonces); ok && e.Txid == n.Txid {
				r.nonces[n.Cosigner][n.Txid] = e.Nonces[n.Cosigner.XOnly()]
			}
		}
	}
	return r
}

// watcher carries out the steps of a replay and holds every sequence of them to
// what must always be true.
type watcher struct {
	t        fataler
	r        *recording
	b        *batch.Batch
	nonces   bool
	signed   bool
	forfeits *batch.StepForfeits
	end      bool
	spoiled  bool // events may have been changed
	err      error
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (w *watcher) deliver(ev batch.Event) {
	w.t.Helper()
	step, err := w.b.Handle(ev)
	for err == nil && step != (batch.StepNone{}) {
		step, err = w.carryOut(step)
	}
	if err == nil {
		return
	}
	var v *batch.Violation
	switch {
	case w.err != nil:
		w.t.Fatalf("a second error: %v after %v", err, w.err)
	case !errors.As(err, &v):
		w.t.Fatalf("an error that is no violation: %v", err)
	}
	w.err = err
}

func (w *watcher) carryOut(step batch.Step) (batch.Step, error) {
	w.t.Helper()
	if w.end {
		w.t.Fatalf("%T after the end", step)
	}
	if _, ok := step.(batch.StepFailed); w.err != nil && !ok {
		w.t.Fatalf("%T after %v", step, w.err)
	}
	switch s := step.(type) {
	case batch.StepNonces:
		if w.nonces {
			w.t.Fatalf("nonces are asked for twice")
		}
		w.nonces = true
		return w.b.NoncesMade(w.r.nonces)
	case batch.StepSign:
		if !w.nonces || w.signed {
			w.t.Fatalf("signatures are asked for before nonces or twice")
		}
		w.signed = true
		w.checkSign(s)
	case batch.StepForfeits:
		if !w.signed || w.forfeits != nil {
			w.t.Fatalf("forfeits are asked for before signatures or twice")
		}
		w.forfeits = &s
	case batch.StepFinalized:
		if w.forfeits == nil || s.Txid != w.forfeits.Txid {
			w.t.Fatalf("finalized as %v without forfeits", s.Txid)
		}
		w.end = true
	case batch.StepFailed:
		w.end = true
	}
	return w.b.Next()
}

// checkSign sees that no key signs a node twice, and none but with the nonce
// that it made.
func (w *watcher) checkSign(s batch.StepSign) {
	w.t.Helper()
	type one struct {
		txid chainhash.Hash
		key  bip340.PubKey
	}
	seen := make(map[one]bool)
	for _, n := range s.Nodes {
		k := one{n.Txid, n.Cosigner}
		if seen[k] {
			w.t.Fatalf("%v signs %v twice", n.Cosigner, n.Txid)
		}
		seen[k] = true
		if _, ok := w.r.nonces[n.Cosigner][n.Txid]; !ok {
			w.t.Fatalf("%v signs %v without a nonce", n.Cosigner, n.Txid)
		}
		if !w.spoiled && n.Agg != w.r.op.aggs[n.Txid] {
			w.t.Fatalf("another aggregate nonce for %v", n.Txid)
		}
	}
}

// sameResult compares two results in all that the caller acts on.
func sameResult(a, b *batch.StepForfeits) bool {
	if a.Txid != b.Txid || len(a.Tasks) != len(b.Tasks) || len(a.Withheld) != len(b.Withheld) {
		return false
	}
	for i := range a.Tasks {
		x, y := a.Tasks[i], b.Tasks[i]
		if x.ID != y.ID || x.Leaf != y.Leaf || len(x.Branch) != len(y.Branch) || len(x.Connectors) != len(y.Connectors) {
			return false
		}
		for j := range x.Branch {
			if x.Branch[j].Txid != y.Branch[j].Txid || *x.Branch[j].Signature != *y.Branch[j].Signature {
				return false
			}
		}
		for in, c := range x.Connectors {
			if y.Connectors[in].Outpoint != c.Outpoint {
				return false
			}
		}
	}
	return true
}

// recordings are a few batches that differ in what matters to a sequence.
func recordings(t testing.TB) []*recording {
	t.Helper()
	service, own, far := keyOf(t, 1), keyOf(t, 2), keyOf(t, 100)
	recoverable := ourTask(t, 2, service, p2tr(t, 9000, 2))
	recoverable.connectors = nil
	onchain := ourTask(t, 3, own, p2tr(t, 800, 3))
	onchain.task.Onchain = []*wire.TxOut{p2tr(t, 7000, 8)}
	return []*recording{
		record(t, newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1))).build(), service),
		record(t, newOperator(t,
			ourTask(t, 1, service, p2tr(t, 9000, 1)), recoverable, onchain,
			stranger(t, 4, service, p2tr(t, 5, 5)), stranger(t, 5, far, p2tr(t, 5, 6)),
		).knows(far).build(), service, own),
		record(t, newOperator(t, recoverable).build(), service),
	}
}

// TestSequences delivers a recorded batch's events in any order that keeps
// each group's own and what our signatures bring about after them, with
// repetitions: it ends in the recorded result. With
// events lost or groups shuffled in themselves it ends in the same, or cleanly in
// nothing.
func TestSequences(t *testing.T) {
	recs := recordings(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := recs[rapid.IntRange(0, len(recs)-1).Draw(rt, "batch")]
		faithful := rapid.Bool().Draw(rt, "faithful")
		w := &watcher{t: rt, r: r, b: r.op.open()}
		queues := make([][]batch.Event, len(r.groups))
		left := 0
		for i, g := range r.groups {
			queues[i] = slices.Clone(g)
			if !faithful && rapid.Bool().Draw(rt, "shuffle") {
				queues[i] = rapid.Permutation(queues[i]).Draw(rt, "order")
			}
			left += len(g)
		}
		var past []batch.Event
		for left > 0 {
			open := len(queues)
			if faithful && !w.signed {
				open = 2
			}
			i := rapid.IntRange(0, open-1).Draw(rt, "group")
			for len(queues[i]) == 0 {
				i = (i + 1) % open
			}
			ev := queues[i][0]
			queues[i] = queues[i][1:]
			left--
			if !faithful && rapid.IntRange(0, 9).Draw(rt, "fate") == 0 {
				continue // lost
			}
			w.deliver(ev)
			past = append(past, ev)
			if rapid.IntRange(0, 2).Draw(rt, "again") == 0 {
				w.deliver(past[rapid.IntRange(0, len(past)-1).Draw(rt, "which")])
			}
		}
		if faithful && (w.err != nil || !w.end || w.forfeits == nil) {
			rt.Fatalf("not finalized: %v", w.err)
		}
		if w.forfeits != nil && faithful && !sameResult(w.forfeits, r.result) {
			rt.Fatalf("another result")
		}
		if w.forfeits != nil {
			// Connectors may have been lost; what is there must be right.
			checkForfeits(t, r.op, w.forfeits)
		}
	})
}
