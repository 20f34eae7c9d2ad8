// Package spread owns running independent, pure pieces of work on all cores.
// It must not know what the work is.
package spread

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Over calls f for every index below n, on as many goroutines as there are
// cores, and returns when all are done. Of several errors it returns that of
// the lowest index, so that the outcome does not depend on scheduling; indexes
// above a failed one may be left out.
func Over(n int, f func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers < 2 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		next   atomic.Int64
		mu     sync.Mutex
		lowest = n
		first  error
		wg     sync.WaitGroup
	)
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				err := f(i)
				if err == nil {
					continue
				}
				mu.Lock()
				if i < lowest {
					lowest, first = i, err
				}
				mu.Unlock()
				next.Store(int64(n)) // every lower index is already taken
			}
		})
	}
	wg.Wait()
	return first
}
