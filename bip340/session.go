package bip340

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Session holds the values of one signing session that BIP-327 and BIP-445
// share: the tweaked key, the nonce coefficient b, the final nonce R and the
// challenge e. It is public and immutable.
type Session struct {
	ctx  TweakContext
	b, e btcec.ModNScalar
	rx   [32]byte
	rOdd bool
}

// NewSession computes R = r1 + b*r2 (or G, should that be infinity) and e for a
// message under the tweaked key of ctx.
func NewSession(ctx TweakContext, b *btcec.ModNScalar, r1, r2 Point, msg []byte) *Session {
	var sum Sum
	sum.AddMul(b, r2)
	sum.Add(r1)
	if sum.infinite() {
		btcec.GeneratorJacobian(&sum.j)
	}
	r := sum.Point()
	q := ctx.q.XOnly()
	s := &Session{ctx: ctx, b: *b, rx: r.XOnly(), rOdd: !r.HasEvenY()}
	s.e = *tagChallenge.scalar(s.rx[:], q[:], msg)
	return s
}

// PartialSign computes s = k1 + b*k2 + e*coeff*g*gacc*d, as 32 big-endian bytes,
// with the key's scalar d and the key's coefficient (BIP-327) or Lagrange value
// (BIP-445).
//
// The nonce is taken first, before prepare runs and whatever it finds: there is
// no path on which a nonce given to PartialSign can be used again. prepare
// yields the session and the coefficient. Errors are ErrNonceUsed, ErrNonceKey,
// secret.ErrBurned and those of prepare.
func PartialSign(key *Key, n *SecNonce, prepare func() (*Session, *btcec.ModNScalar, error)) (sig [32]byte, err error) {
	if n == nil || n.use == nil {
		return sig, ErrNonceUsed
	}
	err = n.use(func(k1, k2 *btcec.ModNScalar) error {
		if n.key != key.pub {
			return ErrNonceKey
		}
		s, coeff, err := prepare()
		if err != nil {
			return err
		}
		var c btcec.ModNScalar
		c.Mul2(&s.e, coeff)
		if s.ctx.flips() {
			c.Negate()
		}
		return key.use(func(d *btcec.ModNScalar) error {
			k2.Mul(&s.b).Add(k1)
			if s.rOdd { // public, like everything but d, k1 and k2
				k2.Negate()
			}
			d.Mul(&c).Add(k2)
			d.PutBytes(&sig)
			return nil
		})
	})
	return sig, err
}

// VerifyPartial checks the partial signature of the signer with public key p,
// coefficient coeff and public nonce points r1, r2. Full points are compared: a
// negated signature does not pass.
func (s *Session) VerifyPartial(sig [32]byte, p, r1, r2 Point, coeff *btcec.ModNScalar) bool {
	var k btcec.ModNScalar
	if k.SetBytes(&sig) != 0 {
		return false
	}
	var re Sum
	re.AddMul(&s.b, r2)
	re.Add(r1)
	if s.rOdd {
		re.Negate()
	}
	var c btcec.ModNScalar
	c.Mul2(&s.e, coeff)
	if s.ctx.flips() {
		c.Negate()
	}
	// s*G - e*a*g*P must be Re.
	var left Sum
	left.AddMulBase(&k)
	left.AddMul(c.Negate(), p)
	re.Negate()
	btcec.AddNonConst(&left.j, &re.j, &left.j)
	return left.infinite()
}

// Finish adds the partial signatures and the tweak into a BIP-340 signature. A
// partial signature out of range is ErrScalar, and its index is returned.
func (s *Session) Finish(sigs [][32]byte) (sig [64]byte, bad int, err error) {
	var total, k btcec.ModNScalar
	for i := range sigs {
		if k.SetBytes(&sigs[i]) != 0 {
			return sig, i, fmt.Errorf("%w: partial signature", ErrScalar)
		}
		total.Add(&k)
	}
	k.Mul2(&s.e, &s.ctx.tacc)
	if !s.ctx.q.HasEvenY() {
		k.Negate()
	}
	total.Add(&k)
	copy(sig[:32], s.rx[:])
	total.PutBytesUnchecked(sig[32:])
	return sig, -1, nil
}
