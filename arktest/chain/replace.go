package chain

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// replaceable is the version whose transactions the mempool lets be replaced
	// (BIP431); a conflict over any other is refused, for a test to decide.
	replaceable = 3
	// incremental is what a replacement pays on top, in satoshis per virtual byte of
	// its own: Bitcoin Core's default incremental relay fee.
	incremental = 1
)

// replaced are the mempool transactions that tx would take the place of, and all
// that spend from them; none when one of them may not be replaced.
func (c *Chain) replaced(tx *wire.MsgTx) (direct []*entry, all map[chainhash.Hash]bool) {
	all = map[chainhash.Hash]bool{}
	for _, in := range tx.TxIn {
		by, spent := c.spends[in.PreviousOutPoint]
		if !spent || c.txs[by].block != nil || all[by] {
			continue
		}
		e := c.txs[by]
		if tx.Version != replaceable || e.tx.Version != replaceable {
			return nil, nil
		}
		direct = append(direct, e)
		c.descend(e, all)
	}
	return direct, all
}

// descend adds e and all that spend from it.
func (c *Chain) descend(e *entry, all map[chainhash.Hash]bool) {
	all[e.id] = true
	for i := range e.tx.TxOut {
		if by, spent := c.spends[wire.OutPoint{Hash: e.id, Index: uint32(i)}]; spent && !all[by] {
			c.descend(c.txs[by], all)
		}
	}
}

// checkReplacement holds BIP125's rules on fees: more than all that goes, by as
// much as relaying the new one costs, and a higher rate than each that it spends
// against.
func (c *Chain) checkReplacement(tx *wire.MsgTx, fee int64, direct []*entry, all map[chainhash.Hash]bool) error {
	var gone int64
	for id := range all {
		gone += c.txs[id].fee
	}
	weight := Weight(tx)
	if least := gone + incremental*((weight+3)/4); fee < least {
		return fmt.Errorf("%w, rejecting replacement %s: %d < %d", ErrReplacement, tx.TxHash(), fee, least)
	}
	for _, e := range direct {
		if fee*e.weight <= e.fee*weight {
			return fmt.Errorf("%w, rejecting replacement %s: no higher fee rate than %s", ErrReplacement, tx.TxHash(), e.id)
		}
	}
	return nil
}
