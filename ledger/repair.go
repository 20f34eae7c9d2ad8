package ledger

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Repaired tells what Repair changed.
type Repaired struct {
	Mended     []Mended // at most maxMended, in the order of the work
	More       int      // changes beyond those
	Unreadable int      // rows that are still unreadable, and marked as far as there is room
}

// Changed says whether anything was changed.
func (r *Repaired) Changed() bool { return len(r.Mended) > 0 }

// Mended is one row that Repair changed.
type Mended struct {
	Tree string
	Key  []byte
	Did  Mending
}

// Mending is what was done to a row.
type Mending string

// What Repair does to rows.
const (
	Written   Mending = "written"   // it was not there
	Rewritten Mending = "rewritten" // it could not be read, or said something else
	Deleted   Mending = "deleted"   // nothing asks for it
)

// maxMended bounds what is listed: a broken disk must not fill the memory.
const maxMended = 1000

// Rebuilt says whether Repair builds the rows of a tree from others: damage there
// loses nothing.
func Rebuilt(tree string) bool { return originOf(tree) == rebuilt }

func originOf(name string) origin {
	for _, t := range trees() {
		if t.name == name {
			return t.from
		}
	}
	return truth // of another version
}

// Repair makes every index what the rows that can be read ask for, in one write,
// and marks those that cannot be read; what they had in an index stays, but their
// due times go, as Quarantine has it. It deletes no record, branch, coin or secret
// name, and what is sane it does not touch. Nobody else may use the ledger
// meanwhile, and the caller has made a copy. Its memory grows with the damage
// only.
func (l *Ledger) Repair(ctx context.Context) (*Repaired, error) {
	var out *Repaired
	err := l.store.Update(ctx, func(w kv.Writer) error {
		r := &repair{
			edge: &edge{r: w, w: w}, out: new(Repaired), at: l.now().Unix(),
			states: make(map[delegate.State]uint64), numbers: make(map[string]uint64),
			anew: make(map[wire.OutPoint]bool), met: make(map[vigil.WalletID]map[wire.OutPoint]bool),
		}
		r.transition = l.transition(r)
		out = r.out
		// Each step reads what those before it have mended.
		for _, step := range []func() error{
			func() error { return r.strays(treeUnreadable) }, r.wallets, func() error { return r.strays(treeAliases) },
			r.records, r.origins, r.refs, r.coins, r.holdings, r.plans, r.requests, r.allStrays, r.counts, r.waiting, r.marks,
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// repair is one Repair being written. It is the writer of all that it calls, so
// that what is as it must be is not written, and every change is told.
type repair struct {
	*edge
	transition *transition
	out        *Repaired
	at         int64
	states     map[delegate.State]uint64 // records that can be read
	numbers    map[string]uint64         // what else is counted, by its name in the counts tree
	lost       lost
	anew       map[wire.OutPoint]bool                    // coins whose rows were made anew
	met        map[vigil.WalletID]map[wire.OutPoint]bool // coins whose holdings are to be made
}

// lost says of which rows some cannot be read: what they ask for is not known.
type lost struct{ wallets, records, coins bool }

// Put writes a row unless it is so already.
func (r *repair) Put(tree string, key, value []byte) error {
	did := Rewritten
	switch stored, err := r.w.Get(tree, key); {
	case errors.Is(err, kv.ErrNotFound):
		did = Written
	case err != nil:
		return err
	case bytes.Equal(stored, seal(tree, key, value)):
		return nil
	}
	if err := r.edge.Put(tree, key, value); err != nil {
		return err
	}
	return r.tell(tree, key, did)
}

// Delete deletes a row, if it is there.
func (r *repair) Delete(tree string, key []byte) error {
	switch _, err := r.w.Get(tree, key); {
	case errors.Is(err, kv.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	if err := r.edge.Delete(tree, key); err != nil {
		return err
	}
	return r.tell(tree, key, Deleted)
}

// tell notes a change. The mark of a row that was mended has nothing to say any
// more.
func (r *repair) tell(tree string, key []byte, did Mending) error {
	if len(r.out.Mended) < maxMended {
		r.out.Mended = append(r.out.Mended, Mended{tree, slices.Clone(key), did})
	} else {
		r.out.More++
	}
	if tree == treeUnreadable {
		return nil
	}
	return r.Delete(treeUnreadable, markKey(tree, key))
}

// each calls f for every row of a tree, outside of any scan. err says why the row
// means nothing; then the value is nil.
func (r *repair) each(name string, f func(key, value []byte, err error) error) error {
	var read func(key, value []byte) error
	for _, t := range trees() {
		if t.name == name {
			read = t.read
		}
	}
	return rewrite(r.w, name, func(key, stored []byte) error {
		value, err := unseal(name, key, stored)
		if err == nil {
			err = read(key, value)
		}
		if err != nil {
			value = nil
		}
		return f(key, value, err)
	})
}

// legible says whether a row is there and means something.
func (r *repair) legible(tree string, key []byte) (bool, error) {
	stored, err := r.w.Get(tree, key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	value, err := unseal(tree, key, stored)
	return err == nil && wellFormed(tree, key, value) == nil, nil
}

// marks marks what cannot be read still.
func (r *repair) marks() error {
	for _, t := range trees() {
		if t.name == treeUnreadable {
			continue
		}
		err := r.each(t.name, func(key, _ []byte, damage error) error {
			if damage == nil {
				return nil
			}
			r.out.Unreadable++
			if d := new(Damage); errors.As(damage, &d) {
				damage = d.Cause
			}
			return putMark(r, t.name, key, damage.Error(), r.at)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// waiting looks after the delegates that wait for one whose end they were not told
// of, or that cannot be read.
func (r *repair) waiting() error {
	return r.each(treePending, func(key, _ []byte, damage error) error {
		if damage != nil {
			return nil
		}
		older, gone, err := recordOrDamage(r, vigil.DelegateID(key))
		switch {
		case err != nil:
			return err
		case gone != nil:
			return r.transition.orphan(vigil.DelegateID(key))
		}
		return r.transition.wake(older) // which leaves those in flight alone
	})
}
