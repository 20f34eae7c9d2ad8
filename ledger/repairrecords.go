package ledger

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// records writes what the delegates ask for.
func (r *repair) records() error {
	return r.each(treeSessions, func(key, value []byte, damage error) error {
		if damage != nil {
			r.lost.records = true
			return nil
		}
		rec, err := decodeRecord(vigil.DelegateID(key), value)
		if err != nil {
			return err
		}
		return r.record(rec)
	})
}

func (r *repair) record(rec *delegate.Record) error {
	r.states[rec.State]++
	rows := slices.SortedFunc(maps.Keys(derived(rec)), func(a, b treeKey) int {
		return cmp.Or(cmp.Compare(a.tree, b.tree), cmp.Compare(a.key, b.key))
	})
	for _, row := range rows {
		if err := r.Put(row.tree, []byte(row.key), nil); err != nil {
			return err
		}
	}
	switch {
	case buries(rec.State):
		return bury(r, rec)
	case rec.State == delegate.Settled:
		return r.settled(rec)
	case rec.State.Ended():
		return nil
	case rec.State == delegate.Pending:
		for _, older := range rec.Replaces {
			if err := r.claim(treePending, older[:], rec.ID[:]); err != nil {
				return err
			}
		}
	}
	for i := range rec.Inputs {
		if err := r.cover(rec, &rec.Inputs[i]); err != nil {
			return err
		}
	}
	return nil
}

// claim writes a row that names one of several, unless it names one that asks for
// it too.
func (r *repair) claim(tree string, key, value []byte) error {
	old, err := r.Get(tree, key)
	if err == nil {
		asked, err := r.asked(tree, key, old)
		if err != nil || asked {
			return err
		}
	} else if !errors.Is(err, kv.ErrNotFound) && !errors.Is(err, ErrUnreadable) {
		return err
	}
	return r.Put(tree, key, value)
}

// settled tells again in the history what a settled delegate knows.
func (r *repair) settled(rec *delegate.Record) error {
	key := historyKey(rec, rec.StateSince)
	told, err := r.legible(treeHistory, key)
	if err != nil || told {
		return err
	}
	return putRow(r, treeHistory, key, settledLine(rec))
}

// cover puts a coin under the delegate that renews it. A coin whose row is gone, or
// cannot be read, is what the delegate knows of it: it is not gone, or the delegate
// would have ended.
func (r *repair) cover(rec *delegate.Record, in *delegate.Input) error {
	key := outpointKey(in.Outpoint)
	v, err := legibleVTXO(r, key)
	if err != nil {
		return err
	}
	if v == nil {
		v = &VTXO{Outpoint: in.Outpoint, Amount: in.Amount, Script: in.Script, CreatedAt: in.CreatedAt, ExpiresAt: in.ExpiresAt}
		r.anew[in.Outpoint] = true
	}
	by := &v.Cover
	if rec.State == delegate.Pending {
		by = &v.Next
	}
	if *by != rec.ID {
		if other, damage, err := recordOrDamage(r, *by); err != nil || damage == nil && renews(other, in.Outpoint, rec.State == delegate.Pending) {
			return err // two over one coin: fsck tells, and nobody knows better
		}
	}
	*by = rec.ID
	return putRow(r, treeVTXOs, key, v)
}

// renews says whether a delegate may stand on a coin, as the one that renews it or
// as the one that is to.
func renews(rec *delegate.Record, op wire.OutPoint, next bool) bool {
	return !rec.State.Ended() && (rec.State == delegate.Pending) == next && rec.Spends(op)
}

// origins finds the renewals that made the coins whose rows were made anew: their
// branches name them.
func (r *repair) origins() error {
	if len(r.anew) == 0 {
		return nil
	}
	return r.each(treeBranches, func(key, value []byte, damage error) error {
		if damage != nil {
			return nil
		}
		b, err := decodeBranch(key, value)
		if err != nil {
			return err
		}
		for _, leaf := range b.Leaves {
			if !r.anew[leaf] {
				continue
			}
			v, err := loadVTXO(r, outpointKey(leaf))
			if err != nil || v == nil || v.Origin != (vigil.DelegateID{}) {
				return err
			}
			v.Origin, v.Commitment = b.Delegate, b.Commitment
			if err := putRow(r, treeVTXOs, outpointKey(leaf), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// refs makes the references of branches to their commitments.
func (r *repair) refs() error {
	return r.each(treeBranches, func(key, _ []byte, _ error) error {
		if len(key) != idSize+chainhash.HashSize {
			return nil
		}
		asked, err := refers(r, key)
		if err != nil || !asked {
			return err
		}
		return r.Put(treeCommitmentRefs, refKey(key), nil)
	})
}

// coins takes off the coins the delegates that do not renew them, and finds those
// that a wallet does not know to be its own.
func (r *repair) coins() error {
	return r.each(treeVTXOs, func(key, value []byte, damage error) error {
		if damage != nil {
			r.lost.coins = true
			return nil
		}
		v, err := decodeVTXO(key, value)
		if err != nil {
			return err
		}
		for by, next := range map[*vigil.DelegateID]bool{&v.Cover: false, &v.Next: true} {
			rec, damage, err := recordOrDamage(r, *by)
			if err != nil {
				return err
			}
			if errors.Is(damage, ErrNotFound) || damage == nil && !renews(rec, v.Outpoint, next) {
				*by = vigil.DelegateID{}
			}
		}
		if err := putRow(r, treeVTXOs, key, v); err != nil {
			return err
		}
		owner, ours, err := aliasOf(r, scriptAlias(v.Script))
		if err != nil || !ours {
			return err
		}
		known, err := r.legible(treeHoldings, holdingKey(owner, v.Outpoint))
		if err != nil || known {
			return err
		}
		if r.met[owner] == nil {
			r.met[owner] = make(map[wire.OutPoint]bool)
		}
		r.met[owner][v.Outpoint] = true
		return nil
	})
}

// counts writes the numbers of what there is.
func (r *repair) counts() error {
	for _, s := range delegate.States() {
		if err := r.number([]byte{byte(s)}, r.states[s]); err != nil {
			return err
		}
	}
	for _, name := range countedNames() {
		if err := r.number([]byte(name), r.numbers[name]); err != nil {
			return err
		}
	}
	return nil
}

// number writes one of the counts. None is there of what never was.
func (r *repair) number(key []byte, n uint64) error {
	b, err := r.Get(treeCounts, key)
	switch {
	case err == nil:
		if was, err := decodeCount(b); err == nil && was == n {
			return nil
		}
	case errors.Is(err, kv.ErrNotFound):
		if n == 0 {
			return nil
		}
	case !errors.Is(err, ErrUnreadable):
		return err
	}
	return r.Put(treeCounts, key, encodeCount(n))
}
