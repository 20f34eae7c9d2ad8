package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Submission is a checked delegate to be stored.
type Submission struct {
	// Record is the delegate; its state and version are the ledger's. When it was
	// checked, at its CreatedAt or just before, the operator reported every input
	// as unspent and not unrolled.
	Record        *delegate.Record
	RejectReplace bool   // refuse rather than replace an older delegate
	PerScript     int    // how many live delegates a script may have; 0: no bound
	Audit         []Link // written with it, unless the same body was here before
}

// Receipt is the answer to a Submission.
type Receipt struct {
	Record   *delegate.Record // as it is stored
	Known    bool             // the same body was here before; nothing changed
	Replaced []vigil.DelegateID
}

// Submit stores a delegate, durably when it returns. A body whose id was seen
// before is answered with the record as it stands, whatever became of it. Over
// inputs that another live delegate renews, the new one takes its place, or
// waits as pending while that one is in flight; it must cover every input of
// the older. A wallet's delegate takes up the plan of its id; what is not planned
// any more is ErrLapsed, and an id that names another delegate is ErrTaken.
// Refusals are *vigil.Error.
func (l *Ledger) Submit(ctx context.Context, s Submission) (Receipt, error) {
	var receipt Receipt
	err := l.update(ctx, func(w writer) error {
		var err error
		t := l.transition(w)
		if receipt, err = t.submit(s); err != nil || receipt.Known {
			return err
		}
		return appendAudit(w, s.Audit...)
	})
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

func (t *transition) submit(s Submission) (Receipt, error) {
	known, err := load(t.w, s.Record.ID)
	if err == nil {
		if known.Wallet != s.Record.Wallet || known.ProofTxid != s.Record.ProofTxid {
			return Receipt{}, fmt.Errorf("%w: delegate %s", ErrTaken, known.ID)
		}
		return Receipt{Record: known, Known: true}, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return Receipt{}, err
	}
	if err := t.issued(s.Record); err != nil {
		return Receipt{}, err
	}
	rec := s.Record.Clone()
	rec.State, rec.Version, rec.StateSince = delegate.Armed, 1, t.at
	rec.Replaces, rec.ReplacedBy = nil, vigil.DelegateID{}
	if err := t.revive(rec); err != nil {
		return Receipt{}, err
	}
	olders, err := t.overlapping(s.Record)
	if err != nil {
		return Receipt{}, err
	}
	if err := admissible(s, olders); err != nil {
		return Receipt{}, err
	}
	if err := t.room(s, olders); err != nil {
		return Receipt{}, err
	}
	if slices.ContainsFunc(olders, func(o *delegate.Record) bool { return o.State.InFlight() }) {
		return t.wait(rec, olders)
	}
	receipt := Receipt{Record: rec}
	for _, older := range olders {
		rec.AddWatched(older.Watch...)
		if err := t.replace(older, rec.ID); err != nil {
			return Receipt{}, err
		}
		receipt.Replaced = append(receipt.Replaced, older.ID)
	}
	if err := write(t.w, nil, rec); err != nil {
		return Receipt{}, err
	}
	return receipt, cover(t.w, rec)
}

// issued takes up the plan of a wallet's delegate.
func (t *transition) issued(rec *delegate.Record) error {
	if rec.Kind != delegate.Wallet {
		return nil
	}
	owner, err := loadWallet(t.w, rec.Wallet)
	if err != nil {
		return err
	}
	if owner.State != WalletActive {
		return fmt.Errorf("%w: wallet %s is not active", ErrNotFound, owner.ID)
	}
	for _, in := range rec.Inputs {
		if !slices.ContainsFunc(owner.Scripts, func(b []byte) bool { return bytes.Equal(b, in.Script) }) {
			return vigil.Errorf(vigil.CodeInputMismatch, "%s does not pay this wallet", in.Outpoint)
		}
	}
	p, err := loadPlan(t.w, rec.Wallet, rec.ID)
	if err != nil {
		return err
	}
	if p.TreeKey != rec.TreeKey {
		return fmt.Errorf("%w: delegate %s was issued with another tree key", ErrLapsed, rec.ID)
	}
	if err := t.leftOver(p, rec); err != nil {
		return err
	}
	return takePlan(t.w, rec.Wallet, rec.ID, t.at)
}

// leftOver holds a plan's secrets to those that the record needs: all of them were
// planned, or they could be orphans; what an earlier attempt at this id put and this
// record does not need is garbage with this write.
func (t *transition) leftOver(p *Plan, rec *delegate.Record) error {
	needs := t.garbage(rec)
	for _, name := range needs {
		if !slices.Contains(p.Secrets, name) {
			return fmt.Errorf("%w: delegate %s needs %s, which was not planned", ErrLapsed, rec.ID, name)
		}
	}
	if len(needs) == 0 {
		return nil // a ledger that is told of no secrets of delegates
	}
	for _, name := range p.Secrets {
		if slices.Contains(needs, name) {
			continue
		}
		if err := putRow(t.w, treeSecretGC, []byte(name), &Garbage{Since: t.at}); err != nil {
			return err
		}
	}
	return nil
}

// wait stores rec as pending beside olders; a pending one among them gives way.
func (t *transition) wait(rec *delegate.Record, olders []*delegate.Record) (Receipt, error) {
	receipt := Receipt{Record: rec}
	rec.State = delegate.Pending
	for _, older := range olders {
		if older.State == delegate.Pending {
			if err := t.replace(older, rec.ID); err != nil {
				return Receipt{}, err
			}
			receipt.Replaced = append(receipt.Replaced, older.ID)
			continue
		}
		rec.Replaces = append(rec.Replaces, older.ID)
	}
	for _, id := range rec.Replaces {
		if err := t.w.Put(treePending, id[:], rec.ID[:]); err != nil {
			return Receipt{}, err
		}
	}
	if err := write(t.w, nil, rec); err != nil {
		return Receipt{}, err
	}
	return receipt, cover(t.w, rec)
}

// overlapping returns the delegates, pending ones included, that renew an input
// of rec. One that cannot be read is no longer in the way.
func (t *transition) overlapping(rec *delegate.Record) ([]*delegate.Record, error) {
	var olders []*delegate.Record
	add := func(id vigil.DelegateID) error {
		if slices.ContainsFunc(olders, func(o *delegate.Record) bool { return o.ID == id }) {
			return nil
		}
		older, err := load(t.w, id)
		if errors.Is(err, ErrUnreadable) {
			return nil
		}
		if err == nil {
			olders = append(olders, older)
		}
		return err
	}
	for _, in := range rec.Inputs {
		v, err := loadVTXO(t.w, outpointKey(in.Outpoint))
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		for _, id := range []vigil.DelegateID{v.Cover, v.Next} {
			if id == (vigil.DelegateID{}) {
				continue
			}
			if err := add(id); err != nil {
				return nil, err
			}
		}
	}
	return olders, nil
}

// admissible says whether the submission may replace olders (spec section 11).
func admissible(s Submission, olders []*delegate.Record) error {
	for _, older := range olders {
		if s.RejectReplace {
			return vigil.Errorf(vigil.CodeReplaceRejected, "delegate %s already renews an input, and reject_replace is set", older.ID)
		}
		if !s.Record.Covers(older) {
			return vigil.Errorf(vigil.CodeReplaceIncomplete, "delegate %s already renews an input together with others that the new one leaves out", older.ID)
		}
	}
	return nil
}

// room holds the number of live delegates of each script under its bound.
func (t *transition) room(s Submission, olders []*delegate.Record) error {
	if s.PerScript <= 0 {
		return nil
	}
	var seen [][]byte
	for _, in := range s.Record.Inputs {
		if slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, in.Script) }) {
			continue
		}
		seen = append(seen, in.Script)
		open := 0
		prefix := scriptPrefix(in.Script, classOpen)
		err := t.w.Scan(treeScripts, prefix, after(prefix), func(key, _ []byte, damage error) error {
			replaced := damage != nil || slices.ContainsFunc(olders, func(o *delegate.Record) bool {
				return !o.State.InFlight() && bytes.HasSuffix(key, o.ID[:])
			})
			if !replaced {
				open++
			}
			if open >= s.PerScript {
				return kv.ErrStop
			}
			return nil
		})
		if err != nil {
			return err
		}
		if open >= s.PerScript {
			return vigil.Errorf(vigil.CodeTooManyDelegates, "the script of %s already has %d delegates; put more VTXOs into one, or cancel some", in.Outpoint, s.PerScript)
		}
	}
	return nil
}
