package renewal_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/renewal"
)

// blocks is a chain as the test tells it.
type blocks struct {
	mu     sync.Mutex
	depth  map[chainhash.Hash]int64
	spends map[wire.OutPoint]chainhash.Hash
	asks   int
}

func (b *blocks) Confirmations(_ context.Context, txid chainhash.Hash) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asks++
	if n, ok := b.depth[txid]; ok {
		return n, nil
	}
	return -1, nil
}

func (b *blocks) Spender(_ context.Context, op wire.OutPoint) (chainhash.Hash, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asks++
	by, ok := b.spends[op]
	return by, ok, nil
}

func (b *blocks) confirm(txid chainhash.Hash, n int64, spends ...wire.OutPoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.depth[txid] = n
	for _, op := range spends {
		b.spends[op] = txid
	}
}

func (b *blocks) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asks
}

// commitment is a stored commitment transaction that spends two outpoints.
func commitment(t *testing.T, n byte) (chainhash.Hash, []byte, []wire.OutPoint) {
	t.Helper()
	tx := wire.NewMsgTx(2)
	var ins []wire.OutPoint
	for i := range 2 {
		ins = append(ins, wire.OutPoint{Hash: chainhash.Hash{n, byte(i), 1}})
		tx.AddTxIn(wire.NewTxIn(&ins[i], nil, nil))
	}
	tx.AddTxOut(wire.NewTxOut(1000, append([]byte{0x51, 0x20}, make([]byte, 32)...)))
	packet, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if err := packet.Serialize(&raw); err != nil {
		t.Fatal(err)
	}
	return tx.TxHash(), raw.Bytes(), ins
}

// gave takes a fresh delegate through an attempt that seemed to fail after its
// forfeits had left.
func gave(t *testing.T, led *ledger.Ledger, rec *delegate.Record, n byte) (*delegate.Record, chainhash.Hash, []wire.OutPoint) {
	t.Helper()
	txid, raw, ins := commitment(t, n)
	var err error
	first := rec.NextAttempt
	events := []delegate.Event{delegate.Register, delegate.Accepted, delegate.Join}
	if rec.State == delegate.Armed {
		events = append([]delegate.Event{delegate.Ripe}, events...)
	}
	for _, event := range events {
		if rec, err = led.Transition(t.Context(), rec, event, nil); err != nil {
			t.Fatal(err)
		}
	}
	b := &delegate.Branch{Delegate: rec.ID, Commitment: txid, Tx: raw, Leaves: []wire.OutPoint{{Hash: chainhash.Hash{n}}}, Expiry: 1024}
	if rec, err = led.Submitted(t.Context(), rec, b, nil); err != nil {
		t.Fatal(err)
	}
	if rec, err = led.Transition(t.Context(), rec, delegate.NotFinalized, func(r *delegate.Record) { r.NextAttempt = first }); err != nil {
		t.Fatal(err)
	}
	return rec, txid, ins
}

// TestWatchedCommitments: of three commitments of failed attempts one is excluded
// by another transaction, which leaves the list once that is deep enough; one
// confirms, and its tree counts; the third may still confirm, and is looked for at
// a slow pace.
func TestWatchedCommitments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, led, _, rec, run := still(t, 12*time.Hour)
		chain := &blocks{depth: map[chainhash.Hash]int64{}, spends: map[wire.OutPoint]chainhash.Hash{}}
		op.chain = chain
		rec, dead, ins := gave(t, led.Ledger, rec, 1)
		rec, late, _ := gave(t, led.Ledger, rec, 2)
		rec, open, _ := gave(t, led.Ledger, rec, 3)
		run()
		now := func() *delegate.Record {
			t.Helper()
			got, err := led.Delegate(t.Context(), rec.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		pass(time.Hour)
		if got := now(); got.Version != rec.Version || len(got.Watch) != 3 {
			t.Fatalf("with nothing known it watches %v", got.Watch)
		}
		if n := chain.asked(); n == 0 || n > 13*9 { // each look: three depths and six inputs
			t.Errorf("the chain was asked %d times in an hour", n)
		}
		other := chainhash.Hash{9, 9}
		chain.confirm(other, 5, ins[1])
		pass(time.Hour)
		if got := now(); len(got.Watch) != 3 {
			t.Fatal("forgotten before it was sure")
		}
		chain.confirm(other, 6)
		pass(time.Hour)
		if got := now(); got.Watches(dead) || !got.Watches(late) || !got.Watches(open) || got.State != delegate.Due {
			t.Fatalf("%s, it watches %v", got.State, got.Watch)
		}
		chain.confirm(late, 0) // the mempool may forget it
		pass(time.Hour)
		if got := now(); got.State != delegate.Due {
			t.Fatalf("%s by the mempool", got.State)
		}
		chain.confirm(late, 6)
		op.made(wire.OutPoint{Hash: chainhash.Hash{2}}, rec)
		pass(time.Hour)
		got := now()
		if got.State != delegate.Settled || got.Commitment != late || op.calls() != 0 {
			t.Errorf("%s by %s, registered %d times", got.State, got.Commitment, op.calls())
		}
	})
}

