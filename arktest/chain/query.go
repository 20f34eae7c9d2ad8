package chain

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Tx is a transaction as the chain knows it.
type Tx struct {
	Txid      chainhash.Hash
	Msg       *wire.MsgTx // shared: not to be changed
	Height    int32       // -1 while unconfirmed
	BlockHash chainhash.Hash
	BlockTime time.Time
	Position  int       // in its block; 0 is the coinbase
	Seen      time.Time // when it was first accepted
	Fee       int64     // satoshis; 0 for a coinbase
	Weight    int64
	Seq       uint64 // order of acceptance
}

// Confirmed reports whether a block holds t.
func (t Tx) Confirmed() bool { return t.Height >= 0 }

// Coinbase reports whether t created coins.
func (t Tx) Coinbase() bool { return t.Height >= 0 && t.Position == 0 }

// Block is a block without its transactions' bytes.
type Block struct {
	Hash       chainhash.Hash
	Header     wire.BlockHeader
	Height     int32
	MedianTime time.Time
	Size       int // bytes
	Weight     int64
	Txids      []chainhash.Hash // shared: not to be changed
}

// UTXO is an output that neither chain nor mempool spends.
type UTXO struct {
	Outpoint wire.OutPoint
	Out      wire.TxOut
	Tx       Tx
}

func (e *entry) view() Tx {
	t := Tx{Txid: e.id, Msg: e.tx, Height: -1, Seen: e.seen, Fee: e.fee, Weight: e.weight, Seq: e.seq}
	if b := e.block; b != nil {
		t.Height, t.BlockHash, t.BlockTime, t.Position = b.height, b.hash, b.header.Timestamp, e.pos
	}
	return t
}

func (b *block) view() Block {
	ids := make([]chainhash.Hash, len(b.txs))
	for i, e := range b.txs {
		ids[i] = e.id
	}
	return Block{
		Hash: b.hash, Header: b.header, Height: b.height, MedianTime: time.Unix(b.median, 0),
		Size: b.size, Weight: b.weight, Txids: ids,
	}
}

// Params are regtest's.
func (c *Chain) Params() *chaincfg.Params { return c.params }

// Tip returns the last block.
func (c *Chain) Tip() Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tip().view()
}

// BlockAt returns the block of a height.
func (c *Chain) BlockAt(height int32) (Block, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if height < 0 || height > c.height() {
		return Block{}, false
	}
	return c.blocks[height].view(), true
}

// Block returns the block of a hash, if it is on the chain.
func (c *Chain) Block(hash chainhash.Hash) (Block, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.byHash[hash]
	if b == nil {
		return Block{}, false
	}
	return b.view(), true
}

// Tx returns a transaction of the chain or the mempool.
func (c *Chain) Tx(id chainhash.Hash) (Tx, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.txs[id]
	if e == nil {
		return Tx{}, false
	}
	return e.view(), true
}

// Confirmations counts the blocks from a transaction's own to the tip; 0 in the
// mempool. The bool says whether it is known at all.
func (c *Chain) Confirmations(id chainhash.Hash) (int32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.txs[id]
	switch {
	case e == nil:
		return 0, false
	case e.block == nil:
		return 0, true
	}
	return c.height() - e.block.height + 1, true
}

// Output returns an output, spent or not, of the chain or the mempool.
func (c *Chain) Output(op wire.OutPoint) (wire.TxOut, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.txs[op.Hash]
	if e == nil || uint64(op.Index) >= uint64(len(e.tx.TxOut)) {
		return wire.TxOut{}, false
	}
	return *e.tx.TxOut[op.Index], true
}

// Spender returns the transaction that spends an output, in chain or mempool.
func (c *Chain) Spender(op wire.OutPoint) (Tx, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, spent := c.spends[op]
	if !spent {
		return Tx{}, false
	}
	return c.txs[id].view(), true
}

// UTXOs returns a script's unspent outputs in the order they were accepted.
func (c *Chain) UTXOs(script []byte) []UTXO {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.utxos(script)
}

func (c *Chain) utxos(script []byte) []UTXO {
	var out []UTXO
	for _, e := range c.touching(script) {
		for i, o := range e.tx.TxOut {
			op := wire.OutPoint{Hash: e.id, Index: uint32(i)}
			if _, spent := c.spends[op]; spent || !bytes.Equal(o.PkScript, script) {
				continue
			}
			out = append(out, UTXO{Outpoint: op, Out: *o, Tx: e.view()})
		}
	}
	return out
}

// History returns the transactions that pay or spend a script, in the order
// they were accepted.
func (c *Chain) History(script []byte) []Tx {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Tx
	for _, e := range c.touching(script) {
		out = append(out, e.view())
	}
	return out
}

func (c *Chain) touching(script []byte) []*entry {
	var list []*entry
	for id := range c.scripts[string(script)] {
		list = append(list, c.txs[id])
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	return list
}

// Mempool returns the unconfirmed transactions, parents before children.
func (c *Chain) Mempool() []Tx {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Tx
	for _, e := range c.pool {
		out = append(out, e.view())
	}
	return out
}
