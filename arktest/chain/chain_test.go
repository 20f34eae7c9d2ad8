package chain_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

var epoch = time.Unix(1_800_000_000, 0)

func newChain(t *testing.T, cfg chain.Config) (*chain.Chain, *chain.ManualClock) {
	t.Helper()
	clock := chain.NewManualClock(epoch)
	cfg.Clock = clock
	c, err := chain.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, clock
}

// coin is a P2TR output whose one leaf is <sequence> CSV DROP <key> CHECKSIG,
// or just <key> CHECKSIG for sequence 0.
type coin struct {
	key    *btcec.PrivateKey
	leaf   txscript.TapLeaf
	ctrl   []byte
	script []byte
	op     wire.OutPoint
	value  int64
}

func newCoin(t *testing.T, c *chain.Chain, sequence uint32, sats int64) *coin {
	t.Helper()
	key, pub := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))
	b := txscript.NewScriptBuilder()
	if sequence > 0 {
		b.AddInt64(int64(sequence)).AddOp(txscript.OP_CHECKSEQUENCEVERIFY).AddOp(txscript.OP_DROP)
	}
	leafScript, err := b.AddData(schnorr.SerializePubKey(pub)).AddOp(txscript.OP_CHECKSIG).Script()
	if err != nil {
		t.Fatal(err)
	}
	leaf := txscript.NewBaseTapLeaf(leafScript)
	tree := txscript.AssembleTaprootScriptTree(leaf)
	root := tree.RootNode.TapHash()
	proof := tree.LeafMerkleProofs[0].ToControlBlock(pub)
	ctrl, err := proof.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	script, err := txscript.PayToTaprootScript(txscript.ComputeTaprootOutputKey(pub, root[:]))
	if err != nil {
		t.Fatal(err)
	}
	op, err := c.Faucet(script, sats)
	if err != nil {
		t.Fatal(err)
	}
	return &coin{key: key, leaf: leaf, ctrl: ctrl, script: script, op: op, value: sats}
}

// spend returns the coin's signed spend; edit runs before signing.
func (k *coin) spend(t *testing.T, sequence uint32, edit func(*wire.MsgTx)) *wire.MsgTx {
	t.Helper()
	tx := wire.NewMsgTx(2)
	in := wire.NewTxIn(&k.op, nil, nil)
	in.Sequence = sequence
	tx.AddTxIn(in)
	tx.AddTxOut(wire.NewTxOut(k.value-1000, k.script))
	if edit != nil {
		edit(tx)
	}
	prevs := txscript.NewCannedPrevOutputFetcher(k.script, k.value)
	sig, err := txscript.RawTxInTapscriptSignature(tx, txscript.NewTxSigHashes(tx, prevs), 0, k.value, k.script, k.leaf, txscript.SigHashDefault, k.key)
	if err != nil {
		t.Fatal(err)
	}
	tx.TxIn[0].Witness = wire.TxWitness{sig, k.leaf.Script, k.ctrl}
	return tx
}

func mine(t *testing.T, c *chain.Chain, n int) {
	t.Helper()
	if err := c.Mine(n); err != nil {
		t.Fatal(err)
	}
}

func broadcast(t *testing.T, c *chain.Chain, tx *wire.MsgTx) {
	t.Helper()
	if err := c.Broadcast(tx); err != nil {
		t.Fatal(err)
	}
}

