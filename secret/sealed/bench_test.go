package sealed

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/internal/sqlitedb/floor"
	"github.com/vigil-ark/vigil/secret"
)

// benchConcurrent runs f(i) for every i below b.N with so many goroutines and
// reports it against a bare write and fdatasync of the same disk in the same
// run: "x-floor" is calls a second divided by bare writes a second.
func benchConcurrent(b *testing.B, goroutines int, f func(i int) error) {
	b.Helper()
	before := floor.Durable(b, 200)
	times := make([]time.Duration, b.N)
	var next atomic.Int64
	cpu := floor.CPU(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				start := time.Now()
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
				times[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	cpu = floor.CPU(b) - cpu
	bare := (before + floor.Durable(b, 200)) / 2
	slices.Sort(times)
	b.ReportMetric(float64(bare)*float64(b.N)/float64(b.Elapsed()), "x-floor")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
}

func benchName(i int) string {
	return fmt.Sprintf("tree-secret.%016x%016x", uint64(i)*0x9e3779b97f4a7c15, i)
}

func benchPut(b *testing.B, s *Store, i int) error {
	value := make([]byte, 32)
	if _, err := rand.Read(value); err != nil {
		return err
	}
	v := secret.New(value)
	defer v.Burn()
	return s.Put(b.Context(), benchName(i), v)
}

// BenchmarkPut seals new 32-byte keys.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, _, _ := newStore(b)
			benchConcurrent(b, writers, func(i int) error { return benchPut(b, s, i) })
		})
	}
}

// BenchmarkDelete deletes them, which also empties the log.
func BenchmarkDelete(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, _, _ := newStore(b)
			fillStore(b, s, b.N)
			benchConcurrent(b, writers, func(i int) error { return s.Delete(b.Context(), benchName(i)) })
		})
	}
}

// BenchmarkGet opens one of 10,000.
func BenchmarkGet(b *testing.B) {
	s, _, _ := newStore(b)
	fillStore(b, s, 10000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		v, err := s.Get(b.Context(), benchName(i%10000))
		if err != nil {
			b.Fatal(err)
		}
		v.Burn()
	}
}

// BenchmarkSeal measures the cryptography of one 32-byte key alone.
func BenchmarkSeal(b *testing.B) {
	s, _, _ := newStore(b)
	v := secret.New(make([]byte, 32))
	for b.Loop() {
		if _, err := s.seal("tree-secret.00112233445566778899aabbccddeeff", v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenMillion opens a store of 1,000,000 secrets, gets one and closes
// it. It must take under a second.
func BenchmarkOpenMillion(b *testing.B) {
	const n = 1_000_000
	s, dir, kek := newStore(b)
	fillStore(b, s, n)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "secrets.db"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(b.Context(), dir, kek, Options{})
		if err != nil {
			b.Fatal(err)
		}
		v, err := s.Get(b.Context(), benchName(n/2))
		if err != nil {
			b.Fatal(err)
		}
		v.Burn()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(info.Size())/n, "disk-B/secret")
	if each := b.Elapsed() / time.Duration(b.N); each > time.Second {
		b.Errorf("opening took %v", each)
	}
}

// fillStore puts n secrets, many to a commit.
func fillStore(b *testing.B, s *Store, n int) {
	b.Helper()
	v := secret.New(make([]byte, 32))
	for i := 0; i < n; {
		err := s.db.Update(b.Context(), func(tx *sqlitedb.Tx) error {
			for end := min(n, i+5000); i < end; i++ {
				sealed, err := s.seal(benchName(i), v)
				if err == nil {
					err = store(tx, benchName(i), sealed)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
