package renewal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
)

// stored is a record of the size that one coin of a stock wallet makes, due at
// the time given; nothing in it is signed.
func stored(n uint64, due int64) *delegate.Record {
	r := &delegate.Record{
		Kind: delegate.Stock, State: delegate.Armed, Network: ark.Regtest, Message: string(make([]byte, 190)),
		Proof: make([]byte, 1300), NextAttempt: due, CreatedAt: due,
	}
	binary.BigEndian.PutUint64(r.ProofTxid[:], n)
	r.ID = delegate.StockID(r.ProofTxid)
	script := append([]byte{0x51, 0x20}, make([]byte, 32)...)
	copy(script[2:], r.ID[:])
	r.Inputs = []delegate.Input{{
		Outpoint: wire.OutPoint{Hash: chainhash.HashH(r.ID[:])}, Amount: 1000, Script: script, TapTree: make([]byte, 190),
		ExpiresAt: due + 1e6, Forfeit: make([]byte, 560),
	}}
	r.Outputs = []wire.TxOut{{Value: 1000, PkScript: script}}
	return r
}

// quiet is an operator with whom nothing happens: what the tests below ask of it
// it answers, everything else it does not have.
type quiet struct {
	renewal.Operator
	events chan operator.Event
	asked  atomic.Int64
}

func newQuiet() *quiet { return &quiet{events: make(chan operator.Event)} }

func (q *quiet) C() <-chan operator.Event                 { return q.events }
func (*quiet) Add(context.Context, ...string) error       { return nil }
func (*quiet) Remove(...string)                           {}
func (*quiet) Params(context.Context) (ark.Params, error) { return ark.Params{}, nil }

// VTXOs says of every outpoint that it is an unspent coin of a thousand satoshis.
func (q *quiet) VTXOs(_ context.Context, ops []wire.OutPoint) ([]ark.VTXO, error) {
	q.asked.Add(1)
	out := make([]ark.VTXO, len(ops))
	for i, op := range ops {
		out[i] = ark.VTXO{Outpoint: op, Amount: 1000, Script: append([]byte{0x51, 0x20}, make([]byte, 32)...)}
	}
	return out, nil
}