func TestEveryRuleRefuses(t *testing.T) {
	p2a := func(tx *wire.MsgTx) { tx.AddTxOut(wire.NewTxOut(0, txscript.PayToAnchorScript)) }
	tests := []struct {
		name  string
		edit  func(*wire.MsgTx)
		after func(*wire.MsgTx) // after signing
		want  error
	}{
		{name: "honest"},
		{name: "version 3, zero fee, anchor", edit: func(tx *wire.MsgTx) {
			tx.Version = 3
			tx.TxOut[0].Value += 1000
			p2a(tx)
		}},
		{name: "no inputs", after: func(tx *wire.MsgTx) { tx.TxIn = nil }, want: chain.ErrMalformed},
		{name: "no outputs", after: func(tx *wire.MsgTx) { tx.TxOut = nil }, want: chain.ErrMalformed},
		{name: "duplicate input", after: func(tx *wire.MsgTx) { tx.TxIn = append(tx.TxIn, tx.TxIn[0]) }, want: chain.ErrMalformed},
		{name: "negative value", after: func(tx *wire.MsgTx) { tx.TxOut[0].Value = -1 }, want: chain.ErrMalformed},
		{name: "sum overflows", after: func(tx *wire.MsgTx) {
			tx.TxOut[0].Value = 21e14
			tx.AddTxOut(wire.NewTxOut(1, nil))
		}, want: chain.ErrMalformed},
		{name: "coinbase", after: func(tx *wire.MsgTx) {
			tx.TxIn[0].PreviousOutPoint = wire.OutPoint{Index: wire.MaxPrevOutIndex}
		}, want: chain.ErrMalformed},
		{name: "overweight", after: func(tx *wire.MsgTx) {
			tx.TxOut[0].PkScript = make([]byte, chain.MaxTxWeight/4)
		}, want: chain.ErrMalformed},
		{name: "unknown input", after: func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Hash[0] ^= 1 }, want: chain.ErrMissingOrSpent},
		{name: "unknown output", after: func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index = 9 }, want: chain.ErrMissingOrSpent},
		{name: "out above in", edit: func(tx *wire.MsgTx) { tx.TxOut[0].Value += 1001 }, want: chain.ErrValue},
		{name: "signature of another amount", after: func(tx *wire.MsgTx) { tx.TxOut[0].Value-- }, want: chain.ErrScript},
		{name: "no witness", after: func(tx *wire.MsgTx) { tx.TxIn[0].Witness = nil }, want: chain.ErrScript},
		{name: "wrong control block", after: func(tx *wire.MsgTx) { tx.TxIn[0].Witness[2][1] ^= 1 }, want: chain.ErrScript},
		{name: "lock time height", edit: func(tx *wire.MsgTx) {
			tx.LockTime, tx.TxIn[0].Sequence = 500, wire.MaxTxInSequenceNum-1
		}, want: chain.ErrNotFinal},
		{name: "lock time ignored by a final sequence", edit: func(tx *wire.MsgTx) { tx.LockTime = 500 }},
		{name: "lock time reached", edit: func(tx *wire.MsgTx) {
			tx.LockTime, tx.TxIn[0].Sequence = 10, wire.MaxTxInSequenceNum-1
		}},
		{name: "lock time clock", edit: func(tx *wire.MsgTx) {
			tx.LockTime, tx.TxIn[0].Sequence = uint32(epoch.Unix()), wire.MaxTxInSequenceNum-1
		}, want: chain.ErrNotFinal},
		{name: "relative blocks", edit: func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = 3 }, want: chain.ErrSequenceLock},
		{name: "relative blocks in version 1", edit: func(tx *wire.MsgTx) { tx.Version, tx.TxIn[0].Sequence = 1, 3 }},
		{name: "relative seconds", edit: func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = wire.SequenceLockTimeIsSeconds | 1 }, want: chain.ErrSequenceLock},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newChain(t, chain.Config{Blocks: 12})
			k := newCoin(t, c, 0, 100_000)
			mine(t, c, 1)
			tx := k.spend(t, wire.MaxTxInSequenceNum, tt.edit)
			if tt.after != nil {
				tt.after(tx)
			}
			if err := c.Broadcast(tx); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			_, known := c.Tx(tx.TxHash())
			if known != (tt.want == nil) {
				t.Fatalf("known: %v", known)
			}
		})
	}
}

