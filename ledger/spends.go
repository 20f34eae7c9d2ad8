package ledger

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/internal/canon"
)

// Spend is one signature that counts against a wallet's limits.
type Spend struct {
	Sighash [32]byte
	Amount  int64 // satoshis
	At      int64 // the ledger's
}

func (s *Spend) fields(c *canon.Coder) { c.Amount(&s.Amount, "amount") }

// Spending is what a wallet spent since some time.
type Spending struct {
	Amount int64              // satoshis, each sighash once
	Each   map[[32]byte]int64 // by sighash
	At     map[[32]byte]int64 // when each was counted last
}

// Verdict is what Decide writes.
type Verdict struct {
	Audit  []Link
	Spends []Spend         // one whose sighash is there already costs nothing twice
	Signed []wire.OutPoint // VTXOs of the wallet that something signed now may spend
	Leaves []Leaving
}

// Leaving is an intent signed now that pays on chain: for the history, in which the
// payment would pass for a fee.
type Leaving struct {
	Inputs        []wire.OutPoint
	Paid, Staying int64 // satoshis that leave Ark, without what comes into it at the same time, and that come back
}

const (
	// MaxSpends bounds the signatures that count in one window.
	MaxSpends = 4096
	// late is for how long spends stay beyond the window that was asked for, in
	// seconds: for clocks that are set back, and policies that lengthen it.
	late = 7 * 24 * 60 * 60
	// allMoney is more than any limit, in satoshis.
	allMoney int64 = 21_000_000 * 100_000_000
)

func spendKey(id vigil.WalletID, at int64, sighash [32]byte) []byte {
	return append(spendFrom(id, at), sighash[:]...)
}

func spendFrom(id vigil.WalletID, at int64) []byte {
	return binary.BigEndian.AppendUint64(under(id, nil), uint64(max(at, 0)))
}

func parseSpend(key, value []byte) (*Spend, error) {
	if len(key) != walletSize+8+32 {
		return nil, errKey
	}
	s := &Spend{At: int64(binary.BigEndian.Uint64(key[walletSize:]) & math.MaxInt64), Sighash: [32]byte(key[walletSize+8:])}
	return s, decodeRow(value, s)
}

// Decide calls judge with what the wallet spent since a time, and writes the
// audit's entries and the spends that it returns: one durable write, so that there
// is no decision without its record. judge may be called again and must have no
// other effect. Its error writes nothing.
func (l *Ledger) Decide(ctx context.Context, id vigil.WalletID, since int64, judge func(Spending) (Verdict, error)) error {
	return l.update(ctx, func(w writer) error {
		at := l.now().Unix()
		owner, err := loadWallet(w, id)
		if err == nil && owner.State == WalletDeleting {
			err = fmt.Errorf("%w: %s", ErrDeleting, id)
		}
		if err != nil {
			return err
		}
		spent, err := spentSince(w, id, since)
		if err != nil {
			return err
		}
		verdict, err := judge(spent)
		if err != nil {
			return err
		}
		for _, s := range verdict.Spends {
			if _, known := spent.Each[s.Sighash]; known {
				continue
			}
			if len(spent.Each) >= MaxSpends {
				return fmt.Errorf("%w: %d signatures in one window", ErrTooMany, len(spent.Each))
			}
			spent.Each[s.Sighash] = s.Amount
			if err := putRow(w, treeSpends, spendKey(id, at, s.Sighash), &s); err != nil {
				return err
			}
		}
		if err := noteSigned(w, id, verdict.Signed, func(h *Holding) { h.SignedAt = at }); err != nil {
			return err
		}
		for _, l := range verdict.Leaves {
			if err := noteSigned(w, id, l.Inputs, func(h *Holding) { h.Leaving, h.Staying = l.Paid, l.Staying }); err != nil {
				return err
			}
		}
		if err := dropSpends(w, id, min(since, at)-late); err != nil {
			return err
		}
		return appendAudit(w, verdict.Audit...)
	})
}

// noteSigned notes on the VTXOs that are known what was signed that may spend them.
func noteSigned(w writer, id vigil.WalletID, outpoints []wire.OutPoint, note func(*Holding)) error {
	for _, op := range outpoints {
		h, err := loadHolding(w, id, op)
		if err != nil {
			return err
		}
		if h == nil {
			continue
		}
		note(h)
		if err := putRow(w, treeHoldings, holdingKey(id, op), h); err != nil {
			return err
		}
	}
	return nil
}

// SpentSince returns what a wallet spent since a time.
func (l *Ledger) SpentSince(ctx context.Context, id vigil.WalletID, since int64) (Spending, error) {
	var spent Spending
	err := l.view(ctx, func(r reader) (err error) {
		spent, err = spentSince(r, id, since)
		return err
	})
	return spent, err
}

// spentSince counts. A row that cannot be read counts as all the money there is:
// whoever overlooked it would allow too much, and what needs no limit goes on.
func spentSince(r reader, id vigil.WalletID, since int64) (Spending, error) {
	spent := Spending{Each: make(map[[32]byte]int64), At: make(map[[32]byte]int64)}
	err := r.Scan(treeSpends, spendFrom(id, since), after(id[:]), func(key, value []byte, damage error) error {
		s, err := parseSpend(key, value)
		if damage != nil || err != nil {
			_ = r.damaged(treeSpends, key, cmp.Or(damage, err))
			s = &Spend{Amount: allMoney, At: math.MaxInt64}
		}
		spent.At[s.Sighash] = s.At // by ascending time
		if _, twice := spent.Each[s.Sighash]; !twice {
			spent.Each[s.Sighash] = s.Amount
			spent.Amount += s.Amount
		}
		return nil
	})
	return spent, err
}

// dropSpends forgets some of a wallet's spends of before a time.
func dropSpends(w writer, id vigil.WalletID, before int64) error {
	const page = 256
	return dropRange(w, treeSpends, id[:], spendFrom(id, before), page)
}
