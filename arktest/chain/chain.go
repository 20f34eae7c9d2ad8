// Package chain owns a regtest Bitcoin chain in memory: blocks, mempool, coins
// and a faucet, with every spend verified by the script engine. It must not
// know Ark, nor any transport.
//
// The rules kept are those of consensus that an Ark operator, a wallet and a
// watcher can run into: inputs exist and are unspent, values add up, absolute
// and relative locks (BIP65, BIP68, BIP112, BIP113) against height and median
// time of a clock that the caller owns, scripts under the standard verification
// flags, taproot included. Relay policy is left out on purpose: zero-fee
// parents with a pay-to-anchor output are accepted alone, and only transactions of
// version 3 are replaced, by one that pays for it (BIP125), so that a test decides
// by itself which of two others that conflict confirms (MineTxs).
package chain

import (
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Clock tells the time that new blocks are stamped with.
type Clock interface{ Now() time.Time }

// SystemClock is the wall clock (the bubble's clock inside testing/synctest).
type SystemClock struct{}

// Now returns time.Now().
func (SystemClock) Now() time.Time { return time.Now() }

// ManualClock stands still until it is moved. It is safe for concurrent use.
type ManualClock struct {
	mu  sync.Mutex
	now time.Time
}

// NewManualClock returns a clock that shows t.
func NewManualClock(t time.Time) *ManualClock { return &ManualClock{now: t} }

// Now returns the time shown.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock; d may be negative.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Limits that keep a chain in memory bounded.
const (
	// MaxTxWeight is the standard limit of one transaction, in weight units.
	MaxTxWeight = 400_000
	// MaxBlockWeight is the consensus limit of a block, in weight units.
	MaxBlockWeight = 4_000_000
	// MaxMine is how many blocks one call may mine.
	MaxMine = 10_000
	// defaultMaxTxs bounds all transactions held, confirmed or not: about 1 GB at
	// the sizes that Ark's transactions have.
	defaultMaxTxs = 1_000_000
	// defaultBlocks are mined at the start, so that the faucet has coins. The
	// regtest subsidy halves every 150 blocks: 110 give 5,500 BTC.
	defaultBlocks = 110
)

// Config of a chain; the zero value works.
type Config struct {
	// Clock stamps blocks; nil is the system clock.
	Clock Clock
	// CoinbaseMaturity is how deep a coinbase output must be to be spent; 0 lets it
	// be spent at once.
	CoinbaseMaturity int32
	// Blocks are mined at the start; 0 means 110 (plus CoinbaseMaturity).
	Blocks int
	// MaxTxs bounds the transactions held; 0 means 1,000,000.
	MaxTxs int
}

// Chain is a chain with its mempool. It is safe for concurrent use.
type Chain struct {
	clock    Clock
	maturity int32
	maxTxs   int
	params   *chaincfg.Params

	mu      sync.Mutex
	blocks  []*block // by height
	byHash  map[chainhash.Hash]*block
	txs     map[chainhash.Hash]*entry
	spends  map[wire.OutPoint]chainhash.Hash
	scripts map[string]map[chainhash.Hash]struct{} // transactions that touch a script
	pool    []*entry                               // order of acceptance: parents first
	seq     uint64
	nonce   int64 // makes every coinbase differ, also of equal height after a reorg
	purse   []wire.OutPoint
	subs    map[*Subscription]struct{}
}

// entry is a transaction that the chain or the mempool holds.
type entry struct {
	tx     *wire.MsgTx
	id     chainhash.Hash
	seq    uint64
	fee    int64
	weight int64
	seen   time.Time
	block  *block // nil while unconfirmed
	pos    int    // position in block
}

type block struct {
	hash   chainhash.Hash
	header wire.BlockHeader
	height int32
	median int64 // median time past of this block, unix seconds
	size   int
	weight int64
	txs    []*entry
}

// New returns a chain with its first blocks mined.
func New(cfg Config) (*Chain, error) {
	c := &Chain{
		clock: cfg.Clock, maturity: cfg.CoinbaseMaturity, maxTxs: cfg.MaxTxs,
		params:  &chaincfg.RegressionNetParams,
		byHash:  map[chainhash.Hash]*block{},
		txs:     map[chainhash.Hash]*entry{},
		spends:  map[wire.OutPoint]chainhash.Hash{},
		scripts: map[string]map[chainhash.Hash]struct{}{},
		subs:    map[*Subscription]struct{}{},
	}
	if c.clock == nil {
		c.clock = SystemClock{}
	}
	if c.maxTxs == 0 {
		c.maxTxs = defaultMaxTxs
	}
	n := cfg.Blocks
	if n == 0 {
		n = defaultBlocks + int(cfg.CoinbaseMaturity)
	}
	if n < 0 || n > MaxMine {
		return nil, fmt.Errorf("chain: %d first blocks: must be 0 to %d", n, MaxMine)
	}
	c.connectGenesis()
	// One second apart and ending now: the median time then lags by seconds only,
	// as it does on a regtest node that mines on its own.
	start := c.clock.Now().Unix() - int64(n)
	for i := range n {
		if err := c.mineAt(start+int64(i), nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// add indexes a transaction; the caller has verified it.
func (c *Chain) add(e *entry) {
	c.seq++
	e.seq, e.seen = c.seq, c.clock.Now()
	c.txs[e.id] = e
	for _, in := range e.tx.TxIn {
		prev := c.txs[in.PreviousOutPoint.Hash]
		if prev == nil {
			continue // a coinbase's null input
		}
		c.spends[in.PreviousOutPoint] = e.id
		c.touch(prev.tx.TxOut[in.PreviousOutPoint.Index].PkScript, e.id)
	}
	for _, out := range e.tx.TxOut {
		c.touch(out.PkScript, e.id)
	}
}

func (c *Chain) touch(script []byte, id chainhash.Hash) {
	m := c.scripts[string(script)]
	if m == nil {
		m = map[chainhash.Hash]struct{}{}
		c.scripts[string(script)] = m
	}
	m[id] = struct{}{}
}

// remove undoes add. Transactions that spend e's outputs are removed before it.
func (c *Chain) remove(e *entry) {
	forget := func(script []byte) {
		m := c.scripts[string(script)]
		delete(m, e.id)
		if len(m) == 0 {
			delete(c.scripts, string(script))
		}
	}
	for _, in := range e.tx.TxIn {
		prev := c.txs[in.PreviousOutPoint.Hash]
		if prev == nil {
			continue
		}
		if c.spends[in.PreviousOutPoint] == e.id {
			delete(c.spends, in.PreviousOutPoint)
		}
		forget(prev.tx.TxOut[in.PreviousOutPoint.Index].PkScript)
	}
	for _, out := range e.tx.TxOut {
		forget(out.PkScript)
	}
	delete(c.txs, e.id)
}
