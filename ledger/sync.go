package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
)

// MaxHoldings bounds the VTXOs that are kept of one wallet: strangers may send
// dust for as long as they like.
const MaxHoldings = 10_000

// sync is one PutVTXOs being written.
type sync struct {
	t       *transition
	out     *Synced
	wallet  *Wallet
	was     *Wallet // as it is stored
	all     map[wire.OutPoint]*Holding
	before  map[wire.OutPoint]Holding
	covers  map[vigil.DelegateID]*delegate.Record // nil: unreadable
	gone    map[vigil.DelegateID][]Gone           // what ends each
	evicted map[wire.OutPoint]bool                // gone ones that make room; nil: there is room
	touched map[group]bool                        // lines to be told anew
}

func (s *sync) run(id vigil.WalletID, seen []ark.VTXO) error {
	var err error
	if s.was, err = loadWallet(s.t.w, id); err != nil {
		return err
	}
	s.wallet = s.was.Clone()
	if s.wallet.State == WalletDeleting {
		return fmt.Errorf("%w: %s", ErrDeleting, id)
	}
	if err := s.load(); err != nil {
		return err
	}
	for i := range seen {
		if err := s.meet(&seen[i]); err != nil {
			return err
		}
	}
	if err := s.end(); err != nil {
		return err
	}
	if err := s.tell(); err != nil {
		return err
	}
	s.wallet.SyncedAt = s.t.at
	s.out.Wallet = s.wallet
	return s.write()
}

// stamp notes the time of a sync that changes nothing.
func (s *sync) stamp(id vigil.WalletID) error {
	var err error
	if s.was, err = loadWallet(s.t.w, id); err != nil {
		return err
	}
	s.wallet = s.was.Clone()
	if s.wallet.State == WalletDeleting {
		return fmt.Errorf("%w: %s", ErrDeleting, id)
	}
	s.wallet.SyncedAt = s.t.at
	s.out.Wallet = s.wallet
	return writeWallet(s.t.w, s.was, s.wallet)
}

// reviveHeld takes the fates of a wallet's VTXOs back, with what the history said
// of them. One that a renewal of ours spent is refused.
func (t *transition) reviveHeld(id vigil.WalletID, gone []*VTXO) error {
	owner, err := loadWallet(t.w, id)
	if err != nil {
		return err
	}
	s := &sync{t: t, out: new(Synced), wallet: owner, was: owner.Clone()}
	if err := s.load(); err != nil {
		return err
	}
	for _, v := range gone {
		h := s.all[v.Outpoint]
		if h == nil {
			continue // the row of the VTXO is all there is
		}
		if h.Renewed != (vigil.DelegateID{}) {
			return spentHere(v.Outpoint)
		}
		h.Fate, h.SpentBy, h.FateAt = Unspent, "", 0
	}
	if err := s.tell(); err != nil {
		return err
	}
	return s.write()
}

// load reads what the ledger knows, and the delegates over it.
func (s *sync) load() error {
	all, err := holdings(s.t.w, s.wallet.ID)
	if err != nil {
		return err
	}
	s.all = make(map[wire.OutPoint]*Holding, len(all))
	s.before = make(map[wire.OutPoint]Holding, len(all))
	s.covers = make(map[vigil.DelegateID]*delegate.Record)
	s.gone = make(map[vigil.DelegateID][]Gone)
	for i := range all {
		h := &all[i]
		s.all[h.Outpoint], s.before[h.Outpoint] = h, *h
		if err := s.cover(h); err != nil {
			return err
		}
	}
	return nil
}

// cover reads the delegate over a VTXO once.
func (s *sync) cover(h *Holding) error {
	if _, known := s.covers[h.Cover]; known || h.Cover == (vigil.DelegateID{}) {
		return nil
	}
	rec, err := load(s.t.w, h.Cover)
	if err != nil && !errors.Is(err, ErrUnreadable) && !errors.Is(err, ErrNotFound) {
		return err
	}
	s.covers[h.Cover] = rec
	return nil
}

// meet takes in what the indexer says of one VTXO.
func (s *sync) meet(v *ark.VTXO) error {
	if !slices.ContainsFunc(s.wallet.Scripts, func(b []byte) bool { return bytes.Equal(b, v.Script) }) {
		return nil
	}
	h, known := s.all[v.Outpoint]
	if !known {
		if (v.Spent || v.Unrolled) && v.CreatedAt < s.wallet.ForgotUntil || !s.room() {
			return nil
		}
		row, err := legibleVTXO(s.t.w, outpointKey(v.Outpoint))
		if err != nil {
			return err
		}
		h = &Holding{VTXO: VTXO{Outpoint: v.Outpoint}, SeenAt: s.t.at}
		if row != nil {
			h.VTXO = *row
		}
		if h.Origin != (vigil.DelegateID{}) {
			h.came = s.t.at // the renewal's own line tells
		}
		if err := s.cover(h); err != nil {
			return err
		}
		s.all[v.Outpoint] = h
	}
	h.Amount, h.Script, h.CreatedAt, h.ExpiresAt = v.Amount, v.Script, v.CreatedAt, v.ExpiresAt
	h.Preconfirmed = v.Preconfirmed
	if len(v.Assets) <= maxAssets {
		h.Assets = slices.Clone(v.Assets)
	}
	h.Batch = chainhash.Hash{}
	if !v.Preconfirmed && len(v.CommitmentTxs) > 0 {
		h.Batch = v.CommitmentTxs[0]
	}
	if v.Swept && !h.Swept && !v.Spent && !v.Unrolled {
		s.out.Swept = append(s.out.Swept, *h)
	}
	h.Swept = v.Swept
	s.fate(h, v)
	if !known && h.Fate == Unspent {
		s.out.New = append(s.out.New, *h)
	}
	return nil
}

