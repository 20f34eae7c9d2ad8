package chain

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Broadcast verifies tx and puts it in the mempool. A transaction that the
// mempool holds already is no error; see errors.go for the refusals. The chain
// keeps its own copy.
func (c *Chain) Broadcast(tx *wire.MsgTx) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.accept(tx)
	return err
}

// maxPackage is how many transactions a package may hold, as in Bitcoin Core.
const maxPackage = 25

// Package accepts parents and, last, their one child, all or none. Members that
// the mempool or the chain holds already are skipped; the child alone may replace
// another.
func (c *Chain) Package(txs ...*wire.MsgTx) error {
	if len(txs) == 0 || len(txs) > maxPackage {
		return fmt.Errorf("%w: %d transactions", ErrPackage, len(txs))
	}
	child := txs[len(txs)-1]
	for _, parent := range txs[:len(txs)-1] {
		id := parent.TxHash()
		if !slices.ContainsFunc(child.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint.Hash == id }) {
			return fmt.Errorf("%w: %s is no parent of the last", ErrPackage, id)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var added []*entry
	for i, tx := range txs {
		if e := c.txs[tx.TxHash()]; e != nil {
			continue
		}
		e, err := c.insert(tx, i == len(txs)-1)
		if err != nil {
			for _, e := range slices.Backward(added) {
				c.remove(e)
				c.pool = c.pool[:len(c.pool)-1]
			}
			return err
		}
		added = append(added, e)
	}
	for _, e := range added {
		c.publish(Event{Kind: Seen, Tx: e.view()})
	}
	return nil
}

// accept puts tx in the mempool and tells subscribers.
func (c *Chain) accept(tx *wire.MsgTx) (*entry, error) {
	if e := c.txs[tx.TxHash()]; e != nil {
		if e.block != nil {
			return nil, ErrConfirmed
		}
		return e, nil
	}
	e, err := c.insert(tx, true)
	if err != nil {
		return nil, err
	}
	c.publish(Event{Kind: Seen, Tx: e.view()})
	return e, nil
}

// insert verifies tx and puts it in the mempool, in place of others where it may
// replace them.
func (c *Chain) insert(tx *wire.MsgTx, replace bool) (*entry, error) {
	if len(c.txs) >= c.maxTxs {
		return nil, ErrFull
	}
	var direct []*entry
	var gone map[chainhash.Hash]bool
	if replace {
		direct, gone = c.replaced(tx)
	}
	fee, err := c.verify(tx, gone)
	if err != nil {
		return nil, err
	}
	if len(direct) > 0 {
		if err := c.checkReplacement(tx, fee, direct, gone); err != nil {
			return nil, err
		}
	}
	for _, e := range direct {
		if c.txs[e.id] == e { // not gone with another
			c.evict(e)
		}
	}
	tx = tx.Copy()
	e := &entry{tx: tx, id: tx.TxHash(), fee: fee, weight: Weight(tx)}
	c.add(e)
	c.pool = append(c.pool, e)
	return e, nil
}

// evict drops a mempool transaction and all that spend from it.
func (c *Chain) evict(e *entry) {
	for i := range e.tx.TxOut {
		if by, spent := c.spends[wire.OutPoint{Hash: e.id, Index: uint32(i)}]; spent {
			c.evict(c.txs[by])
		}
	}
	c.pool = slices.DeleteFunc(c.pool, func(o *entry) bool { return o == e })
	v := e.view()
	c.remove(e)
	c.publish(Event{Kind: Evicted, Tx: v})
}

// MineTxs mines one block that holds exactly txs, parents first, evicting
// whatever the mempool holds against them: it is how a test confirms the other
// one of two conflicting transactions. A parent that is neither confirmed nor
// among txs is ErrMissingOrSpent.
func (c *Chain) MineTxs(txs ...*wire.MsgTx) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	chosen := make([]*entry, 0, len(txs))
	inBlock := map[chainhash.Hash]bool{}
	for _, tx := range txs {
		id := tx.TxHash()
		for _, in := range tx.TxIn {
			op := in.PreviousOutPoint
			if by, spent := c.spends[op]; spent && by != id && c.txs[by].block == nil {
				if inBlock[by] {
					return &ConflictError{Outpoint: op, By: by}
				}
				c.evict(c.txs[by])
			}
			if prev := c.txs[op.Hash]; prev != nil && prev.block == nil && !inBlock[op.Hash] {
				return fmt.Errorf("%w: %s is unconfirmed", ErrMissingOrSpent, op.Hash)
			}
		}
		e, err := c.accept(tx)
		if err != nil {
			return err
		}
		inBlock[id] = true
		chosen = append(chosen, e)
	}
	return c.mineAt(c.nextTime(), chosen)
}
