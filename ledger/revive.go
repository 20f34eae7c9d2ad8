package ledger

import (
	"bytes"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// That a coin is spent or unrolled by something that is not ours is the operator's
// word alone. When it reports the coin as unspent at a later intake, it has taken
// that back, and the owner must not be left without a delegate for it. What the
// word ended stays as it was, and gives way to the newer delegate as a replaced one
// does, which also watches the commitments that the older gave forfeits for.

// revive takes the fates back that the submission of rec disproves: the operator
// has just reported every input of it as unspent. It refuses an input that was
// renewed here, and one that was said to be gone when, or after, rec was checked.
func (t *transition) revive(rec *delegate.Record) error {
	var gone []*VTXO
	for _, in := range rec.Inputs {
		v, err := loadVTXO(t.w, outpointKey(in.Outpoint))
		if err != nil {
			return err
		}
		if v == nil || v.Fate == Unspent {
			continue
		}
		if v.FateAt >= rec.CreatedAt {
			return spentHere(in.Outpoint)
		}
		gone = append(gone, v)
	}
	ended, err := t.endedOver(rec, gone)
	if err != nil {
		return err
	}
	for _, older := range ended {
		if err := t.revoke(older, rec); err != nil {
			return err
		}
	}
	if len(gone) > 0 && rec.Kind == delegate.Wallet {
		if err := t.reviveHeld(rec.Wallet, gone); err != nil {
			return err
		}
	}
	for _, v := range gone {
		v.Fate, v.SpentBy, v.FateAt = Unspent, "", 0
		if err := putRow(t.w, treeVTXOs, outpointKey(v.Outpoint), v); err != nil {
			return err
		}
	}
	return nil
}

func spentHere(op wire.OutPoint) error {
	return vigil.Errorf(vigil.CodeInputSpent, "%s was already renewed or spent, as far as this server knows", op)
}

// endedOver returns the delegates that ended by what was said of gone, and refuses
// when one of those coins was renewed.
func (t *transition) endedOver(rec *delegate.Record, gone []*VTXO) ([]*delegate.Record, error) {
	var ended []*delegate.Record
	var seen [][]byte
	for _, in := range rec.Inputs {
		if !slices.ContainsFunc(gone, func(v *VTXO) bool { return v.Outpoint == in.Outpoint }) ||
			slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, in.Script) }) {
			continue
		}
		seen = append(seen, in.Script)
		var ids []vigil.DelegateID
		prefix := scriptPrefix(in.Script, classEnded)
		err := t.w.Scan(treeScripts, prefix, after(prefix), func(key, _ []byte, damage error) error {
			if damage == nil && len(key) == len(prefix)+idSize {
				ids = append(ids, vigil.DelegateID(key[len(prefix):]))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			older, err := load(t.w, id)
			if errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNotFound) {
				continue // marked
			}
			if err != nil {
				return nil, err
			}
			at := slices.IndexFunc(gone, func(v *VTXO) bool { return older.Spends(v.Outpoint) })
			switch {
			case at < 0:
			case older.State == delegate.Settled:
				return nil, spentHere(gone[at].Outpoint)
			case older.State == delegate.Spent || older.State == delegate.Broken:
				if !slices.ContainsFunc(ended, func(r *delegate.Record) bool { return r.ID == id }) {
					ended = append(ended, older)
				}
			}
		}
	}
	return ended, nil
}

// revoke makes a delegate that the operator's word ended one that newer replaced.
func (t *transition) revoke(older, newer *delegate.Record) error {
	ended := older.Clone()
	ended.WatchCommitment(t.at) // its forfeits were out when it ended
	ended.State, ended.StateSince, ended.Version, ended.ReplacedBy = delegate.Replaced, t.at, older.Version+1, newer.ID
	ended.Fail("INPUT_NOT_SPENT", "the operator said that an input was spent or on chain, and later that it is not", t.at)
	if err := write(t.w, older, ended); err != nil {
		return err
	}
	newer.AddWatched(ended.Watch...)
	return bury(t.w, ended)
}
