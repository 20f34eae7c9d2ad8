// Package turns owns how a benchmark times an operation beside the floor that it is
// held to: both in turns, in one run, so that other load on the machine cancels out.
// It is for tests alone.
package turns

import (
	"math"
	"testing"
	"time"
)

// Op is an operation that is timed without its preparation; Prepare may be nil. i
// counts the calls of a slice.
type Op struct{ Prepare, Run func(i int) }

// Fastest runs slices of so many calls of each op in turns, for as long as b goes on,
// and returns each one's fastest slice in microseconds per call.
func Fastest(b *testing.B, calls int, ops ...func(i int)) []float64 {
	b.Helper()
	list := make([]Op, len(ops))
	for i, op := range ops {
		list[i].Run = op
	}
	return Prepared(b, calls, list...)
}

// Prepared is Fastest for operations that use something up.
func Prepared(b *testing.B, calls int, ops ...Op) []float64 {
	b.Helper()
	best := make([]float64, len(ops))
	for i := range best {
		best[i] = math.Inf(1)
	}
	for b.Loop() {
		for n, op := range ops {
			if op.Prepare != nil {
				for i := range calls {
					op.Prepare(i)
				}
			}
			start := time.Now()
			for i := range calls {
				op.Run(i)
			}
			best[n] = min(best[n], time.Since(start).Seconds()*1e6/float64(calls))
		}
	}
	b.ReportMetric(0, "ns/op") // a round of slices: means nothing
	return best
}