func TestCSVMatures(t *testing.T) {
	tests := []struct {
		name     string
		sequence uint32
		ripen    func(t *testing.T, c *chain.Chain, clock *chain.ManualClock) // all but the last step
		last     func(t *testing.T, c *chain.Chain, clock *chain.ManualClock)
	}{
		{
			name: "5 blocks", sequence: 5,
			ripen: func(t *testing.T, c *chain.Chain, _ *chain.ManualClock) { mine(t, c, 3) },
			last:  func(t *testing.T, c *chain.Chain, _ *chain.ManualClock) { mine(t, c, 1) },
		},
		{
			name: "1024 seconds", sequence: wire.SequenceLockTimeIsSeconds | 2,
			ripen: func(t *testing.T, c *chain.Chain, clock *chain.ManualClock) {
				// Many blocks are no time.
				mine(t, c, 30)
				clock.Advance(1000 * time.Second)
				if err := c.CatchUp(); err != nil {
					t.Fatal(err)
				}
			},
			last: func(t *testing.T, c *chain.Chain, clock *chain.ManualClock) {
				clock.Advance(24 * time.Second)
				if err := c.CatchUp(); err != nil {
					t.Fatal(err)
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, clock := newChain(t, chain.Config{})
			k := newCoin(t, c, tt.sequence, 50_000)
			if err := c.Broadcast(k.spend(t, tt.sequence, nil)); !errors.Is(err, chain.ErrSequenceLock) {
				t.Fatalf("unconfirmed: %v", err)
			}
			mine(t, c, 1)
			tt.ripen(t, c, clock)
			if err := c.Broadcast(k.spend(t, tt.sequence, nil)); !errors.Is(err, chain.ErrSequenceLock) {
				t.Fatalf("young: %v", err)
			}
			tt.last(t, c, clock)
			// The script itself holds whoever disables the input's lock.
			if err := c.Broadcast(k.spend(t, wire.MaxTxInSequenceNum, nil)); !errors.Is(err, chain.ErrScript) {
				t.Fatalf("lock disabled: %v", err)
			}
			broadcast(t, c, k.spend(t, tt.sequence, nil))
			mine(t, c, 1)
			if by, spent := c.Spender(k.op); !spent || !by.Confirmed() {
				t.Fatalf("spender %+v, %v", by, spent)
			}
		})
	}
}

func TestDoubleSpend(t *testing.T) {
	c, _ := newChain(t, chain.Config{})
	k := newCoin(t, c, 0, 100_000)
	mine(t, c, 1)
	first := k.spend(t, wire.MaxTxInSequenceNum, nil)
	second := k.spend(t, wire.MaxTxInSequenceNum-2, nil)
	broadcast(t, c, first)
	broadcast(t, c, first) // again is no error
	var conflict *chain.ConflictError
	if err := c.Broadcast(second); !errors.As(err, &conflict) || !errors.Is(err, chain.ErrConflict) {
		t.Fatalf("got %v", err)
	}
	if conflict.Outpoint != k.op || conflict.By != first.TxHash() {
		t.Fatalf("conflict %+v", conflict)
	}
	sub := c.Subscribe(16)
	defer sub.Close()
	if err := c.MineTxs(second); err != nil {
		t.Fatal(err)
	}
	if _, known := c.Tx(first.TxHash()); known {
		t.Fatal("the loser is still known")
	}
	if by, _ := c.Spender(k.op); by.Txid != second.TxHash() || !by.Confirmed() {
		t.Fatalf("spender %v", by.Txid)
	}
	if err := c.Broadcast(first); !errors.Is(err, chain.ErrMissingOrSpent) {
		t.Fatalf("loser again: %v", err)
	}
	if err := c.Broadcast(second); !errors.Is(err, chain.ErrConfirmed) {
		t.Fatalf("winner again: %v", err)
	}
	want := []chain.EventKind{chain.Evicted, chain.Seen, chain.Confirmed, chain.Confirmed, chain.Connected}
	for i, kind := range want {
		if ev := <-sub.C(); ev.Kind != kind {
			t.Fatalf("event %d: %d, want %d", i, ev.Kind, kind)
		}
	}
}

func TestReorg(t *testing.T) {
	c, _ := newChain(t, chain.Config{})
	k := newCoin(t, c, 0, 100_000)
	mine(t, c, 1)
	old := c.Tip()
	spend := k.spend(t, wire.MaxTxInSequenceNum, nil)
	broadcast(t, c, spend)
	mine(t, c, 2)
	if n, _ := c.Confirmations(spend.TxHash()); n != 2 {
		t.Fatalf("%d confirmations", n)
	}
	gone := c.Tip()
	dropped, err := c.Invalidate(2)
	if err != nil {
		t.Fatal(err)
	}
	if len(dropped) != 2 { // the two coinbases
		t.Fatalf("dropped %d", len(dropped))
	}
	if c.Tip().Hash != old.Hash {
		t.Fatal("wrong tip")
	}
	if _, on := c.Block(gone.Hash); on {
		t.Fatal("an invalidated block is on the chain")
	}
	if n, known := c.Confirmations(spend.TxHash()); n != 0 || !known {
		t.Fatalf("spend: %d, %v", n, known)
	}
	// On the other branch a conflicting spend confirms.
	other := k.spend(t, wire.MaxTxInSequenceNum-2, nil)
	if err := c.MineTxs(other); err != nil {
		t.Fatal(err)
	}
	mine(t, c, 2)
	if _, known := c.Tx(spend.TxHash()); known {
		t.Fatal("the old spend is still known")
	}
	if b, _ := c.BlockAt(gone.Height); b.Hash == gone.Hash {
		t.Fatal("the new branch equals the old one")
	}
	// The faucet's money survives, and what it paid from lost coinbases does not.
	if _, err := c.Faucet(k.script, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Invalidate(int(c.Tip().Height) + 1); !errors.Is(err, chain.ErrRange) {
		t.Fatalf("genesis: %v", err)
	}
	if _, err := c.Invalidate(int(c.Tip().Height)); err != nil {
		t.Fatal(err)
	}
	if pool := c.Mempool(); len(pool) != 0 {
		t.Fatalf("%d transactions without a coin below them", len(pool))
	}
	if _, err := c.Faucet(k.script, 1000); !errors.Is(err, chain.ErrFaucetDry) {
		t.Fatalf("empty faucet: %v", err)
	}
}

func TestPackage(t *testing.T) {
	c, _ := newChain(t, chain.Config{})
	k, fee := newCoin(t, c, 0, 100_000), newCoin(t, c, 0, 5_000)
	mine(t, c, 1)
	parent := k.spend(t, wire.MaxTxInSequenceNum, func(tx *wire.MsgTx) {
		tx.Version = 3
		tx.TxOut[0].Value = k.value
		tx.AddTxOut(wire.NewTxOut(0, txscript.PayToAnchorScript))
	})
	child := func(sats int64, sign bool) *wire.MsgTx {
		tx := wire.NewMsgTx(3)
		tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: parent.TxHash(), Index: 1}, nil, nil))
		tx.AddTxIn(wire.NewTxIn(&fee.op, nil, nil))
		tx.AddTxOut(wire.NewTxOut(sats, fee.script))
		prevs := txscript.NewMultiPrevOutFetcher(nil)
		prevs.AddPrevOut(tx.TxIn[0].PreviousOutPoint, parent.TxOut[1])
		prevs.AddPrevOut(fee.op, wire.NewTxOut(fee.value, fee.script))
		sig, err := txscript.RawTxInTapscriptSignature(tx, txscript.NewTxSigHashes(tx, prevs), 1, fee.value, fee.script, fee.leaf, txscript.SigHashDefault, fee.key)
		if err != nil {
			t.Fatal(err)
		}
		if sign {
			tx.TxIn[1].Witness = wire.TxWitness{sig, fee.leaf.Script, fee.ctrl}
		}
		return tx
	}
	if err := c.Package(parent, child(4_000, false)); !errors.Is(err, chain.ErrScript) {
		t.Fatalf("unsigned child: %v", err)
	}
	if len(c.Mempool()) != 0 {
		t.Fatal("half a package was kept")
	}
	if err := c.Package(k.spend(t, wire.MaxTxInSequenceNum, nil), child(4_000, true)); !errors.Is(err, chain.ErrPackage) {
		t.Fatalf("strangers: %v", err)
	}
	if err := c.Package(parent, child(4_000, true)); err != nil {
		t.Fatal(err)
	}
	// Another child over the same anchor replaces it, if it pays for that.
	size := (chain.Weight(child(4_000, true)) + 3) / 4
	for _, sats := range []int64{4_001, 4_000 - size + 1} {
		if err := c.Package(parent, child(sats, true)); !errors.Is(err, chain.ErrReplacement) {
			t.Fatalf("a child that leaves %d: %v", sats, err)
		}
	}
	best := child(4_000-size, true)
	if err := c.Package(parent, best); err != nil {
		t.Fatal(err)
	}
	if pool := c.Mempool(); len(pool) != 2 || pool[1].Txid != best.TxHash() {
		t.Fatalf("mempool %v", pool)
	}
	mine(t, c, 1)
	if b := c.Tip(); len(b.Txids) != 3 || b.Txids[1] != parent.TxHash() {
		t.Fatalf("block %v", b.Txids)
	}
	// A witness on an anchor input is refused as Core's policy does.
	k = newCoin(t, c, 0, 10_000)
	parent = k.spend(t, wire.MaxTxInSequenceNum, func(tx *wire.MsgTx) {
		tx.AddTxOut(wire.NewTxOut(0, txscript.PayToAnchorScript))
	})
	broadcast(t, c, parent)
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: parent.TxHash(), Index: 1}, nil, wire.TxWitness{{1}}))
	tx.AddTxOut(wire.NewTxOut(0, []byte{txscript.OP_RETURN}))
	if err := c.Broadcast(tx); !errors.Is(err, chain.ErrScript) {
		t.Fatalf("anchor with a witness: %v", err)
	}
	tx.TxIn[0].Witness = nil
	broadcast(t, c, tx)
}

