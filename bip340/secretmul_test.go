package bip340

import (
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil/internal/turns"
)

func smallScalar(b []byte) btcec.ModNScalar {
	var k btcec.ModNScalar
	k.SetByteSlice(b)
	return k
}

func variableTime(k *btcec.ModNScalar, p Point) Point {
	var s Sum
	s.AddMul(k, p)
	return s.Point()
}

func TestMulSecretAgreesWithVariableTime(t *testing.T) {
	t.Parallel()
	var one btcec.ModNScalar
	one.SetInt(1)
	g := MulBase(&one)
	edge := []btcec.ModNScalar{one, smallScalar([]byte{2}), smallScalar([]byte{15}), smallScalar([]byte{16}), smallScalar([]byte{0x11, 0x11})}
	for _, k := range edge {
		var neg btcec.ModNScalar
		edge = append(edge, *neg.NegateVal(&k)) // n-1, n-2, …
	}
	half := smallScalar([]byte{2})
	half.InverseNonConst()
	edge = append(edge, half)
	points := []Point{g, g.Negate(), variableTime(&half, g)}
	for d := range foreignRow { // points that meet the table's own entries
		k := smallScalar([]byte{byte(d + 1)})
		points = append(points, variableTime(&k, g))
	}
	for i := range edge {
		for j := range points {
			if got, want := MulSecret(&edge[i], points[j]), variableTime(&edge[i], points[j]); !got.Equal(want) {
				t.Fatalf("scalar %d, point %d: %v, want %v", i, j, got.PubKey(), want.PubKey())
			}
		}
	}
	if !MulSecret(&one, Point{}).IsInfinity() {
		t.Error("a multiple of infinity is not infinity")
	}
}

func TestMulSecretProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.Byte(), 32, 32)
		k, m := smallScalar(bytes.Draw(t, "k")), smallScalar(bytes.Draw(t, "m"))
		if k.IsZero() || m.IsZero() {
			return
		}
		p := MulBase(&m)
		if got := MulSecret(&k, p); !got.Equal(variableTime(&k, p)) {
			t.Fatal("differs from the variable-time multiplication")
		}
	})
}

func TestMulBasesIsMulBase(t *testing.T) {
	t.Parallel()
	a, b, c := smallScalar([]byte{1}), smallScalar([]byte{7, 7}), smallScalar([]byte{9})
	for i, p := range MulBases(&a, &b, &c) {
		if !p.Equal(MulBase([]*btcec.ModNScalar{&a, &b, &c}[i])) {
			t.Errorf("scalar %d", i)
		}
	}
}

func TestSchemesAreApart(t *testing.T) {
	t.Parallel()
	d := smallScalar([]byte{3, 1, 4})
	p := MulBase(&d)
	one, other := NewScheme("vigil/test one"), NewScheme("vigil/test other")
	msg := []byte("message")
	sig, err := one.SignScalar(&d, p.PubKey(), [32]byte{1}, msg)
	if err != nil {
		t.Fatal(err)
	}
	if again := smallScalar([]byte{3, 1, 4}); !d.Equals(&again) {
		t.Error("SignScalar changed the scalar")
	}
	for _, pub := range []Point{p, p.Negate()} {
		if !one.Verify(pub, msg, sig) {
			t.Error("does not verify under its own scheme")
		}
		if other.Verify(pub, msg, sig) || Standard().Verify(pub, msg, sig) {
			t.Error("verifies under another scheme")
		}
	}
	if one.Verify(Point{}, msg, sig) {
		t.Error("verifies under infinity")
	}
}

// BenchmarkMulSecret: for a secret scalar and a foreign point, beside the
// variable-time multiplication (1A).
func BenchmarkMulSecret(b *testing.B) {
	f := benchFixture(b)
	t := turns.Fastest(b, pool, f.arbitrary, func(i int) {
		MulSecret(&f.scalars[i], affine(&f.points[(i+1)%pool]))
	})
	b.ReportMetric(t[1], "us/secret")
	b.ReportMetric(t[1]/t[0], "x-variable-time")
}

func TestSumMulSmall(t *testing.T) {
	t.Parallel()
	base := smallScalar([]byte{5, 5, 5})
	p := MulBase(&base)
	for _, k := range []uint32{0, 1, 2, 3, 7, 128, 129, 1 << 31, 1<<32 - 1} {
		var s Sum
		s.Add(p)
		s.MulSmall(k)
		var n btcec.ModNScalar
		n.SetInt(k)
		if !s.Point().Equal(variableTime(&n, p)) {
			t.Errorf("%d times", k)
		}
	}
	var infinity Sum
	infinity.MulSmall(3)
	if !infinity.Point().IsInfinity() {
		t.Error("a multiple of infinity is not infinity")
	}
}
