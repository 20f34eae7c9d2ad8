//go:build timing

package bip340

import (
	"crypto/rand"
	"math"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
)

// A statistical look at timing (dudect, eprint 2016/1123): the same operation on
// one fixed scalar and on random ones, in random order; Welch's t says whether
// the two take different time. The variable-time multiplications are the
// control: a run that does not catch them proves nothing. Run it alone, on a
// quiet machine:
//
//	go test -tags timing -run Timing -v ./bip340

const (
	leaks    = 10.0 // dudect calls more than 10 "definitely not constant time"
	measured = 12_000
)

type sample struct {
	fixed bool
	time  float64
}

// welch measures op and returns the largest |t| over the whole and the faster
// parts of the measurements: the slower ones are mostly the scheduler's.
func welch(t *testing.T, n int, op func(k *btcec.ModNScalar)) float64 {
	t.Helper()
	scalars := make([]btcec.ModNScalar, n)
	samples := make([]sample, n)
	for i := range scalars {
		samples[i].fixed = mrand.IntN(2) == 0
		if samples[i].fixed {
			scalars[i].SetInt(1) // the scalar that variable-time code likes best
			continue
		}
		var b [32]byte
		if _, err := rand.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		scalars[i].SetBytes(&b)
	}
	for i := range samples {
		k := scalars[i]
		start := time.Now()
		op(&k)
		samples[i].time = float64(time.Since(start))
	}
	slices.SortFunc(samples, func(a, b sample) int { return int(a.time - b.time) })
	worst := 0.0
	for _, part := range []float64{0.5, 0.8, 0.95, 1} {
		worst = max(worst, tOf(samples[:int(part*float64(n))]))
	}
	return worst
}

func tOf(samples []sample) float64 {
	var n, sum, square [2]float64
	for _, s := range samples {
		class := 0
		if s.fixed {
			class = 1
		}
		n[class]++
		sum[class] += s.time
		square[class] += s.time * s.time
	}
	if n[0] < 100 || n[1] < 100 {
		return math.Inf(1) // one class alone is among the fast ones
	}
	var mean, variance [2]float64
	for c := range 2 {
		mean[c] = sum[c] / n[c]
		variance[c] = (square[c] - n[c]*mean[c]*mean[c]) / (n[c] - 1)
	}
	return math.Abs(mean[0]-mean[1]) / math.Sqrt(variance[0]/n[0]+variance[1]/n[1])
}

func TestTiming(t *testing.T) {
	var one btcec.ModNScalar
	seed := [32]byte{7}
	one.SetBytes(&seed)
	p := MulBase(&one)
	j := p.jacobian()
	for _, c := range []struct {
		name     string
		n        int
		variable bool
		op       func(k *btcec.ModNScalar)
	}{
		{"control: ScalarBaseMultNonConst", measured, true, func(k *btcec.ModNScalar) {
			var out btcec.JacobianPoint
			btcec.ScalarBaseMultNonConst(k, &out)
		}},
		{"control: ScalarMultNonConst", measured / 4, true, func(k *btcec.ModNScalar) {
			var out btcec.JacobianPoint
			btcec.ScalarMultNonConst(k, &j, &out)
		}},
		{"MulBase", measured, false, func(k *btcec.ModNScalar) { MulBase(k) }},
		{"MulSecret", measured / 4, false, func(k *btcec.ModNScalar) { MulSecret(k, p) }},
		{"negateIf", measured, false, func(k *btcec.ModNScalar) { negateIf(k, k.IsZeroBit()^1) }},
	} {
		got := welch(t, c.n, c.op)
		t.Logf("%-34s t = %.1f", c.name, got)
		if c.variable != (got > leaks) {
			t.Errorf("%s: t = %.1f, the limit is %.0f, variable time expected: %v", c.name, got, leaks, c.variable)
		}
	}
}
