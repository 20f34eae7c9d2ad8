package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

func (r *repair) allStrays() error {
	for _, t := range trees() {
		if t.from != rebuilt {
			continue
		}
		if err := r.strays(t.name); err != nil {
			return err
		}
	}
	return nil
}

// strays deletes the rows of a derived tree that nothing asks for. Those that the
// readable ask for have been written before.
func (r *repair) strays(name string) error {
	return r.each(name, func(key, value []byte, damage error) error {
		asked, err := r.asked(name, key, value)
		switch {
		case err != nil:
			return err
		case !asked:
			return r.Delete(name, key)
		case damage != nil && allKey(name):
			return r.Put(name, key, nil) // of one that cannot be read either
		}
		return nil
	})
}

// allKey says whether the rows of a derived tree have no value.
func allKey(name string) bool {
	switch name {
	case treePending, treeAliases, treeHoldings, treeCounts, treeUnreadable:
		return false
	}
	return true
}

// asked says whether a row of a derived tree is asked for, or may be, by one that
// cannot be read. value is nil when the row itself cannot be read.
func (r *repair) asked(name string, key, value []byte) (bool, error) {
	switch name {
	case treeDue, treeFlight, treeWatching, treeExpiries, treeEnded, treeScripts, treeTombstones:
		return r.askedByRecord(name, key)
	case treePending:
		return r.askedByPending(key, value)
	case treeCommitmentRefs:
		return r.askedByBranch(key)
	case treeCounts:
		return value != nil || r.countable(key), nil
	case treeUnreadable:
		_, _, ok := parseMarkKey(key)
		return ok && value != nil, nil
	case treeAliases:
		return r.askedByAlias(key, value)
	case treeHoldings:
		return r.askedByCoin(key)
	case treeLapses:
		return r.askedByPlan(key)
	case treeDeleting:
		if len(key) != walletSize {
			return false, nil
		}
		w, damage, err := walletOrDamage(r, vigil.WalletID(key))
		return errors.Is(damage, ErrUnreadable) || w != nil && w.State == WalletDeleting, err
	case treeSynced:
		if len(key) != 8+walletSize {
			return false, nil
		}
		w, damage, err := walletOrDamage(r, vigil.WalletID(key[8:]))
		return errors.Is(damage, ErrUnreadable) || w != nil && w.State == WalletActive && string(key) == string(syncedKey(w.SyncedAt, w.ID)), err
	case treeFresh:
		return r.askedByRequest(key)
	}
	return false, fmt.Errorf("ledger: nothing says how %s is repaired", name)
}

// countable says whether a key of the counts tree is of what Repair counts.
func (r *repair) countable(key []byte) bool {
	return slices.Contains(countedNames(), string(key)) ||
		len(key) == 1 && slices.Contains(delegate.States(), delegate.State(key[0]))
}

func (r *repair) askedByRecord(name string, key []byte) (bool, error) {
	if len(key) < idSize {
		return false, nil
	}
	rec, damage, err := recordOrDamage(r, vigil.DelegateID(key[len(key)-idSize:]))
	switch {
	case err != nil:
		return false, err
	case damage != nil: // it must neither fire nor disappear
		return errors.Is(damage, ErrUnreadable) && name != treeDue, nil
	case name == treeTombstones:
		op, ok := parseOutpointKey(key[:len(key)-idSize])
		return ok && rec.Spends(op) && buries(rec.State), nil
	}
	return derived(rec)[treeKey{name, string(key)}], nil
}

func (r *repair) askedByPending(key, value []byte) (bool, error) {
	if len(key) != idSize || value != nil && len(value) != idSize {
		return false, nil
	}
	if value == nil {
		return r.lost.records, nil
	}
	newer, damage, err := recordOrDamage(r, vigil.DelegateID(value))
	if err != nil || damage != nil {
		return errors.Is(damage, ErrUnreadable), err
	}
	return newer.State == delegate.Pending && slices.Contains(newer.Replaces, vigil.DelegateID(key)), nil
}

func (r *repair) askedByAlias(key, value []byte) (bool, error) {
	if len(value) != walletSize {
		return r.lost.wallets, nil // nobody may take a name that may be another's
	}
	w, damage, err := walletOrDamage(r, vigil.WalletID(value))
	return errors.Is(damage, ErrUnreadable) || w != nil && aliases(w)[string(key)], err
}

// askedByCoin: what a wallet notes of a coin that is not there is of no use, unless
// the coin is one that cannot be read.
func (r *repair) askedByCoin(key []byte) (bool, error) {
	if len(key) != walletSize+outpointSize {
		return false, nil
	}
	switch _, damage, err := walletOrDamage(r, vigil.WalletID(key)); {
	case err != nil, damage != nil:
		return errors.Is(damage, ErrUnreadable), err
	}
	v, err := loadVTXO(r, key[walletSize:])
	switch {
	case errors.Is(err, ErrUnreadable):
		return true, nil
	case err != nil:
		return false, err
	case v == nil:
		return r.lost.coins, nil
	}
	owner, ours, err := aliasOf(r, scriptAlias(v.Script))
	return ours && owner == vigil.WalletID(key), err
}

func (r *repair) askedByPlan(key []byte) (bool, error) {
	if len(key) != 8+walletSize+idSize {
		return false, nil
	}
	b, err := r.Get(treePrepared, key[8:])
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return false, err
	}
	p, damage := decodePlan(key[8:], b)
	return err != nil || damage != nil || bytes.Equal(lapseKey(p.NotBefore, key[8:]), key), nil
}

func (r *repair) askedByRequest(key []byte) (bool, error) {
	if len(key) <= 8 {
		return false, nil
	}
	row, err := loadBegun(r, key[8:])
	switch {
	case errors.Is(err, ErrUnreadable):
		return true, nil
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return int64(binary.BigEndian.Uint64(key)) == row.Forget, nil
}

// askedByBranch: a reference needs its branch and its commitment.
func (r *repair) askedByBranch(key []byte) (bool, error) {
	if len(key) != chainhash.HashSize+idSize {
		return false, nil
	}
	return refers(r, branchOf(key))
}

// walletOrDamage keeps apart what is wrong with one wallet, and with the store.
func walletOrDamage(r reader, id vigil.WalletID) (w *Wallet, damage, err error) {
	w, err = loadWallet(r, id)
	if errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNotFound) {
		return nil, err, nil
	}
	return w, nil, err
}
