package bip340

import (
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
)

const (
	generator = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
	zeros     = "000000000000000000000000000000000000000000000000000000000000000000"
)

func TestStrictDecoding(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		ok        bool
		extOK     bool // as an aggregate nonce half
	}{
		{"generator", generator, true, true},
		{"odd", "03" + generator[2:], true, true},
		{"infinity", zeros, false, true},
		{"tag 0 with garbage", "00" + generator[2:], false, false},
		{"tag 0 with a trailing one", zeros[:64] + "01", false, false},
		{"tag 1", "01" + generator[2:], false, false},
		{"tag 4", "04" + generator[2:], false, false},
		{"hybrid tag 6", "06" + generator[2:], false, false},
		{"x not on the curve", "02" + strings.Repeat("0", 63) + "7", false, false},
		{"x = 0", "02" + zeros[2:], false, false},
		{"x = p", "02fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", false, false},
		{"x = p+1, which is 1", "02fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc30", false, false},
		{"short", generator[:64], false, false},
		{"long", generator + "00", false, false},
		{"empty", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.hex)
			k, err := ParsePubKey(b)
			if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrPoint)) {
				t.Fatalf("ParsePubKey: %v", err)
			}
			if c.ok && k.String() != c.hex {
				t.Fatalf("decoded as %s", k)
			}
			if _, err := ParsePubKeyHex(c.hex); (err == nil) != c.ok {
				t.Fatalf("ParsePubKeyHex: %v", err)
			}
			if len(b) == 33 {
				p, err := DecodePointOrInfinity([33]byte(b))
				if (err == nil) != c.extOK {
					t.Fatalf("DecodePointOrInfinity: %v", err)
				}
				if err == nil && p.PubKey().String() != c.hex {
					t.Fatalf("encodes as %s", p.PubKey())
				}
			}
		})
	}
	if _, err := ParsePubKeyHex(strings.Repeat("g", 66)); !errors.Is(err, ErrPoint) {
		t.Errorf("no hex: %v", err)
	}
	if _, err := ParseXOnly(make([]byte, 33)); !errors.Is(err, ErrPoint) {
		t.Errorf("x-only of 33 bytes: %v", err)
	}
}

func TestPointArithmetic(t *testing.T) {
	k, err := ParsePubKeyHex(generator)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := k.Point()
	if !g.HasEvenY() || g.Negate().HasEvenY() || g.Equal(g.Negate()) || !g.Equal(g.Negate().Negate()) {
		t.Error("negation")
	}
	if g.XOnly() != g.Negate().XOnly() || g.XOnly().PubKey() != k {
		t.Error("x-only")
	}
	var zero Point
	if !zero.IsInfinity() || zero.HasEvenY() || zero.Equal(g) || !zero.Equal(Point{}) || !zero.Negate().IsInfinity() {
		t.Error("infinity")
	}
	two := MulBase(new(btcec.ModNScalar).SetInt(2))
	var sum, nothing, back Sum
	sum.Add(g)
	sum.Add(g) // doubling
	back.AddMulBase(new(btcec.ModNScalar).SetInt(3))
	back.AddMul(new(btcec.ModNScalar).SetInt(2), g.Negate())
	nothing.Add(g)
	nothing.Add(g.Negate())
	nothing.Add(zero)
	got := Points(&nothing, &sum, &nothing, &back)
	if !got[0].IsInfinity() || !got[1].Equal(two) || !got[2].IsInfinity() || !got[3].Equal(g) {
		t.Errorf("sums: %v", got)
	}
	if !sum.Point().Equal(two) || !nothing.Point().IsInfinity() || len(Points()) != 0 {
		t.Error("single sums")
	}
	sum.Negate()
	if !sum.Point().Equal(two.Negate()) {
		t.Error("negated sum")
	}
}

// FuzzParsePubKey agrees with the library on what a compressed key is, and
// encodes what it decoded.
func FuzzParsePubKey(f *testing.F) {
	for _, s := range []string{generator, zeros, "04" + generator[2:], "02" + strings.Repeat("f", 64)} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParsePubKey(b)
		_, libErr := btcec.ParsePubKey(b)
		if len(b) == 33 && (err == nil) != (libErr == nil) {
			t.Fatalf("ours %v, library's %v", err, libErr)
		}
		if err != nil {
			return
		}
		if string(k[:]) != string(b) {
			t.Fatalf("%x became %s", b, k)
		}
		if x, err := ParseXOnly(b[1:]); err != nil || x != k.XOnly() {
			t.Fatalf("x-only: %v", err)
		}
	})
}

func TestTweakContext(t *testing.T) {
	g := MulBase(new(btcec.ModNScalar).SetInt(1))
	if _, err := NewTweakContext(Point{}); !errors.Is(err, ErrInfinity) {
		t.Errorf("infinity: %v", err)
	}
	c, err := NewTweakContext(g)
	if err != nil {
		t.Fatal(err)
	}
	minusOne := new(btcec.ModNScalar).SetInt(1).Negate().Bytes()
	if _, err := c.ApplyTweak(minusOne, false); !errors.Is(err, ErrInfinity) {
		t.Errorf("tweak to infinity: %v", err)
	}
	order := [32]byte(unhex(t, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"))
	if _, err := c.ApplyTweak(order, false); !errors.Is(err, ErrScalar) {
		t.Errorf("tweak n: %v", err)
	}
	// G tweaked by 1 plainly is 2G, whatever came before is unchanged.
	if d, err := c.ApplyTweak([32]byte{31: 1}, false); err != nil || !d.Q().Equal(MulBase(new(btcec.ModNScalar).SetInt(2))) || !c.Q().Equal(g) {
		t.Errorf("tweak 1: %v", err)
	}
	if _, _, err := OutputKey(XOnly{31: 7}, nil); !errors.Is(err, ErrPoint) {
		t.Errorf("output key of no point: %v", err)
	}
}

func TestTags(t *testing.T) {
	long := make([]byte, 2000)
	for _, name := range []string{"TapLeaf", "TapBranch", "TapTweak", "BIP0340/challenge", "BIP0340/nonce", "vigil/any"} {
		tag := NewTag(name)
		for _, parts := range [][][]byte{nil, {[]byte("a")}, {[]byte("a"), []byte("bc")}, {long, []byte("x")}} {
			want := tag.Hash(parts...)
			if got := TaggedHash(name, parts...); got != want {
				t.Errorf("%s: TaggedHash %x, want %x", name, got, want)
			}
			if got := tag.hashSecret(parts...); got != want {
				t.Errorf("%s: hashSecret %x, want %x", name, got, want)
			}
			// Without a kept state the prefix is hashed again.
			plain := Tag{prefix: tag.prefix}
			if got := plain.Hash(parts...); got != want {
				t.Errorf("%s: without state %x, want %x", name, got, want)
			}
		}
	}
}
