package renewal

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// reconcile asks the indexer, and the chain where there is one, what became of
// delegates whose batch is over or whose commitment is not confirmed yet.
func (e *Engine) reconcile(ctx context.Context, recs []*delegate.Record, done func()) {
	defer e.post(ctx, done)
	depth := map[chainhash.Hash]int64{}
	recs, waiting := e.shallow(ctx, recs, depth)
	defer func() { e.waitOn(ctx, waiting) }()
	if len(recs) == 0 {
		return
	}
	found, err := e.read(ctx, recs)
	if err != nil {
		e.putOff(ctx, recs, "OPERATOR_UNAVAILABLE", err)
		return
	}
	var changes []change
	for _, rec := range recs {
		c, err := e.resolve(ctx, rec, found, depth, crimes(rec, recs))
		switch {
		case err != nil:
			changes = append(changes, e.backOff(rec, "OPERATOR_UNAVAILABLE", err.Error(), e.cfg.Pace.Confirm))
		case c.Event == 0:
			waiting = append(waiting, rec)
		default:
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

// shallow parts the delegates whose commitment is in chain or mempool, and not
// deep enough yet, from the others: nothing needs to be asked of the operator,
// or written, for them. On a chain with a block every ten minutes they are most.
func (e *Engine) shallow(ctx context.Context, recs []*delegate.Record, depth map[chainhash.Hash]int64) (others, waiting []*delegate.Record) {
	if e.chain == nil {
		return recs, nil
	}
	for _, rec := range recs {
		if rec.State == delegate.Unconfirmed {
			if n, err := e.depth(ctx, rec.Commitment, depth); err == nil && n >= 0 && n < e.cfg.Confirmations {
				waiting = append(waiting, rec)
				continue
			}
		}
		others = append(others, rec)
	}
	return others, waiting
}

// depth asks the chain for a commitment's confirmations, once in a round.
func (e *Engine) depth(ctx context.Context, txid chainhash.Hash, depth map[chainhash.Hash]int64) (int64, error) {
	if n, ok := depth[txid]; ok {
		return n, nil
	}
	n, err := e.chain.Confirmations(ctx, txid)
	if err != nil {
		return 0, fmt.Errorf("confirmations of %s: %w", txid, err)
	}
	depth[txid] = n
	return n, nil
}

// waitOn looks again later at delegates of which nothing new is known. That is
// not written down: a restart looks at once.
func (e *Engine) waitOn(ctx context.Context, recs []*delegate.Record) {
	if len(recs) == 0 {
		return
	}
	now := e.cfg.Now()
	e.post(ctx, func() {
		for _, rec := range recs {
			f := e.flights.byID[rec.ID]
			if f == nil {
				continue
			}
			at := now.Add(e.cfg.Pace.Confirm)
			if rec.State == delegate.Submitted && !e.sessionOver(rec, now) {
				at = e.sessionEnd(rec, now)
			}
			e.flights.wait(f, at)
		}
	})
}

// resolve says what follows for one delegate from what the world shows: a change
// without event when that is to look again later.
func (e *Engine) resolve(ctx context.Context, rec *delegate.Record, found coins, depth map[chainhash.Hash]int64, crimes uint32) (change, error) {
	switch rec.State {
	case delegate.Joining:
		return e.resolveJoining(ctx, rec, found, crimes)
	case delegate.Submitted:
		return e.resolveSubmitted(ctx, rec, found, depth)
	case delegate.Unconfirmed:
		return e.resolveUnconfirmed(ctx, rec, found, depth)
	}
	return wait(rec), nil
}

// wait changes nothing.
func wait(rec *delegate.Record) change { return change{Prev: rec} }

// settledBy returns the commitment that settled every input, if one did.
func settledBy(rec *delegate.Record, found coins) (txid string, all, any bool) {
	all = true
	for _, in := range rec.Inputs {
		v, ok := found[in.Outpoint]
		if !ok || !v.Spent || v.SettledBy == "" || txid != "" && v.SettledBy != txid {
			all = false
			continue
		}
		any, txid = true, v.SettledBy
	}
	return txid, all, any
}

// resolveJoining treats a batch that we confirmed and lost sight of before any
// forfeit left. Without a forfeit of ours it cannot have settled coins that
// needed one; coins that needed none it may have.
func (e *Engine) resolveJoining(ctx context.Context, rec *delegate.Record, found coins, crimes uint32) (change, error) {
	txid, all, _ := settledBy(rec, found)
	if all {
		hash, err := ark.ParseTxid(txid)
		if err != nil {
			return change{}, fmt.Errorf("settled_by: %w", err)
		}
		leaves, err := e.leaves(ctx, rec, hash, found)
		if err != nil {
			return change{}, err
		}
		if leaves != nil {
			return change{Prev: rec, Event: delegate.Finalized, Mutate: func(r *delegate.Record) {
				r.Commitment = hash
				r.Leaves = nil
				for _, l := range leaves {
					r.Leaves = append(r.Leaves, l.Outpoint)
				}
				r.NextAttempt = e.cfg.Now().Unix()
			}}, nil
		}
	}
	if c, ended := e.verdict(ctx, rec, found); ended {
		return c, nil
	}
	return e.failed(rec, "the batch ended without us", crimes, false), nil
}

// resolveSubmitted treats forfeits that are out: the commitment may confirm
// although the operator says that the batch failed.
func (e *Engine) resolveSubmitted(ctx context.Context, rec *delegate.Record, found coins, depth map[chainhash.Hash]int64) (change, error) {
	now := e.cfg.Now()
	finalized := change{Prev: rec, Event: delegate.Finalized, Mutate: func(r *delegate.Record) {
		r.NextAttempt = now.Unix()
		r.Isolate = false
	}}
	if slices.ContainsFunc(rec.Inputs, func(in delegate.Input) bool {
		v, ok := found[in.Outpoint]
		return ok && v.Spent && v.SettledBy == rec.Commitment.String()
	}) {
		return finalized, nil
	}
	// The chain comes before the operator's word on the coins: a commitment that is
	// there has settled them, whatever became of them afterwards.
	seen, err := e.seen(ctx, rec.Commitment, depth)
	if err != nil {
		return change{}, err
	}
	if seen && e.chain != nil {
		return finalized, nil
	}
	if c, ended := e.verdict(ctx, rec, found); ended {
		return c, nil
	}
	if seen {
		return finalized, nil
	}
	if !e.sessionOver(rec, now) {
		return wait(rec), nil
	}
	return change{Prev: rec, Event: delegate.NotFinalized, Mutate: func(r *delegate.Record) {
		r.IntentID = "" // what a batch took does not return to the queue
		r.NextAttempt = after(now, e.cfg.Pace.retry(r, now, random()))
	}}, nil
}

// resolveUnconfirmed settles a delegate whose commitment is deep enough, and
// takes one back whose commitment was excluded.
func (e *Engine) resolveUnconfirmed(ctx context.Context, rec *delegate.Record, found coins, depth map[chainhash.Hash]int64) (change, error) {
	settle := func() (change, error) {
		leaves, err := e.leaves(ctx, rec, rec.Commitment, found)
		if err != nil {
			return change{}, err
		}
		if leaves == nil && e.chain != nil && e.sessionOver(rec, e.cfg.Now()) {
			// The chain has the commitment and the operator does not know its tree: it
			// broadcasts before it stores. The branch is ours, and so is the coin.
			if leaves, err = e.stored(ctx, rec); err != nil {
				return change{}, err
			}
		}
		if leaves == nil {
			return wait(rec), nil // the indexer lags behind
		}
		return change{Prev: rec, Event: delegate.Confirmed, Leaves: leaves}, nil
	}
	if e.chain == nil {
		// The operator's word: it marks the inputs settled once it has stored the
		// batch.
		if txid, all, _ := settledBy(rec, found); all && txid == rec.Commitment.String() {
			return settle()
		}
		return e.unsettled(ctx, rec, depth)
	}
	n, err := e.depth(ctx, rec.Commitment, depth)
	if err != nil {
		return change{}, err
	}
	if n >= e.cfg.Confirmations {
		return settle()
	}
	if n >= 0 {
		return wait(rec), nil
	}
	// Neither in a block nor in the mempool.
	conflict, err := e.excluded(ctx, rec)
	if err != nil {
		return change{}, err
	}
	if conflict {
		return e.conflict(rec), nil
	}
	return e.unsettled(ctx, rec, depth)
}

// unsettled treats a commitment that the operator said it broadcast and that
// nothing shows: once its session is over, the coin is renewed again, and the
// commitment watched in case it appears after all.
func (e *Engine) unsettled(ctx context.Context, rec *delegate.Record, depth map[chainhash.Hash]int64) (change, error) {
	if !e.sessionOver(rec, e.cfg.Now()) {
		return wait(rec), nil
	}
	seen, err := e.seen(ctx, rec.Commitment, depth)
	if err != nil {
		return change{}, err
	}
	if seen {
		return wait(rec), nil
	}
	return e.conflict(rec), nil
}

func (e *Engine) conflict(rec *delegate.Record) change {
	now := e.cfg.Now()
	return change{Prev: rec, Event: delegate.Conflict, Mutate: func(r *delegate.Record) {
		r.Fail("COMMITMENT_LOST", "the batch's commitment transaction did not confirm", now.Unix())
		r.Leaves, r.IntentID = nil, ""
		r.NextAttempt = now.Unix()
	}}
}

// seen says whether a commitment is in chain or mempool, or known to the
// operator's indexer.
func (e *Engine) seen(ctx context.Context, txid chainhash.Hash, depth map[chainhash.Hash]int64) (bool, error) {
	if e.chain != nil {
		n, err := e.depth(ctx, txid, depth)
		return err == nil && n >= 0, err
	}
	_, err := e.op.CommitmentTx(ctx, txid)
	switch class := operator.ClassOf(err); {
	case err == nil:
		return true, nil
	case class == operator.NotFound:
		return false, nil
	default:
		return false, fmt.Errorf("look for %s: %w", txid, err)
	}
}

// excluded says whether a confirmed transaction spends an input of the stored
// commitment transaction.
func (e *Engine) excluded(ctx context.Context, rec *delegate.Record) (bool, error) {
	b, err := e.ledger.Branch(ctx, rec.BranchOwner(), rec.Commitment)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read branch: %w", err)
	}
	tx, err := commitmentTx(b.Tx)
	if err != nil {
		return false, err
	}
	for _, in := range tx.TxIn {
		by, ok, err := e.chain.Spender(ctx, in.PreviousOutPoint)
		if err != nil {
			return false, fmt.Errorf("look for the spender of %s: %w", in.PreviousOutPoint, err)
		}
		if ok && by != rec.Commitment {
			return true, nil
		}
	}
	return false, nil
}

// crimes is how often the failure of a batch convicts the scripts of rec, which
// is one of ours in it.
func crimes(rec *delegate.Record, recs []*delegate.Record) uint32 {
	return sharing(rec, slices.DeleteFunc(slices.Clone(recs), func(r *delegate.Record) bool {
		return r.State != delegate.Joining || r.BatchID != rec.BatchID
	}))
}

// leaves returns the VTXOs that the commitment made for the record, or nil when
// the indexer does not show all of them. Where the branch was seen, the
// outpoints are its leaf's and are not searched by script and amount.
func (e *Engine) leaves(ctx context.Context, rec *delegate.Record, commitment chainhash.Hash, found coins) ([]ledger.VTXO, error) {
	made := func(v ark.VTXO) ledger.VTXO {
		return ledger.VTXO{
			Outpoint: v.Outpoint, Amount: v.Amount, Script: v.Script, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt,
			Origin: rec.ID, Commitment: commitment,
		}
	}
	if len(rec.Leaves) > 0 {
		out := make([]ledger.VTXO, len(rec.Leaves))
		for i, op := range rec.Leaves {
			v, ok := found[op]
			if !ok {
				return nil, nil
			}
			out[i] = made(v)
		}
		return out, nil
	}
	// The batch ended without us: its leaf is found among what the indexer shows
	// for our scripts under that commitment.
	scripts := make([][]byte, 0, len(rec.Outputs))
	for _, o := range rec.Outputs {
		if taproot(o.PkScript) {
			scripts = append(scripts, o.PkScript)
		}
	}
	vtxos, err := e.op.VTXOsByScript(ctx, scripts, operator.AnyState)
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	var out []ledger.VTXO
	taken := map[int]bool{}
	for _, o := range rec.Outputs {
		if !taproot(o.PkScript) {
			continue
		}
		ok := false
		for i, v := range vtxos {
			if !taken[i] && v.Amount == o.Value && bytes.Equal(v.Script, o.PkScript) && len(v.CommitmentTxs) == 1 && v.CommitmentTxs[0] == commitment {
				taken[i], ok = true, true
				out = append(out, made(v))
				break
			}
		}
		if !ok {
			return nil, nil
		}
	}
	return out, nil
}

// stored returns the VTXOs that the stored branch of the record's commitment
// leads to, or nil when no branch is stored.
func (e *Engine) stored(ctx context.Context, rec *delegate.Record) ([]ledger.VTXO, error) {
	b, err := e.ledger.Branch(ctx, rec.BranchOwner(), rec.Commitment)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && len(b.Nodes) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read branch: %w", err)
	}
	var leaf wire.MsgTx
	if err := leaf.Deserialize(bytes.NewReader(b.Nodes[len(b.Nodes)-1])); err != nil {
		return nil, fmt.Errorf("stored branch: %w", err)
	}
	now := e.cfg.Now().Unix()
	var out []ledger.VTXO
	for _, op := range b.Leaves {
		if op.Hash != leaf.TxHash() || int(op.Index) >= len(leaf.TxOut) {
			return nil, fmt.Errorf("stored branch: %s is no output of its leaf", op)
		}
		o := leaf.TxOut[op.Index]
		out = append(out, ledger.VTXO{
			Outpoint: op, Amount: o.Value, Script: o.PkScript, CreatedAt: now, ExpiresAt: now + ark.Delay(b.Expiry).Seconds(),
			Origin: rec.ID, Commitment: rec.Commitment,
		})
	}
	return out, nil
}

// watched returns the commitment of ours, current or of an earlier attempt,
// that txid names.
func watched(rec *delegate.Record, txid string) (chainhash.Hash, bool) {
	if txid == "" {
		return chainhash.Hash{}, false
	}
	if rec.Commitment != (chainhash.Hash{}) && rec.Commitment.String() == txid {
		return rec.Commitment, true
	}
	for _, w := range rec.Watch {
		if w.Commitment.String() == txid {
			return w.Commitment, true
		}
	}
	return chainhash.Hash{}, false
}

// branch is what must be durable before a delegate's forfeits leave.
func branch(rec *delegate.Record, s batch.StepForfeits, t batch.TaskResult, started batch.Started, forfeits []string, at int64) (*delegate.Branch, error) {
	tx, err := base64.StdEncoding.DecodeString(s.CommitmentPSBT)
	if err != nil {
		return nil, fmt.Errorf("commitment: %w", err)
	}
	b := &delegate.Branch{Delegate: rec.ID, Commitment: s.Txid, Tx: tx, BatchID: started.BatchID, Expiry: started.Expiry, StoredAt: at}
	for _, node := range t.Branch {
		var raw bytes.Buffer
		if err := node.SignedTx().Serialize(&raw); err != nil {
			return nil, fmt.Errorf("branch: %w", err)
		}
		b.Nodes = append(b.Nodes, raw.Bytes())
	}
	for _, out := range t.Outputs {
		if taproot(out.Out.PkScript) {
			b.Leaves = append(b.Leaves, out.Outpoint)
		}
	}
	next := 0
	for _, in := range rec.Inputs {
		if _, ok := t.Connectors[in.Outpoint]; !ok {
			continue
		}
		raw, err := kept(in, forfeits[next])
		if err != nil {
			return nil, fmt.Errorf("forfeit: %w", err)
		}
		b.Forfeits = append(b.Forfeits, delegate.Sent{Outpoint: in.Outpoint, PSBT: raw})
		next++
	}
	return b, nil
}

// kept is what of a completed forfeit may be stored: of a bearer instrument all but
// the signatures.
func kept(in delegate.Input, b64 string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || !in.Bearer() {
		return raw, err
	}
	packet, err := script.DecodePSBT(raw, script.StrangerLimits())
	if err != nil {
		return nil, err
	}
	for i := range packet.Inputs {
		packet.Inputs[i].TaprootScriptSpendSig = nil
	}
	var bare bytes.Buffer
	if err := packet.Serialize(&bare); err != nil {
		return nil, err
	}
	return bare.Bytes(), nil
}

// taproot says whether an output can be a VTXO; an extension cannot.
func taproot(pkScript []byte) bool {
	_, ok := ark.TaprootKey(pkScript)
	return ok
}