// TestIdleDelegatesCostNothing: ten times as many armed delegates make an engine
// neither more goroutines nor more heap, beyond what the store caches.
func TestIdleDelegatesCostNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("stores thousands of delegates")
	}
	measure := func(n int) (goroutines int, heap int64) {
		ctx, cancel := context.WithCancel(t.Context())
		store, err := sqlite.Create(ctx, filepath.Join(t.TempDir(), "kv"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		if err := ledger.Create(ctx, store, ledger.Generation{1}); err != nil {
			t.Fatal(err)
		}
		led, err := ledger.Open(ctx, store, ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(24 * time.Hour).Unix()
		var group sync.WaitGroup
		var failed atomic.Value
		for part := range 64 {
			group.Go(func() {
				for i := part; i < n; i += 64 {
					if _, err := led.Submit(ctx, ledger.Submission{Record: stored(uint64(i), later)}); err != nil {
						failed.Store(err)
					}
				}
			})
		}
		group.Wait()
		if err := failed.Load(); err != nil {
			t.Fatal(err)
		}
		looked := &looking{Ledger: led, looks: make(chan struct{}, 1)}
		q := newQuiet()
		engine := renewal.New(renewal.Config{}, q, q, looked, nil, nil, nil)
		ended := make(chan error, 1)
		go func() { ended <- engine.Run(ctx) }()
		<-looked.looks // it knows when the first is due, and sleeps
		var m runtime.MemStats
		for range 3 { // pools empty at the second collection
			runtime.GC()
			runtime.Gosched()
		}
		runtime.ReadMemStats(&m)
		goroutines, heap = runtime.NumGoroutine(), int64(m.HeapAlloc)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		return goroutines, heap
	}
	const few, many = 500, 5000
	measure(few) // what is made once
	fewGoroutines, fewHeap := measure(few)
	manyGoroutines, manyHeap := measure(many)
	t.Logf("%d delegates: %d goroutines, %d kB; %d: %d, %d kB", few, fewGoroutines, fewHeap/1000, many, manyGoroutines, manyHeap/1000)
	if manyGoroutines > fewGoroutines {
		t.Errorf("%d goroutines for %d delegates, %d for %d", manyGoroutines, many, fewGoroutines, few)
	}
	// A record is over 2 kB: a tenth of that each would show.
	if more := manyHeap - fewHeap; more > (many-few)*200 {
		t.Errorf("%d bytes more for %d delegates more", more, many-few)
	}
}

// looking tells when the engine has read the due index to its end.
type looking struct {
	*ledger.Ledger
	looks chan struct{}
}

func (l *looking) NextDue(ctx context.Context) (time.Time, bool, error) {
	at, ok, err := l.Ledger.NextDue(ctx)
	select {
	case l.looks <- struct{}{}:
	default:
	}
	return at, ok, err
}

// depths is a chain on which every commitment has the same depth.
type depths struct {
	mu    sync.Mutex
	depth int64
	asks  int
	asked chan int // how often, after each
}

func (d *depths) Confirmations(context.Context, chainhash.Hash) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asks++
	select {
	case d.asked <- d.asks:
	default:
	}
	return d.depth, nil
}

func (*depths) Spender(context.Context, wire.OutPoint) (chainhash.Hash, bool, error) {
	return chainhash.Hash{}, false, errors.New("nobody should ask")
}

func (d *depths) dig(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.depth = n
}

// TestWaitingForDepthIsFree: a commitment that waits for blocks is looked at on
// the chain, once for all its delegates; nothing is asked of the operator and
// nothing is written until it is deep enough.
func TestWaitingForDepthIsFree(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store := &counting{Store: kvtest.NewMemory()}
	if err := ledger.Create(ctx, store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	led, err := ledger.Open(ctx, store, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 100
	now := time.Now().Unix()
	commitment := chainhash.HashH([]byte("commitment"))
	ids := make([]vigil.DelegateID, n)
	for i := range n {
		ids[i] = unconfirmed(ctx, t, led, uint64(i), now, commitment)
	}
	blocks := &depths{depth: 1, asked: make(chan int, 1)}
	q := newQuiet()
	pace := renewal.DefaultPace()
	pace.Confirm = time.Millisecond
	ran := store.updates.Load()
	engine := renewal.New(renewal.Config{Pace: pace, Confirmations: 6}, q, q, led, nil, blocks, nil)
	ended := make(chan error, 1)
	stopping, stop := context.WithCancel(ctx)
	go func() { ended <- engine.Run(stopping) }()
	for asks := 0; asks < 20; {
		select {
		case asks = <-blocks.asked:
		case <-ctx.Done():
			t.Fatalf("the chain was asked %d times", asks)
		}
	}
	if writes := store.updates.Load() - ran; writes > 1 {
		t.Errorf("%d writes while nothing happened, beside the one of the start", writes-1)
	}
	if asked := q.asked.Load(); asked != 0 {
		t.Errorf("the operator was asked %d times", asked)
	}
	blocks.dig(6)
	for settled := uint64(0); settled < n; {
		counts, err := led.Counts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		settled = counts[delegate.Settled]
		select {
		case <-blocks.asked: // not to spin
		case <-ctx.Done():
			t.Fatalf("%d settled", settled)
		default:
			runtime.Gosched()
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// unconfirmed takes a fresh delegate to where its commitment waits for blocks.
func unconfirmed(ctx context.Context, t *testing.T, led *ledger.Ledger, n uint64, now int64, commitment chainhash.Hash) vigil.DelegateID {
	t.Helper()
	receipt, err := led.Submit(ctx, ledger.Submission{Record: stored(n, now)})
	if err != nil {
		t.Fatal(err)
	}
	rec := receipt.Record
	leaf := wire.OutPoint{Hash: chainhash.HashH(rec.ID[:4]), Index: uint32(n)}
	for _, event := range []delegate.Event{delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join} {
		if rec, err = led.Transition(ctx, rec, event, func(r *delegate.Record) { r.IntentID = "i" }); err != nil {
			t.Fatal(err)
		}
	}
	branch := &delegate.Branch{Delegate: rec.ID, Commitment: commitment, Leaves: []wire.OutPoint{leaf}, StoredAt: now, Expiry: 1024}
	if rec, err = led.Submitted(ctx, rec, branch, nil); err != nil {
		t.Fatal(err)
	}
	if rec, err = led.Transition(ctx, rec, delegate.Finalized, func(r *delegate.Record) { r.NextAttempt = now }); err != nil {
		t.Fatal(err)
	}
	return rec.ID
}

// counting counts writes.
type counting struct {
	kv.Store
	updates atomic.Int64
}

func (c *counting) Update(ctx context.Context, f func(kv.Writer) error) error {
	c.updates.Add(1)
	return c.Store.Update(ctx, f)
}
