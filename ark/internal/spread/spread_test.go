package spread_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/vigil-ark/vigil/ark/internal/spread"
)

func TestOver(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1000} {
		done := make([]atomic.Int32, n)
		if err := spread.Over(n, func(i int) error {
			done[i].Add(1)
			return nil
		}); err != nil {
			t.Errorf("%d: %v", n, err)
		}
		for i := range done {
			if done[i].Load() != 1 {
				t.Errorf("%d: index %d ran %d times", n, i, done[i].Load())
			}
		}
	}
}

func TestOverLowestError(t *testing.T) {
	low, high := errors.New("low"), errors.New("high")
	for range 200 {
		err := spread.Over(64, func(i int) error {
			switch {
			case i == 5:
				return low
			case i > 5:
				return high
			}
			return nil
		})
		if !errors.Is(err, low) {
			t.Fatalf("error %v", err)
		}
	}
}
