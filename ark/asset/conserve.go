package asset

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
)

var (
	// ErrNotConserved is returned for a transaction that would lose, create or
	// pass on to strangers some of the assets that its inputs hold.
	ErrNotConserved = errors.New("asset: assets are not conserved")
	// ErrIssuance is returned for a transaction that issues an asset or more of
	// one.
	ErrIssuance = errors.New("asset: issuance")
)

// Holding is how much of an asset a coin holds.
type Holding struct {
	ID     ID
	Amount uint64
}

// HoldingsOf decodes what the operator says that a VTXO holds.
func HoldingsOf(v ark.VTXO) ([]Holding, error) {
	hs := make([]Holding, len(v.Assets))
	for i, a := range v.Assets {
		id, err := ParseID(a.AssetID)
		if err != nil {
			return nil, err
		}
		hs[i] = Holding{id, a.Amount}
	}
	return hs, nil
}

// ConservesAssets checks that a transaction passes every unit of every asset
// that its inputs hold (by input index; in a proof the first coin has index 1)
// on to outputs that keep allows, and touches no other asset. Its outputs are
// counted as they are, so that an extension must stand behind every output that
// it names: only then does the index mean the same output in the batch's leaf.
func ConservesAssets(tx *wire.MsgTx, held map[int][]Holding, keep func(out *wire.TxOut) bool) error {
	some := false
	for _, hs := range held {
		some = some || len(hs) > 0
	}
	at, ext, err := Find(tx.TxOut)
	if errors.Is(err, ErrNoExtension) {
		if some {
			return fmt.Errorf("%w: no extension", ErrNotConserved)
		}
		return nil
	}
	if err != nil {
		return err
	}
	packet, err := ext.Assets()
	if err != nil {
		return err
	}
	groups := make(map[ID]Group, len(packet))
	for i, g := range packet {
		if g.ID == nil {
			return fmt.Errorf("%w: group %d", ErrIssuance, i)
		}
		groups[*g.ID] = g
	}
	if err := everyHolding(held, groups); err != nil {
		return err
	}
	for _, g := range packet {
		if err := g.conserves(tx, at, held, keep); err != nil {
			return fmt.Errorf("asset %s: %w", g.ID, err)
		}
	}
	return nil
}

// everyHolding checks that the packet takes each holding whole.
func everyHolding(held map[int][]Holding, groups map[ID]Group) error {
	for vin, hs := range held {
		for _, h := range hs {
			found := false
			for _, in := range groups[h.ID].Inputs {
				found = found || int(in.Vin) == vin && in.Amount == h.Amount
			}
			if !found {
				return fmt.Errorf("%w: input %d's %d of %s", ErrNotConserved, vin, h.Amount, h.ID)
			}
		}
	}
	return nil
}

// conserves checks one group: inputs that are held, outputs that keep allows,
// and equal sums.
func (g Group) conserves(tx *wire.MsgTx, extension int, held map[int][]Holding, keep func(out *wire.TxOut) bool) error {
	var in, out sum
	for _, i := range g.Inputs {
		if i.Intent || !holds(held[int(i.Vin)], Holding{*g.ID, i.Amount}) {
			return fmt.Errorf("%w: input %d does not hold %d", ErrNotConserved, i.Vin, i.Amount)
		}
		in.add(i.Amount)
	}
	for _, o := range g.Outputs {
		if int(o.Vout) >= len(tx.TxOut) || int(o.Vout) >= extension || !keep(tx.TxOut[o.Vout]) {
			return fmt.Errorf("%w: output %d", ErrNotConserved, o.Vout)
		}
		out.add(o.Amount)
	}
	switch {
	case in.less(out):
		return ErrIssuance
	case out.less(in):
		return fmt.Errorf("%w: a part is burned", ErrNotConserved)
	}
	return nil
}

func holds(hs []Holding, h Holding) bool {
	for _, x := range hs {
		if x == h {
			return true
		}
	}
	return false
}

// sum adds amounts of 64 bits without overflow.
type sum struct{ high, low uint64 }

func (s *sum) add(v uint64) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, v, 0)
	s.high += carry
}

func (s sum) less(t sum) bool { return s.high < t.high || s.high == t.high && s.low < t.low }
