package ledger_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
)

// synthetic is a store that holds a number of armed delegates without keeping
// them: each row is made when it is read. It counts what is read.
type synthetic struct {
	delegates int
	rows      atomic.Int64
}

func syntheticID(i int) (id vigil.DelegateID) {
	binary.BigEndian.PutUint64(id[:], uint64(i))
	return id
}

func (s *synthetic) View(_ context.Context, f func(kv.Reader) error) error { return f(s) }
func (s *synthetic) Update(context.Context, func(kv.Writer) error) error   { return kv.ErrUnavailable }
func (s *synthetic) Close() error                                          { return nil }

func (s *synthetic) Get(tree string, key []byte) ([]byte, error) {
	s.rows.Add(1)
	value, err := s.value(tree, key)
	if err != nil {
		return nil, err
	}
	return ledger.Seal(tree, key, value), nil
}

func (s *synthetic) value(tree string, key []byte) ([]byte, error) {
	switch tree + "/" + string(key) {
	case "meta/schema", "meta/layout":
		return binary.BigEndian.AppendUint32(nil, ledger.Schema), nil
	case "meta/generation":
		return make([]byte, 16), nil
	}
	if tree != "delegate_sessions" || len(key) != 16 {
		return nil, kv.ErrNotFound
	}
	i := binary.BigEndian.Uint64(key)
	rec := newRecord(int(i), []int{int(i)})
	rec.ID, rec.State, rec.Version = syntheticID(int(i)), delegate.Armed, 1
	return rec.Encode()
}

// Scan makes the rows of renewal_due, whose key is time and id; other trees are
// empty.
func (s *synthetic) Scan(tree string, from, to []byte, f func(key, value []byte) error) error {
	if tree != "renewal_due" {
		return nil
	}
	first := 0
	if len(from) >= 8 {
		first = int(int64(binary.BigEndian.Uint64(from)) - start)
	}
	for i := max(first, 0); i < s.delegates; i++ {
		s.rows.Add(1)
		key := binary.BigEndian.AppendUint64(nil, uint64(start+int64(i)))
		id := syntheticID(i)
		key = append(key, id[:]...)
		if to != nil && string(key) >= string(to) {
			return nil
		}
		if err := f(key, ledger.Seal(tree, key, nil)); err == kv.ErrStop {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// boot does what a start asks of the ledger.
func boot(ctx context.Context, store kv.Store) (*ledger.Ledger, error) {
	l, err := ledger.Open(ctx, store, ledger.Options{})
	if err != nil {
		return nil, err
	}
	if _, err := l.InFlight(ctx); err != nil {
		return nil, err
	}
	if _, _, err := l.NextDue(ctx); err != nil {
		return nil, err
	}
	if _, _, err := l.Due(ctx, time.Unix(start+1_000_000, 0), 128, nil); err != nil {
		return nil, err
	}
	_, err = l.Counts(ctx)
	return l, err
}

// TestBootReadsTheHeadOnly holds the start to a number of rows that does not
// grow with what is stored.
func TestBootReadsTheHeadOnly(t *testing.T) {
	read := func(n int) int64 {
		s := &synthetic{delegates: n}
		if _, err := boot(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s.rows.Load()
	}
	few, many := read(1000), read(1_000_000)
	if many != few || many > 400 {
		t.Fatalf("%d rows are read for 1,000 delegates and %d for 1,000,000", few, many)
	}
}

func BenchmarkBoot(b *testing.B) {
	s := &synthetic{delegates: 1_000_000}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var l *ledger.Ledger
	for b.Loop() {
		var err error
		if l, err = boot(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/1e6, "MB-kept")
	b.ReportMetric(float64(s.rows.Load())/float64(b.N), "rows/op")
	runtime.KeepAlive(l)
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bodied is a record of the size that one VTXO of a stock wallet makes.
func bodied(n uint64) *delegate.Record {
	r := &delegate.Record{
		Kind: delegate.Stock, State: delegate.Armed, Network: ark.Regtest, Message: string(make([]byte, 190)), Proof: make([]byte, 1300), NextAttempt: start + int64(n%1e6), CreatedAt: start,
	}
	binary.BigEndian.PutUint64(r.ProofTxid[:], n)
	r.ID = delegate.StockID(r.ProofTxid)
	var hash chainhash.Hash
	copy(hash[:], r.ID[:])
	script := make([]byte, 34)
	copy(script[2:], r.ID[:])
	r.Inputs = []delegate.Input{{
		Outpoint: wire.OutPoint{Hash: hash}, Amount: 1000, Script: script, TapTree: make([]byte, 190), ExpiresAt: start + 1e6, Forfeit: make([]byte, 560),
	}}
	return r
}

// BenchmarkSubmit is the durable part of intake with 64 clients. Its floor is
// one write of a record of the same size, measured in the same run.
func BenchmarkSubmit(b *testing.B) {
	store, err := sqlite.Create(b.Context(), filepath.Join(b.TempDir(), "kv"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := ledger.Create(b.Context(), store, ledger.Generation{1}); err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(b.Context(), store, ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	parallel := func(write func(*delegate.Record) error) time.Duration {
		began := cpu()
		b.SetParallelism(32) // times two processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := write(bodied(n.Add(1))); err != nil {
					b.Error(err)
				}
			}
		})
		return cpu() - began
	}
	submit := parallel(func(r *delegate.Record) error {
		_, err := l.Submit(b.Context(), ledger.Submission{Record: r, PerScript: 64})
		return err
	})
	b.StopTimer()
	floor := parallel(func(r *delegate.Record) error {
		return store.Update(b.Context(), func(w kv.Writer) error {
			raw, err := r.Encode()
			if err != nil {
				return err
			}
			return w.Put("floor", r.ID[:], raw)
		})
	})
	b.ReportMetric(float64(submit.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(floor.Microseconds())/float64(b.N), "floor-µs/op")
	b.ReportMetric(float64(submit)/float64(floor), "x-floor")
}
