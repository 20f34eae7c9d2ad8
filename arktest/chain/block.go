package chain

import (
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// medianBlocks is over how many blocks the median time is taken (BIP113).
const medianBlocks = 11

// headerWeight is a block's weight without transactions: 80 bytes of header and
// up to 9 of a count, none of them witness.
const headerWeight = 4 * (80 + 9)

func (c *Chain) tip() *block   { return c.blocks[len(c.blocks)-1] }
func (c *Chain) height() int32 { return int32(len(c.blocks)) - 1 }

// nextTime is the clock's, but never at or below the tip's median time.
func (c *Chain) nextTime() int64 { return max(c.clock.Now().Unix(), c.tip().median+1) }

// Mine mines n blocks with what the mempool holds, in order of acceptance.
func (c *Chain) Mine(n int) error {
	if n < 0 || n > MaxMine {
		return fmt.Errorf("%w: %d", ErrRange, n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		if err := c.mineAt(c.nextTime(), c.fit()); err != nil {
			return err
		}
	}
	return nil
}

// CatchUp mines until the median time of the tip has reached the clock, at most
// 11 blocks: relative and absolute time locks are then as old as the clock says.
func (c *Chain) CatchUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now().Unix()
	for i := 0; i < medianBlocks && c.tip().median < now; i++ {
		if err := c.mineAt(c.nextTime(), c.fit()); err != nil {
			return err
		}
	}
	return nil
}

// fit returns the mempool transactions that fill the next block. Since parents
// stand before children, whatever follows the first that does not fit waits.
func (c *Chain) fit() []*entry {
	weight := int64(headerWeight + 4_000) // room for the coinbase
	for i, e := range c.pool {
		if weight += e.weight; weight > MaxBlockWeight {
			return slices.Clone(c.pool[:i])
		}
	}
	return slices.Clone(c.pool)
}

// mineAt connects one block of mempool entries to the tip.
func (c *Chain) mineAt(unix int64, entries []*entry) error {
	if len(c.txs) >= c.maxTxs {
		return ErrFull
	}
	height := c.height() + 1
	var fees int64
	for _, e := range entries {
		fees += e.fee
	}
	coinbase, err := c.coinbase(height, fees, entries)
	if err != nil {
		return err
	}
	cb := &entry{tx: coinbase, id: coinbase.TxHash(), weight: Weight(coinbase)}
	b := &block{height: height, txs: append([]*entry{cb}, entries...)}
	ids := make([]chainhash.Hash, len(b.txs))
	for i, e := range b.txs {
		ids[i] = e.id
	}
	b.header = wire.BlockHeader{
		Version: 0x20000000, PrevBlock: c.tip().hash, MerkleRoot: merkleRoot(ids),
		Timestamp: time.Unix(unix, 0), Bits: c.params.PowLimitBits,
	}
	grind(&b.header)
	c.add(cb)
	c.connect(b)
	c.purse = append(c.purse, wire.OutPoint{Hash: cb.id})
	return nil
}

// grind finds a nonce for regtest's target 7fffff00…, a little stricter than
// need be: the hash's first byte (its last in memory) is below 7f.
func grind(h *wire.BlockHeader) {
	for {
		if hash := h.BlockHash(); hash[chainhash.HashSize-1] < 0x7f {
			return
		}
		h.Nonce++
	}
}

// connect makes b the tip; its transactions are indexed already.
func (c *Chain) connect(b *block) {
	b.hash = b.header.BlockHash()
	b.size, b.weight = 80+wire.VarIntSerializeSize(uint64(len(b.txs))), 0
	b.weight = 4 * int64(b.size)
	for i, e := range b.txs {
		e.block, e.pos = b, i
		b.size += e.tx.SerializeSize()
		b.weight += e.weight
	}
	times := []int64{b.header.Timestamp.Unix()}
	for i := len(c.blocks) - 1; i >= 0 && len(times) < medianBlocks; i-- {
		times = append(times, c.blocks[i].header.Timestamp.Unix())
	}
	slices.Sort(times)
	b.median = times[len(times)/2]
	c.blocks = append(c.blocks, b)
	c.byHash[b.hash] = b
	c.pool = slices.DeleteFunc(c.pool, func(e *entry) bool { return e.block != nil })
	for _, e := range b.txs {
		c.publish(Event{Kind: Confirmed, Tx: e.view(), Block: b.view()})
	}
	c.publish(Event{Kind: Connected, Block: b.view()})
}

func (c *Chain) connectGenesis() {
	g := c.params.GenesisBlock
	cb := g.Transactions[0].Copy()
	e := &entry{tx: cb, id: cb.TxHash(), weight: Weight(cb)}
	c.add(e)
	c.connect(&block{header: g.Header, txs: []*entry{e}})
}

func (c *Chain) coinbase(height int32, fees int64, entries []*entry) (*wire.MsgTx, error) {
	c.nonce++
	script, err := txscript.NewScriptBuilder().AddInt64(int64(height)).AddInt64(c.nonce).Script()
	if err != nil {
		return nil, fmt.Errorf("chain: coinbase script: %w", err)
	}
	var reserved [32]byte // BIP141's witness reserved value
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: wire.MaxPrevOutIndex}, script, wire.TxWitness{reserved[:]}))
	tx.AddTxOut(wire.NewTxOut(c.subsidy(height)+fees, minerScript()))
	ids := make([]chainhash.Hash, 1, len(entries)+1) // a coinbase counts as zero
	for _, e := range entries {
		ids = append(ids, e.tx.WitnessHash())
	}
	root := merkleRoot(ids)
	commitment := chainhash.DoubleHashB(append(root[:], reserved[:]...))
	tx.AddTxOut(wire.NewTxOut(0, append([]byte{txscript.OP_RETURN, 0x24, 0xaa, 0x21, 0xa9, 0xed}, commitment...)))
	return tx, nil
}

