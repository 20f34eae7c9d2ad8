package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// The types of lines in a wallet's history.
const (
	LineSettle  = "settle"  // VTXOs became others in a batch; the fee is what did not come back
	LineReceive = "receive" // the amount came
	LineSend    = "send"    // the amount went, without what came back
	LineExit    = "exit"    // the amount left Ark on chain, out of a batch that the wallet joined for that
	LineUnroll  = "unroll"  // the amount is on chain, under the wallet's own script
)

// group is what one line is about: one transaction, as seen by its wallet. What a
// renewal of ours did has a line of its own, which Settle writes.
type group struct {
	tx     chainhash.Hash
	unroll bool
}

// cameBy is the group in which a VTXO came, and whether a line of its own tells.
func (h *Holding) cameBy() (group, bool) {
	if h.Origin != (vigil.DelegateID{}) {
		return group{}, false
	}
	if h.Batch != (chainhash.Hash{}) {
		return group{tx: h.Batch}, true
	}
	return group{tx: h.Outpoint.Hash}, true
}

// wentBy is the group in which it went.
func (h *Holding) wentBy() (group, bool) {
	switch {
	case h.Fate == Unspent, h.Renewed != (vigil.DelegateID{}):
		return group{}, false
	case h.Fate == Unrolled:
		return group{tx: h.Outpoint.Hash, unroll: true}, true
	}
	if tx, err := chainhash.NewHashFromStr(h.SpentBy); err == nil && h.SpentBy != "" {
		return group{tx: *tx}, true
	}
	key := append(outpointKey(h.Outpoint), h.SpentBy...)
	return group{tx: sha256.Sum256(key)}, true
}

// id names the line of a group.
func (g group) id() vigil.DelegateID {
	b := append([]byte("line"), g.tx[:]...)
	if g.unroll {
		b = append(b, 1)
	}
	sum := sha256.Sum256(b)
	return vigil.DelegateID(sum[:])
}

// members are the VTXOs that one line is about.
type members struct {
	at      int64 // the time of the line; 0: it is new
	ins     []*Holding
	outs    []*Holding
	touched bool
}

// tell brings the lines of history in step with what came and went. A line keeps
// its time when more is learned of what it tells.
func (s *sync) tell() error {
	if err := s.retract(); err != nil {
		return err
	}
	waits := s.ownCommitments()
	groups := make(map[group]*members)
	of := func(g group) *members {
		if groups[g] == nil {
			groups[g] = new(members)
		}
		return groups[g]
	}
	for _, op := range s.outpoints() {
		h := s.all[op]
		if g, ours := h.cameBy(); ours && !(h.came == 0 && waits[h.Batch]) {
			m := of(g)
			m.outs = append(m.outs, h)
			m.note(h.came, s.touched[g])
		}
		if g, ours := h.wentBy(); ours {
			m := of(g)
			m.ins = append(m.ins, h)
			m.note(h.went, s.touched[g])
		}
	}
	for g, m := range groups {
		if !m.touched {
			continue
		}
		if m.at == 0 {
			m.at = s.t.at
		}
		for _, h := range m.outs {
			h.came = m.at
		}
		for _, h := range m.ins {
			h.went = m.at
		}
		e := m.line(g)
		if err := putRow(s.t.w, treeHistory, lineKey(s.wallet.ID, m.at, e.Delegate), e); err != nil {
			return err
		}
	}
	return nil
}

// note takes in the time at which a member was told of; 0 is not yet.
func (m *members) note(told int64, touched bool) {
	m.touched = m.touched || told == 0 || touched
	if told != 0 && (m.at == 0 || told < m.at) {
		m.at = told
	}
}

// retract deletes the lines of which a member is told of elsewhere now, or is not
// gone after all, and finds those of which a member changed: what is left of them
// is told anew, at the same time.
func (s *sync) retract() error {
	s.touched = make(map[group]bool)
	for op, was := range s.before {
		h := s.all[op]
		if g, ours := was.cameBy(); ours && was.came != 0 {
			now, still := h.cameBy()
			if !still || now != g {
				if err := s.drop(g, was.came); err != nil {
					return err
				}
				h.came = 0
			}
			s.touched[g] = s.touched[g] || !still || now != g || was.Amount != h.Amount
		}
		if g, ours := was.wentBy(); ours && was.went != 0 {
			now, still := h.wentBy()
			if !still || now != g {
				if err := s.drop(g, was.went); err != nil {
					return err
				}
				h.went = 0
			}
			s.touched[g] = s.touched[g] || !still || now != g || was.Amount != h.Amount
		}
	}
	return nil
}