func TestBlocksAreConsistent(t *testing.T) {
	c, clock := newChain(t, chain.Config{Blocks: 20})
	for i := range 5 {
		newCoin(t, c, 0, int64(1000+i))
	}
	mine(t, c, 1)
	clock.Advance(-time.Hour) // a clock that goes back must not break the median rule
	mine(t, c, 3)
	for h := int32(1); h <= c.Tip().Height; h++ {
		b, _ := c.BlockAt(h)
		prev, _ := c.BlockAt(h - 1)
		if b.Header.PrevBlock != prev.Hash || b.Header.BlockHash() != b.Hash {
			t.Fatalf("block %d does not link", h)
		}
		if !b.Header.Timestamp.After(prev.MedianTime) {
			t.Fatalf("block %d is not after the median time", h)
		}
		if b.Hash[chainhash.HashSize-1] > 0x7f {
			t.Fatalf("block %d has no work", h)
		}
		if got, ok := c.Block(b.Hash); !ok || got.Height != h {
			t.Fatalf("block %d by hash: %v", h, ok)
		}
		for i, id := range b.Txids {
			tx, ok := c.Tx(id)
			if !ok || tx.Height != h || tx.Position != i || tx.BlockHash != b.Hash || tx.Coinbase() != (i == 0) {
				t.Fatalf("block %d tx %d: %+v", h, i, tx)
			}
		}
	}
	b, _ := c.BlockAt(21)
	if len(b.Txids) != 6 {
		t.Fatalf("%d transactions", len(b.Txids))
	}
	tx, _ := c.Tx(b.Txids[0])
	if want := int64(50e8 + 5*500); tx.Msg.TxOut[0].Value != want {
		t.Fatalf("coinbase %d, want %d", tx.Msg.TxOut[0].Value, want)
	}
}