// TestWatchedWithoutAChain: the operator's indexer is asked what settled the coin,
// also of a delegate that is not due for long. What it does not know stays.
func TestWatchedWithoutAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, led, _, rec, run := still(t, 12*time.Hour)
		rec, first, _ := gave(t, led.Ledger, rec, 1)
		run()
		pass(time.Hour)
		got, err := led.Delegate(t.Context(), rec.ID)
		if err != nil || len(got.Watch) != 1 || got.State != delegate.Due {
			t.Fatalf("%s, %v, it watches %v", got.State, err, got.Watch)
		}
		op.made(wire.OutPoint{Hash: chainhash.Hash{1}}, rec)
		op.settle(rec.Inputs[0].Outpoint, first)
		pass(time.Hour)
		if got, err = led.Delegate(t.Context(), rec.ID); err != nil || got.State != delegate.Settled || got.Commitment != first {
			t.Errorf("%s by %s, %v", got.State, got.Commitment, err)
		}
	})
}

// TestFullWatchListGivesNoMore: a delegate that waits for as many commitments as it
// may joins no batch, until it is known that they can never confirm.
func TestFullWatchListGivesNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		alice := r.device()
		coin := r.mint([]*wallet.Wallet{alice}, 100_000)[0]
		rec := r.submit(alice, wallet.DelegateOptions{}, coin)
		for n := range delegate.MaxWatched {
			rec, _, _ = gave(t, r.ledger, rec, byte(n))
		}
		r.chain = &blocks{depth: map[chainhash.Hash]int64{}, spends: map[wire.OutPoint]chainhash.Hash{}}
		r.start()
		r.await(rec.ID, "a refusal", func(rec *delegate.Record) bool { return rec.LastError.Code == "WATCH_LIST_FULL" })
		r.halt()
		r.forfeited(0, coin)
		// Another transaction spent what they all need.
		all := &blocks{depth: map[chainhash.Hash]int64{}, spends: map[wire.OutPoint]chainhash.Hash{}}
		for n := range delegate.MaxWatched {
			_, _, ins := commitment(t, byte(n))
			all.confirm(chainhash.Hash{9, 9}, 6, ins...)
		}
		r.chain = both{all, onChain{r.op.Chain()}}
		r.pace.Watch = 100 * time.Millisecond
		r.start()
		r.renewed(r.awaitState(rec.ID, delegate.Settled), coin)
		r.halt()
		r.forfeited(1, coin)
		r.clean()
	})
}

// both is what either of two chains knows.
type both struct {
	told *blocks
	real renewal.Chain
}

func (b both) Confirmations(ctx context.Context, txid chainhash.Hash) (int64, error) {
	if n, err := b.told.Confirmations(ctx, txid); err == nil && n >= 0 {
		return n, nil
	}
	return b.real.Confirmations(ctx, txid)
}

func (b both) Spender(ctx context.Context, op wire.OutPoint) (chainhash.Hash, bool, error) {
	if by, ok, err := b.told.Spender(ctx, op); err == nil && ok {
		return by, ok, nil
	}
	return b.real.Spender(ctx, op)
}