func (s *sync) drop(g group, at int64) error {
	return s.t.w.Delete(treeHistory, lineKey(s.wallet.ID, at, g.id()))
}

// ownCommitments are those of the renewals over the wallet's VTXOs that are not
// over: what came of them is for Settle to tell.
func (s *sync) ownCommitments() map[chainhash.Hash]bool {
	all := make(map[chainhash.Hash]bool)
	for _, rec := range s.covers {
		if rec == nil {
			continue
		}
		for _, w := range rec.Watch {
			all[w.Commitment] = true
		}
		if rec.Commitment != (chainhash.Hash{}) {
			all[rec.Commitment] = true
		}
	}
	return all
}

// outpoints lists the wallet's VTXOs in order.
func (s *sync) outpoints() []wire.OutPoint {
	list := make([]wire.OutPoint, 0, len(s.all))
	for op := range s.all {
		list = append(list, op)
	}
	slices.SortFunc(list, func(a, b wire.OutPoint) int { return bytes.Compare(outpointKey(a), outpointKey(b)) })
	return list
}

// line is what the history says of a group.
func (m *members) line(g group) *Entry {
	e := &Entry{Delegate: g.id(), Commitment: g.tx, At: m.at, Type: LineReceive}
	var in, out int64
	batch := false
	leaving, staying := int64(0), int64(-1)
	for _, h := range m.ins {
		in += h.Amount
		if h.Leaving > 0 {
			leaving, staying = h.Leaving, h.Staying
		}
		if len(e.Inputs) < delegate.MaxInputs {
			e.Inputs = append(e.Inputs, h.Outpoint)
		}
	}
	for _, h := range m.outs {
		out += h.Amount
		batch = batch || h.Batch == g.tx
		if len(e.Leaves) < delegate.MaxOutputs {
			e.Leaves = append(e.Leaves, h.Outpoint)
		}
	}
	switch {
	case g.unroll:
		e.Type, e.Amount = LineUnroll, in
	case staying == out && in-out >= leaving: // no other intent over these coins leaves the same
		e.Type, e.Amount, e.Fee = LineExit, leaving, in-out-leaving
	case in == 0 || !batch && out > in:
		e.Amount = out - in
	case batch:
		e.Type, e.Amount, e.Fee = LineSettle, in, max(in-out, 0)
	default:
		e.Type, e.Amount = LineSend, in-out
	}
	return e
}

func lineKey(id vigil.WalletID, at int64, line vigil.DelegateID) []byte {
	return under(id, timeKey(at, line))
}

// HistoryOf returns at most limit lines of a wallet's history, oldest first, and
// the cursor to go on with, nil when there are no more.
func (l *Ledger) HistoryOf(ctx context.Context, id vigil.WalletID, limit int, from Cursor) ([]Entry, Cursor, error) {
	var lines []Entry
	var rest Cursor
	if len(from) == 0 {
		from = id[:]
	} else if !bytes.HasPrefix(from, id[:]) {
		return nil, nil, fmt.Errorf("%w: a cursor of another list", ErrNotFound)
	}
	err := l.view(ctx, func(r reader) error {
		lines, rest = nil, nil
		return eachLine(r, from, after(id[:]), func(key []byte, e *Entry) error {
			if len(lines) == max(limit, 1) {
				rest = bytes.Clone(key)
				return kv.ErrStop
			}
			lines = append(lines, *e)
			return nil
		})
	})
	return lines, rest, err
}

// eachLine calls f for every line in a range that can be read.
func eachLine(r reader, from, to []byte, f func(key []byte, e *Entry) error) error {
	return r.Scan(treeHistory, from, to, func(key, value []byte, damage error) error {
		if damage != nil {
			return nil // marked
		}
		e, err := decodeEntry(key, value)
		if err != nil {
			_ = r.damaged(treeHistory, key, err)
			return nil
		}
		return f(key, e)
	})
}

// tail returns the last lines of a wallet's history. The store reads forwards only,
// so it looks back further and further.
func tail(r reader, w *Wallet, at int64, limit int) ([]Entry, error) {
	for back := int64(7 * 24 * 60 * 60); ; back *= 8 {
		var lines []Entry
		from := at - back
		err := eachLine(r, lineKey(w.ID, from, vigil.DelegateID{}), after(w.ID[:]), func(_ []byte, e *Entry) error {
			if lines = append(lines, *e); len(lines) > 2*limit {
				lines = slices.Delete(lines, 0, limit)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(lines) >= limit || from <= 0 {
			return lines[max(len(lines)-limit, 0):], nil
		}
	}
}