func TestDeterministic(t *testing.T) {
	run := func() chainhash.Hash {
		c, clock := newChain(t, chain.Config{})
		newCoin(t, c, 0, 1000)
		clock.Advance(time.Minute)
		mine(t, c, 3)
		return c.Tip().Hash
	}
	if a, b := run(), run(); a != b {
		t.Fatalf("%s, then %s", a, b)
	}
}

func TestCoinbaseMaturity(t *testing.T) {
	c, _ := newChain(t, chain.Config{CoinbaseMaturity: 100, Blocks: 99})
	if _, err := c.Faucet([]byte{txscript.OP_TRUE}, 1000); !errors.Is(err, chain.ErrFaucetDry) {
		t.Fatalf("young: %v", err)
	}
	b, _ := c.BlockAt(1)
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: b.Txids[0]}, nil, wire.TxWitness{{txscript.OP_TRUE}}))
	tx.AddTxOut(wire.NewTxOut(1, []byte{txscript.OP_TRUE}))
	if err := c.Broadcast(tx); !errors.Is(err, chain.ErrImmature) {
		t.Fatalf("got %v", err)
	}
	mine(t, c, 1)
	broadcast(t, c, tx)
}

func TestBounds(t *testing.T) {
	c, _ := newChain(t, chain.Config{Blocks: 5, MaxTxs: 8})
	mine(t, c, 1)                                                    // 7 coinbases with genesis
	if _, err := c.Faucet([]byte{txscript.OP_TRUE}, 1); err != nil { // 8
		t.Fatal(err)
	}
	if _, err := c.Faucet([]byte{txscript.OP_TRUE}, 1); !errors.Is(err, chain.ErrFull) {
		t.Fatalf("got %v", err)
	}
	if err := c.Mine(1); !errors.Is(err, chain.ErrFull) {
		t.Fatalf("got %v", err)
	}
	if err := c.Mine(chain.MaxMine + 1); !errors.Is(err, chain.ErrRange) {
		t.Fatalf("got %v", err)
	}
}
