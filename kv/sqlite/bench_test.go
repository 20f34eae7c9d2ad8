package sqlite_test

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/internal/sqlitedb/floor"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/sqlite"
)

func benchStore(b *testing.B, o sqlite.Options) *sqlite.Store {
	b.Helper()
	s, err := sqlite.Create(b.Context(), filepath.Join(b.TempDir(), "kv"), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// intake writes what the intake of one delegate writes: a record of 2 KB and
// an entry of the due index.
func intake(n uint64, record []byte) func(kv.Writer) error {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], n*0x9e3779b97f4a7c15) // ids are random
	binary.BigEndian.PutUint64(id[8:], n)
	return func(w kv.Writer) error {
		if err := w.Put("delegate_sessions", id[:], record); err != nil {
			return err
		}
		return w.Put("renewal_due", append(binary.BigEndian.AppendUint64(nil, n/10), id[:]...), nil)
	}
}

// BenchmarkUpdate measures durable updates against a bare write and fdatasync
// of the same disk in the same run: "x-floor" is updates a second divided by
// bare writes a second, so more is better.
func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			commits := 0
			s := benchStore(b, sqlite.Options{OnCommit: func(time.Duration) { commits++ }})
			record := make([]byte, 2000)
			before := floor.Durable(b, 200)
			var next atomic.Int64
			times := make([]time.Duration, b.N)
			cpu := floor.CPU(b)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						start := time.Now()
						if err := s.Update(b.Context(), intake(uint64(i), record)); err != nil {
							b.Error(err)
							return
						}
						times[i-1] = time.Since(start)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			cpu = floor.CPU(b) - cpu
			bare := (before + floor.Durable(b, 200)) / 2
			slices.Sort(times)
			b.ReportMetric(float64(bare)*float64(b.N)/float64(b.Elapsed()), "x-floor")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(b.N)/float64(max(commits, 1)), "updates/commit")
		})
	}
}

// BenchmarkView measures a snapshot with one read of a 2 KB record.
func BenchmarkView(b *testing.B) {
	s := benchStore(b, sqlite.Options{})
	err := s.Update(b.Context(), func(w kv.Writer) error {
		for i := range 1000 {
			if err := w.Put("t", binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, 2000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		err := s.View(b.Context(), func(r kv.Reader) error {
			_, err := r.Get("t", binary.BigEndian.AppendUint32(nil, uint32(i%1000)))
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan measures one row of an index: a short key, no value.
func BenchmarkScan(b *testing.B) {
	s := benchStore(b, sqlite.Options{})
	const rows = 20000
	err := s.Update(b.Context(), func(w kv.Writer) error {
		for i := range uint64(rows) {
			if err := w.Put("renewal_due", binary.BigEndian.AppendUint64(make([]byte, 16), i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	seen := 0
	for b.Loop() {
		err := s.View(b.Context(), func(r kv.Reader) error {
			return r.Scan("renewal_due", nil, nil, func(_, _ []byte) error { seen++; return nil })
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if seen == 0 || seen%rows != 0 {
		b.Fatalf("saw %d rows", seen)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(seen), "ns/row")
}

// BenchmarkReader measures what one more View at the same time costs the first
// time: a connection and its memory.
func BenchmarkReader(b *testing.B) {
	s := benchStore(b, sqlite.Options{})
	var nest func(n int) error
	nest = func(n int) error {
		return s.View(b.Context(), func(kv.Reader) error {
			if n == 0 {
				return nil
			}
			return nest(n - 1)
		})
	}
	const deep = 32
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		if err := nest(deep); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/deep, "µs/view")
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/1024, "KB-kept")
}
