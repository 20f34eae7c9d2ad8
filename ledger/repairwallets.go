package ledger

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
)

// wallets writes the names by which wallets are found, and which are being taken
// apart.
func (r *repair) wallets() error {
	return r.each(treeWallets, func(key, _ []byte, damage error) error {
		if damage != nil {
			r.lost.wallets = true
			return nil
		}
		w, err := loadWallet(r, vigil.WalletID(key))
		if errors.Is(err, ErrUnreadable) { // an epoch
			r.lost.wallets = true
			return nil
		}
		if err != nil {
			return err
		}
		r.numbers[countOf(w.State)]++
		for _, alias := range slices.Sorted(maps.Keys(aliases(w))) {
			if err := r.claim(treeAliases, []byte(alias), w.ID[:]); err != nil {
				return err
			}
		}
		switch w.State {
		case WalletActive:
			return r.Put(treeSynced, syncedKey(w.SyncedAt, w.ID), nil)
		case WalletDeleting:
			return r.Put(treeDeleting, w.ID[:], nil)
		}
		return nil
	})
}

// holdings makes the rows of coins that their wallets do not know, with what the
// history tells of them. What it does not tell, the next sync does: what assets
// they carry, and whether they were swept. That a device keeps the exit data, and
// that something was signed, is forgotten: then the device is told once more.
func (r *repair) holdings() error {
	for _, id := range slices.SortedFunc(maps.Keys(r.met), func(a, b vigil.WalletID) int { return bytes.Compare(a[:], b[:]) }) {
		met := make(map[wire.OutPoint]*Holding, len(r.met[id]))
		for op := range r.met[id] {
			v, err := loadVTXO(r, outpointKey(op))
			if err != nil {
				return err
			}
			if v != nil {
				met[op] = &Holding{VTXO: *v, SeenAt: cmp.Or(v.CreatedAt, r.at), Batch: v.Commitment}
			}
		}
		err := eachLine(r, id[:], after(id[:]), func(_ []byte, e *Entry) error {
			for _, op := range e.Leaves {
				if h := met[op]; h != nil {
					h.cameIn(e)
				}
			}
			for _, op := range e.Inputs {
				if h := met[op]; h != nil {
					h.wentIn(e)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, op := range slices.SortedFunc(maps.Keys(met), byOutpoint) {
			if err := met[op].put(r, id); err != nil {
				return err
			}
		}
	}
	return nil
}

func byOutpoint(a, b wire.OutPoint) int { return bytes.Compare(outpointKey(a), outpointKey(b)) }

// cameIn takes from a line in which the VTXO came what it tells.
func (h *Holding) cameIn(e *Entry) {
	if (group{tx: e.Commitment}).id() != e.Delegate { // a renewal of ours
		if h.Origin == (vigil.DelegateID{}) {
			h.Origin, h.Commitment = e.Delegate, e.Commitment
		}
		h.Batch, h.came = e.Commitment, e.At
		return
	}
	if h.Origin != (vigil.DelegateID{}) {
		return
	}
	if h.Batch = e.Commitment; h.Batch == h.Outpoint.Hash {
		h.Batch = chainhash.Hash{}
	}
	h.came = e.At
}

// wentIn takes from a line in which the VTXO went what it tells.
func (h *Holding) wentIn(e *Entry) {
	if h.Fate == Unspent {
		return
	}
	for _, unroll := range []bool{false, true} {
		if (group{e.Commitment, unroll}).id() != e.Delegate {
			continue
		}
		if g, ours := h.wentBy(); ours && g == (group{e.Commitment, unroll}) {
			h.went = e.At
		}
		return
	}
	h.Renewed, h.went = e.Delegate, e.At
}

// plans writes when what was planned lapses.
func (r *repair) plans() error {
	return r.each(treePrepared, func(key, value []byte, damage error) error {
		if damage != nil {
			return nil
		}
		p, err := decodePlan(key, value)
		if err != nil {
			return err
		}
		return r.Put(treeLapses, lapseKey(p.NotBefore, key), nil)
	})
}

// requests writes when requests are forgotten, and counts them.
func (r *repair) requests() error {
	err := r.each(treeReplay, func(key, value []byte, damage error) error {
		name, _ := counted(key)
		r.numbers[name]++
		row := new(begun)
		if damage != nil || decodeRow(value, row) != nil {
			return nil
		}
		return r.Put(treeFresh, freshKey(row.Forget, key), nil)
	})
	if err != nil {
		return err
	}
	err = r.each(treeAnswers, func(_, value []byte, damage error) error {
		var a answer
		if damage == nil && decodeRow(value, &a) == nil {
			r.numbers[countAnswers] += uint64(len(a.Bytes))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.floor()
}

// floor mends the number that says how far requests were forgotten, which nothing
// else tells, when it is what cannot be read: it was no later than the pause before
// they are, and requests of before that are not fresh.
func (r *repair) floor() error {
	hit := false
	err := r.each(treeCounts, func(key, _ []byte, damage error) error {
		hit = hit || damage != nil && !r.countable(key)
		return nil
	})
	if err != nil || !hit {
		return err
	}
	was, err := readNumber(r, countFloor)
	if err != nil {
		return err
	}
	return putNumber(r, countFloor, max(was, uint64(max(r.at-linger, 0))))
}

// countedNames are the names of the numbers that count what there is.
func countedNames() []string {
	return []string{
		countRequests, countStrangers, countMembers, countAnswers, countOf(WalletPending), countOf(WalletActive), countOf(WalletDeleting),
	}
}