// subsidy is 50 BTC, halved every 150 blocks on regtest.
func (c *Chain) subsidy(height int32) int64 {
	halvings := height / c.params.SubsidyReductionInterval
	if halvings >= 63 {
		return 0
	}
	return 50 * 100_000_000 >> halvings
}

// merkleRoot hashes pairs up to the root, an odd last one with itself.
func merkleRoot(ids []chainhash.Hash) chainhash.Hash {
	level := slices.Clone(ids)
	for len(level) > 1 {
		if len(level)%2 == 1 {
			level = append(level, level[len(level)-1])
		}
		up := level[:0]
		for i := 0; i < len(level); i += 2 {
			up = append(up, chainhash.DoubleHashH(append(slices.Clone(level[i][:]), level[i+1][:]...)))
		}
		level = up
	}
	return level[0]
}

// Invalidate takes the last n blocks off the chain, as a reorganisation does
// before the other branch is mined. Their transactions return to the mempool,
// before those it holds; what is no longer valid there is evicted and returned.
func (c *Chain) Invalidate(n int) ([]Tx, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < 0 || n > int(c.height()) {
		return nil, fmt.Errorf("%w: %d of %d", ErrRange, n, c.height())
	}
	keep := len(c.blocks) - n
	var back []*entry
	var coinbases []*entry
	for _, b := range c.blocks[keep:] {
		coinbases = append(coinbases, b.txs[0])
		back = append(back, b.txs[1:]...)
	}
	for _, b := range slices.Backward(c.blocks[keep:]) {
		delete(c.byHash, b.hash)
		c.publish(Event{Kind: Disconnected, Block: b.view()})
	}
	c.blocks = c.blocks[:keep]
	back = append(back, c.pool...)
	c.pool = nil
	for _, e := range slices.Backward(back) {
		c.remove(e)
	}
	var dropped []Tx
	for _, e := range slices.Backward(coinbases) {
		c.remove(e)
		e.block = nil
		dropped = append(dropped, e.view())
		c.publish(Event{Kind: Evicted, Tx: e.view()})
	}
	for _, e := range back {
		if _, err := c.insert(e.tx, false); err != nil {
			e.block = nil
			dropped = append(dropped, e.view())
			c.publish(Event{Kind: Evicted, Tx: e.view()})
		}
	}
	c.refillPurse()
	return dropped, nil
}
