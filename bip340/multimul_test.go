package bip340

import (
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
)

func TestNaf(t *testing.T) {
	for _, k := range edgeScalars() {
		var got, pow btcec.ModNScalar
		pow.SetInt(1)
		digits := naf(k)
		last := -nafWidth
		for i, d := range digits {
			if d != 0 {
				if d%2 == 0 || d > 15 || d < -15 || i-last < nafWidth {
					t.Fatalf("%x: digit %d at %d, the last one at %d", k.Bytes(), d, i, last)
				}
				last = i
			}
			var term btcec.ModNScalar
			if d < 0 {
				term.SetInt(uint32(-int32(d))).Negate()
			} else {
				term.SetInt(uint32(d))
			}
			got.Add(term.Mul(&pow))
			pow.Add(new(btcec.ModNScalar).Set(&pow))
		}
		if !got.Equals(k) {
			t.Fatalf("%x became %x", k.Bytes(), got.Bytes())
		}
	}
}

// edgeScalars are 0, small ones, those about n and n/2, all-ones patterns and
// some of a hash chain.
func edgeScalars() (out []*btcec.ModNScalar) {
	half := new(btcec.ModNScalar).SetInt(2).InverseNonConst()
	for i := range uint32(40) {
		k := new(btcec.ModNScalar).SetInt(i)
		out = append(out, k, new(btcec.ModNScalar).Set(k).Negate(), new(btcec.ModNScalar).Set(half).Add(k))
	}
	for _, fill := range []byte{0xff, 0x0f, 0xf0, 0x55, 0xaa, 0x7f, 0x80, 0x1f} {
		var b [32]byte
		for i := range b {
			b[i] = fill
		}
		out = append(out, scalarOf(b))
	}
	sum := sha256.Sum256([]byte("naf"))
	for range 100 {
		sum = sha256.Sum256(sum[:])
		out = append(out, scalarOf(sum))
	}
	return out
}

// TestAddMuls compares with one multiplication at a time, with infinity, equal
// and cancelling points among the terms.
func TestAddMuls(t *testing.T) {
	scalars := edgeScalars()
	var points []Point
	for i := range uint32(7) {
		p := MulBase(new(btcec.ModNScalar).SetInt(i + 1))
		points = append(points, p, p.Negate())
	}
	points = append(points, Point{}, points[0])
	for n := range 12 {
		for from := 0; from+n <= len(scalars); from += 7 {
			var ks []btcec.ModNScalar
			var ps []Point
			var want, got Sum
			want.Add(points[2])
			got.Add(points[2])
			for i := range n {
				ks = append(ks, *scalars[from+i])
				ps = append(ps, points[(from+i)%len(points)])
				want.AddMul(&ks[i], ps[i])
			}
			got.AddMuls(ks, ps)
			if !got.Point().Equal(want.Point()) {
				t.Fatalf("%d terms from %d: %s, want %s", n, from, got.Point().PubKey(), want.Point().PubKey())
			}
		}
	}
	// k*P - k*P + 0 is infinity.
	k := *scalars[len(scalars)-1]
	var none Sum
	none.AddMuls([]btcec.ModNScalar{k, k, k, {}}, []Point{points[0], points[1], {}, points[3]})
	if !none.Point().IsInfinity() {
		t.Error("does not cancel")
	}
}
