package renewal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

// A commitment for which forfeits of ours left may confirm long after the operator
// called its batch failed. Then it has taken the old coin, and the owner's claim is
// the stored branch. So each such commitment is watched until the coin is settled
// or until it can never confirm, and none is forgotten for another: a delegate that
// watches delegate.MaxWatched gives no further forfeits.

// Bounds of one look.
const (
	watchPage  = 16 // delegates
	watchCalls = 64 // questions to the chain
)

// watchListFull is what the last error says of a delegate that watches as many
// commitments as it may.
const watchListFull = "WATCH_LIST_FULL"

// watchFull says that a delegate may give no forfeits for one more commitment.
func (e *Engine) watchFull(rec *delegate.Record, found coins) *delegate.Failure {
	now := e.cfg.Now().Unix()
	gives := false
	for _, in := range rec.Inputs {
		v, ok := found[in.Outpoint]
		gives = gives || !ok || v.NeedsForfeit(now)
	}
	if len(rec.Watch) < delegate.MaxWatched || !gives {
		return nil
	}
	if rec.LastError.Code != watchListFull {
		e.cfg.Log.Error("so many batches of the operator failed after forfeits had left that a delegate joins no more of them, until it is known what became of them",
			"delegate", rec.ID, "commitments", len(rec.Watch), "chain", e.chain != nil)
		e.observer.Renewal("watch_full")
	}
	return &delegate.Failure{
		Code: watchListFull, Text: fmt.Sprintf("%d commitments may still confirm that took forfeits of it", len(rec.Watch)), At: now,
	}
}

// lookAgain ends a look; the next goes on at next.
func (e *Engine) lookAgain(next ledger.Cursor) {
	e.watching, e.watchFrom, e.nextWatch = false, next, e.cfg.Now().Add(e.cfg.Pace.Watch)
}

// watch looks what became of commitments of failed attempts, for some delegates
// and within a bound of questions.
func (e *Engine) watch(ctx context.Context, from ledger.Cursor) {
	var next ledger.Cursor
	defer func() { e.post(ctx, func() { e.lookAgain(next) }) }()
	recs, rest, err := e.ledger.Watching(ctx, watchPage, from)
	if err != nil {
		e.cfg.Log.Warn("the watched commitments could not be read", "err", err)
		return
	}
	next = rest
	if len(recs) == 0 {
		return
	}
	found, err := e.read(ctx, recs)
	if err != nil {
		e.cfg.Log.Debug("watched commitments were not looked for", "err", err)
		next = from
		return
	}
	look := lookout{e: e, depth: map[chainhash.Hash]int64{}, calls: watchCalls}
	// Whoever comes first must not use up the bound every time.
	rand.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	var changes []change
	for _, rec := range recs {
		c, err := look.one(ctx, rec, found)
		if err != nil {
			e.cfg.Log.Debug("watched commitments were not looked for", "delegate", rec.ID, "err", err)
		}
		if c.Event != 0 {
			changes = append(changes, c)
		}
	}
	outs := e.apply(ctx, changes)
	e.post(ctx, func() {
		for i, out := range outs {
			e.written(ctx, changes[i].Prev, out)
		}
	})
}

// lookout is one look.
type lookout struct {
	e     *Engine
	depth map[chainhash.Hash]int64
	calls int // that are left
}

// one says what follows for one delegate: Late when a watched commitment turned out
// to be the one, a Note that drops those that never can be, or nothing.
func (l *lookout) one(ctx context.Context, rec *delegate.Record, found coins) (change, error) {
	late := func(commitment chainhash.Hash) change {
		return change{Prev: rec, Event: delegate.Late, Mutate: func(r *delegate.Record) {
			r.Commitment = commitment
			r.NextAttempt = l.e.cfg.Now().Unix()
		}}
	}
	switch rec.State {
	case delegate.Joining, delegate.Submitted:
		return change{}, nil // a batch is being decided: its end comes first
	case delegate.Unconfirmed: // it has a commitment; what it waits for is looked at there
	default:
		if c, ended := l.e.verdict(ctx, rec, found); ended && c.Event == delegate.Late {
			return c, nil
		}
	}
	if l.e.chain == nil {
		return change{}, nil // that the operator does not know it proves nothing
	}
	var dead []chainhash.Hash
	var failed error
	start := rand.IntN(len(rec.Watch))
	for i := range rec.Watch {
		w := rec.Watch[(start+i)%len(rec.Watch)]
		if w.Commitment == rec.Commitment {
			continue
		}
		n, known, err := l.deep(ctx, w.Commitment)
		if err != nil || !known {
			failed = err
			break
		}
		switch {
		case n > 0 && rec.State != delegate.Unconfirmed:
			return late(w.Commitment), nil
		case n >= 0:
			continue
		}
		never, err := l.never(ctx, w)
		if err != nil {
			failed = err
			break
		}
		if never {
			dead = append(dead, w.Commitment)
		}
	}
	if len(dead) == 0 || rec.State == delegate.Registering {
		// A registration under way must find its record as it left it, or its id is lost.
		return change{}, failed
	}
	return change{Prev: rec, Event: delegate.Note, Dead: dead}, failed
}

// deep asks for a commitment's depth, unless too much was asked already.
func (l *lookout) deep(ctx context.Context, txid chainhash.Hash) (n int64, known bool, err error) {
	if _, asked := l.depth[txid]; !asked {
		if l.calls == 0 {
			return 0, false, nil
		}
		l.calls--
	}
	n, err = l.e.depth(ctx, txid, l.depth)
	return n, err == nil, err
}

// never says whether a commitment can never confirm: a transaction that spends one
// of its inputs is as deep as ours must be to settle. One whose branch is gone was
// found so before, for another delegate.
func (l *lookout) never(ctx context.Context, w delegate.Watched) (bool, error) {
	b, err := l.e.ledger.Branch(ctx, w.Branch, w.Commitment)
	if errors.Is(err, ledger.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read branch: %w", err)
	}
	tx, err := commitmentTx(b.Tx)
	if err != nil {
		return false, err
	}
	start := rand.IntN(max(len(tx.TxIn), 1))
	for i := range tx.TxIn {
		in := tx.TxIn[(start+i)%len(tx.TxIn)].PreviousOutPoint
		if l.calls == 0 {
			return false, nil
		}
		l.calls--
		by, ok, err := l.e.chain.Spender(ctx, in)
		if err != nil {
			return false, fmt.Errorf("look for the spender of %s: %w", in, err)
		}
		if !ok || by == w.Commitment {
			continue
		}
		if n, known, err := l.deep(ctx, by); err != nil || known && n >= l.e.cfg.Confirmations {
			return err == nil, err
		}
	}
	return false, nil
}
