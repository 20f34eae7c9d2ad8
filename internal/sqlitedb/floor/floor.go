// Package floor owns the measure that durable writes are compared with: what
// the disk takes for one small write and its fsync. It knows no store. Only
// benchmarks import it.
package floor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	writeSize = 2 << 10 // bytes; about what one record puts into a log
	fileSize  = 8 << 20 // bytes, written before, as a log's file is after a while
)

// Durable returns the median time of n times pwrite of 2 KB and fdatasync to a
// preallocated file, one after the other.
func Durable(tb testing.TB, n int) time.Duration {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "probe"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }() // a scratch file
	if _, err := f.Write(make([]byte, fileSize)); err != nil {
		tb.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		tb.Fatal(err)
	}
	buf, times := make([]byte, writeSize), make([]time.Duration, 0, n)
	for i := range n {
		buf[0] = byte(i)
		start := time.Now()
		if _, err := f.WriteAt(buf, int64(i*writeSize%fileSize)); err != nil {
			tb.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			tb.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[n/2]
}

// CPU returns the processor time that the whole process has used.
func CPU(tb testing.TB) time.Duration {
	tb.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
