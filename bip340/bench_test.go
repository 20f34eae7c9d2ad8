package bip340

import (
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/internal/turns"
)

// The benchmarks compare with a floor that is measured in the same run: slices
// of all operations take turns and the fastest slice of each counts, so that
// other load on the machine cancels out.

const pool = 32 // inputs per slice; the cost of a multiplication varies with them

type fixture struct {
	scalars [pool]btcec.ModNScalar
	points  [pool]btcec.JacobianPoint // affine
	scaled  [pool]btcec.JacobianPoint // z != 1
	keys    [pool]*Key
	msgs    [pool][32]byte
	sigs    [pool][64]byte
	verify  [pool]*Verifier
}

func benchFixture(b *testing.B) *fixture {
	b.Helper()
	f := new(fixture)
	for i := range pool {
		sum := sha256.Sum256([]byte{byte(i)})
		f.msgs[i] = sum
		f.scalars[i].SetBytes(&sum)
		f.keys[i] = mustKey(b, sum[:])
		mulBase(&f.scalars[i], &f.scaled[i])
		f.points[i] = f.scaled[i]
		f.points[i].ToAffine()
		sig, err := f.keys[i].Sign(f.msgs[i][:])
		if err != nil {
			b.Fatal(err)
		}
		f.sigs[i] = sig
		if f.verify[i], err = NewVerifier(f.keys[i].PubKey().XOnly()); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func (f *fixture) base(i int) {
	var j btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(&f.scalars[i], &j)
}

func (f *fixture) masked(i int) {
	var j btcec.JacobianPoint
	mulBase(&f.scalars[i], &j)
}

func (f *fixture) arbitrary(i int) {
	var j btcec.JacobianPoint
	btcec.ScalarMultNonConst(&f.scalars[i], &f.points[(i+1)%pool], &j)
}

func (f *fixture) toAffine(i int) {
	j := f.scaled[i]
	j.ToAffine()
}

// BenchmarkMulBase: the floor is the variable-time multiplication (1B).
func BenchmarkMulBase(b *testing.B) {
	f := benchFixture(b)
	t := turns.Fastest(b, pool, f.base, f.masked)
	b.ReportMetric(t[1], "us/masked")
	b.ReportMetric(t[1]/t[0], "x-variable-time")
}

// BenchmarkSign: the floor is 1B + 1I + 2us, with B variable-time and masked.
func BenchmarkSign(b *testing.B) {
	f := benchFixture(b)
	t := turns.Fastest(b, pool, f.base, f.masked, f.toAffine, func(i int) {
		if _, err := f.keys[i].Sign(f.msgs[i][:]); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(t[3], "us/sign")
	b.ReportMetric(t[3]/(t[1]+t[2]+2), "x-floor")
	b.ReportMetric(t[3]/(t[0]+t[2]+2), "x-variable-time-floor")
}

// BenchmarkVerify: decoded key; the floor is 1B + 1A + 1I.
func BenchmarkVerify(b *testing.B) {
	f := benchFixture(b)
	t := turns.Fastest(b, pool, f.base, f.arbitrary, f.toAffine, func(i int) {
		if !f.verify[i].Verify(f.msgs[i][:], f.sigs[i]) {
			b.Fatal("does not verify")
		}
	})
	b.ReportMetric(t[3], "us/verify")
	b.ReportMetric(t[3]/(t[0]+t[1]+t[2]), "x-floor")
}
