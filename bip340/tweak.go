package bip340

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
)

// TweakContext is a public key under tweaks: (Q, gacc, tacc) of BIP-327 and
// BIP-445, such that Q = gacc*Q0 + tacc*G. gacc is 1 or -1. It is immutable.
type TweakContext struct {
	q       Point
	negated bool // gacc = -1
	tacc    btcec.ModNScalar
}

// NewTweakContext begins with the untweaked key q; infinity is ErrInfinity.
func NewTweakContext(q Point) (TweakContext, error) {
	if q.IsInfinity() {
		return TweakContext{}, ErrInfinity
	}
	return TweakContext{q: q}, nil
}

// ApplyTweak is ApplyTweak of BIP-327: it adds t*G, after making the key even
// when xonly is set. t is 32 big-endian bytes below the group order, else
// ErrScalar; a result at infinity is ErrInfinity.
func (c TweakContext) ApplyTweak(t [32]byte, xonly bool) (TweakContext, error) {
	var k btcec.ModNScalar
	if k.SetBytes(&t) != 0 {
		return TweakContext{}, fmt.Errorf("%w: the tweak must be less than n", ErrScalar)
	}
	if xonly && !c.q.HasEvenY() {
		c.q = c.q.Negate()
		c.negated = !c.negated
		c.tacc.Negate()
	}
	var sum Sum
	sum.AddMulBase(&k)
	sum.Add(c.q)
	c.q = sum.Point()
	if c.q.IsInfinity() {
		return TweakContext{}, fmt.Errorf("%w: the result of tweaking", ErrInfinity)
	}
	c.tacc.Add(&k)
	return c, nil
}

// ApplyTapTweak applies the x-only tweak of BIP-341 for the script tree with
// the given root; an empty root commits to no script.
func (c TweakContext) ApplyTapTweak(root []byte) (TweakContext, error) {
	x := c.q.XOnly()
	return c.ApplyTweak(tagTapTweak.Hash(x[:], root), true)
}

// Q returns the tweaked key.
func (c TweakContext) Q() Point { return c.q }

// flips reports whether g*gacc is -1: whether a secret key is to be negated for
// a signature under the x coordinate of Q.
func (c *TweakContext) flips() bool { return c.q.HasEvenY() == c.negated }

// OutputKey is the BIP-341 output key of an internal key and a script tree
// root (empty for no script), and the parity of its y, 0 or 1, as a control
// block wants it.
func OutputKey(internal XOnly, root []byte) (XOnly, byte, error) {
	p, err := internal.PubKey().Point()
	if err != nil {
		return XOnly{}, 0, err
	}
	c, err := TweakContext{q: p}.ApplyTapTweak(root)
	if err != nil {
		return XOnly{}, 0, err
	}
	var parity byte
	if !c.q.HasEvenY() {
		parity = 1
	}
	return c.q.XOnly(), parity, nil
}
