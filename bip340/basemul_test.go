package bip340

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
)

// checkBase holds the masked multiplication against the library's
// variable-time one.
func checkBase(t *testing.T, k *btcec.ModNScalar) {
	t.Helper()
	before := *k
	got := MulBase(k)
	if !k.Equals(&before) {
		t.Fatal("the scalar was changed")
	}
	var j btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(k, &j)
	j.ToAffine()
	if want := affine(&j); !got.Equal(want) {
		t.Fatalf("%x*G = %s, want %s", k.Bytes(), got.PubKey(), want.PubKey())
	}
}

func scalarOf(b [32]byte) *btcec.ModNScalar {
	var k btcec.ModNScalar
	k.SetBytes(&b)
	return &k
}

func TestMulBaseEdges(t *testing.T) {
	one := new(btcec.ModNScalar).SetInt(1)
	last := new(btcec.ModNScalar).Set(one).Negate() // n-1
	half := new(btcec.ModNScalar).SetInt(2).InverseNonConst()
	edges := []*btcec.ModNScalar{
		one, new(btcec.ModNScalar).SetInt(2), new(btcec.ModNScalar).SetInt(3), last,
		new(btcec.ModNScalar).Set(last).Add(last), // n-2
		half, // (n+1)/2
		new(btcec.ModNScalar).Set(half).Add(last), // (n-1)/2
	}
	for _, k := range edges {
		checkBase(t, k)
	}
}

// TestMulBasePatterns sets each digit of the table to each of its values, alone
// and in all places at once, and each bit alone.
func TestMulBasePatterns(t *testing.T) {
	for bit := range 256 {
		var b [32]byte
		b[31-bit/8] = 1 << (bit % 8)
		checkBase(t, scalarOf(b))
	}
	for d := 1; d < rowLen; d++ {
		var everywhere btcec.ModNScalar
		for i := range digits {
			var b [40]byte // digit i, shifted into place, may reach over bit 256
			shift := i * digitBits
			v := uint64(d) << (shift % 8)
			binary.LittleEndian.PutUint64(b[shift/8:][:8:8], v)
			var be [32]byte
			for j := range be {
				be[31-j] = b[j]
			}
			k := scalarOf(be)
			everywhere.Add(k)
			if d == 1 || d == rowLen-1 || i == digits-1 || i == d%digits {
				if !k.IsZero() {
					checkBase(t, k)
				}
			}
		}
		checkBase(t, &everywhere)
	}
	for nibble := byte(1); nibble < 16; nibble++ {
		var b [32]byte
		for i := range b {
			b[i] = nibble<<4 | nibble
		}
		checkBase(t, scalarOf(b))
		for i := range b { // every other nibble
			b[i] = nibble
		}
		checkBase(t, scalarOf(b))
	}
}

func TestMulBaseRandom(t *testing.T) {
	sum := sha256.Sum256([]byte("seed"))
	for range 2000 {
		sum = sha256.Sum256(sum[:])
		checkBase(t, scalarOf(sum))
	}
}

// FuzzMulBase compares with the library on any scalar.
func FuzzMulBase(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add([]byte{31: 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 32 {
			return
		}
		if k := scalarOf([32]byte(b)); !k.IsZero() {
			checkBase(t, k)
		}
	})
}

// TestPickReadsAll pins the mask: one entry and no other comes through.
func TestPickReadsAll(t *testing.T) {
	var row [rowLen]entry
	for i := range row {
		for w := range row[i] {
			row[i][w] = uint64(i)<<8 | uint64(w) | 1<<63
		}
	}
	for d := range row {
		var e entry
		pick(&row, uint64(d), &e)
		if e != row[d] {
			t.Fatalf("digit %d: %x", d, e)
		}
	}
}

func TestNegateIf(t *testing.T) {
	k := new(btcec.ModNScalar).SetInt(5)
	negateIf(k, 0)
	if !k.Equals(new(btcec.ModNScalar).SetInt(5)) {
		t.Error("changed for 0")
	}
	negateIf(k, 1)
	if !k.Equals(new(btcec.ModNScalar).SetInt(5).Negate()) {
		t.Error("not negated for 1")
	}
}