// room says whether the wallet may have one more VTXO. When it is full, those that
// are gone make room, however short ago that was.
func (s *sync) room() bool {
	if len(s.all)-len(s.evicted) >= MaxHoldings && s.evicted == nil {
		s.evicted = make(map[wire.OutPoint]bool)
		for op, h := range s.all {
			if _, known := s.before[op]; known && h.forgettable(math.MaxInt64) {
				s.evicted[op] = true
			}
		}
	}
	return len(s.all)-len(s.evicted) < MaxHoldings
}

// fate takes in whether a VTXO is gone.
func (s *sync) fate(h *Holding, v *ark.VTXO) {
	var to Fate
	switch {
	case v.Spent:
		to = Spent
	case v.Unrolled:
		to = Unrolled
	case h.Renewed == (vigil.DelegateID{}):
		h.Fate, h.SpentBy, h.FateAt, h.went = Unspent, "", 0, 0 // the operator takes its word back
		return
	default:
		return
	}
	by := spender(v)
	if h.Fate != Unspent {
		if h.Renewed == (vigil.DelegateID{}) && by != "" {
			h.Fate, h.SpentBy = to, by
		}
		return
	}
	if h.Cover != (vigil.DelegateID{}) {
		if rec := s.covers[h.Cover]; rec == nil || rec.State.InFlight() || watches(rec, by) {
			s.out.Left = append(s.out.Left, h.Outpoint)
			return
		}
		s.gone[h.Cover] = append(s.gone[h.Cover], Gone{Outpoint: h.Outpoint, Unrolled: to == Unrolled, By: by})
	}
	h.Fate, h.SpentBy, h.FateAt = to, by, s.t.at
}

// spender is what spent a VTXO, as far as the indexer tells: the transaction that
// the owner would know it by.
func spender(v *ark.VTXO) string {
	for _, by := range []string{v.SettledBy, v.ArkTxid, v.SpentBy} {
		if by != "" && len(by) <= maxName {
			return by
		}
	}
	return ""
}

// watches says whether a delegate's own commitment may be what spent a VTXO.
func watches(rec *delegate.Record, by string) bool {
	c, err := chainhash.NewHashFromStr(by)
	return err == nil && *c != (chainhash.Hash{}) && (rec.Watches(*c) || rec.Commitment == *c)
}

// end ends the delegates over what is gone.
func (s *sync) end() error {
	for _, id := range slices.SortedFunc(maps.Keys(s.gone), func(a, b vigil.DelegateID) int { return bytes.Compare(a[:], b[:]) }) {
		rec, gone := s.covers[id], s.gone[id]
		event := delegate.InputSpent
		if gone[0].Unrolled {
			event = delegate.InputUnrolled
		}
		o, err := s.t.change(&Change{Prev: rec, Event: event, Gone: gone})
		if err != nil {
			return err
		}
		if o.Err != nil {
			return o.Err // read in this very write: a fault of ours
		}
		s.out.Ended = append(s.out.Ended, o.Record)
		for _, in := range rec.Inputs {
			row, err := legibleVTXO(s.t.w, outpointKey(in.Outpoint))
			if err != nil {
				return err
			}
			if h := s.all[in.Outpoint]; h != nil && row != nil {
				h.VTXO = *row
			}
		}
	}
	return nil
}

// write stores what changed, and lets go of what went long ago: until then exit
// data and old bodies stay, as the operator may take its word back.
func (s *sync) write() error {
	w, id := s.t.w, s.wallet.ID
	old := s.t.at - keepGone
	for op, h := range s.all {
		was, known := s.before[op]
		if h.Fate != Unspent && (!known || was.Fate == Unspent) {
			s.out.Gone = append(s.out.Gone, *h)
		}
		if s.evicted[op] {
			s.wallet.ForgotUntil = max(s.wallet.ForgotUntil, h.CreatedAt+1)
		}
		if s.evicted[op] || h.forgettable(old) {
			if err := dropBranchOf(w, &h.VTXO); err != nil {
				return err
			}
			if err := dropHolding(w, id, op); err != nil {
				return err
			}
			s.wallet.ForgotUntil = max(s.wallet.ForgotUntil, old)
			continue
		}
		if known && reflect.DeepEqual(was, *h) {
			continue
		}
		if err := h.put(w, id); err != nil {
			return err
		}
	}
	for i := range s.out.Gone {
		h := &s.out.Gone[i]
		g := Gone{Outpoint: h.Outpoint, Unrolled: h.Fate == Unrolled, By: h.SpentBy}
		if err := exhume(w, g, chainhash.Hash{}, s.t.at); err != nil {
			return err
		}
	}
	return writeWallet(w, s.was, s.wallet)
}

// forgettable says whether a VTXO was gone, and told of, before a time.
func (h *Holding) forgettable(before int64) bool {
	nobody := h.Cover == (vigil.DelegateID{}) && h.Next == (vigil.DelegateID{})
	return nobody && h.Fate != Unspent && h.came != 0 && h.went != 0 && max(h.FateAt, h.CreatedAt) < before
}

func dropHolding(w writer, id vigil.WalletID, op wire.OutPoint) error {
	if err := w.Delete(treeVTXOs, outpointKey(op)); err != nil {
		return err
	}
	return w.Delete(treeHoldings, holdingKey(id, op))
}
