package bip340

import (
	"crypto/subtle"
	"errors"
	"io"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Scheme is BIP-340 under three tags of its own, so that a signature made for
// one purpose is none for another. It is immutable.
type Scheme struct{ aux, nonce, challenge Tag }

// NewScheme makes the scheme whose tags are prefix + "/aux", "/nonce" and
// "/challenge".
func NewScheme(prefix string) Scheme {
	return Scheme{aux: NewTag(prefix + "/aux"), nonce: NewTag(prefix + "/nonce"), challenge: NewTag(prefix + "/challenge")}
}

// Standard is the scheme of BIP-340 itself.
func Standard() Scheme { return Scheme{aux: tagAux, nonce: tagNonce, challenge: tagChallenge} }

// Sign signs msg, of any length, with 32 bytes of auxiliary randomness read from
// random: crypto/rand.Reader in production. It does not verify its own
// signature: the nonce is hedged, so a fault yields a useless signature, not a
// leak that repeats.
func (s Scheme) Sign(key *Key, random io.Reader, msg []byte) (sig [64]byte, err error) {
	var aux [32]byte
	if _, err := io.ReadFull(random, aux[:]); err != nil {
		return sig, ErrRand
	}
	err = key.use(func(d *btcec.ModNScalar) error {
		return s.sign(d, key.pub, &aux, msg, &sig)
	})
	return sig, err
}

// SignScalar is Sign with a scalar that is in nobody's Key, such as a
// coefficient of a key ceremony, and its public key. It leaves d as it is; d
// must not be zero.
func (s Scheme) SignScalar(d *btcec.ModNScalar, pub PubKey, aux [32]byte, msg []byte) (sig [64]byte, err error) {
	own := *d
	err = s.sign(&own, pub, &aux, msg, &sig)
	own.Zero()
	return sig, err
}

// Verify reports whether sig is a signature of msg under the x coordinate of p.
func (s Scheme) Verify(p Point, msg []byte, sig [64]byte) bool {
	if !p.finite {
		return false
	}
	if p.y.IsOdd() {
		p = p.Negate()
	}
	v := Verifier{key: p.XOnly(), neg: p.Negate()}
	return v.verify(s.challenge, msg, sig)
}

var errZeroNonce = errors.New("bip340: nonce is zero")

// sign is BIP-340 Sign. It changes d.
func (s Scheme) sign(d *btcec.ModNScalar, pub PubKey, aux *[32]byte, msg []byte, sig *[64]byte) error {
	if pub[0] == 3 { // the parity is public
		d.Negate()
	}
	px := pub[1:]
	var masked [32]byte
	d.PutBytes(&masked)
	hashed := s.aux.hashSecret(aux[:])
	subtle.XORBytes(masked[:], masked[:], hashed[:])
	seed := s.nonce.hashSecret(masked[:], px, msg)
	clear(masked[:])
	clear(hashed[:])
	var k btcec.ModNScalar
	k.SetBytes(&seed)
	clear(seed[:])
	if k.IsZeroBit() != 0 {
		return errZeroNonce
	}
	var r btcec.JacobianPoint
	mulBase(&k, &r)
	r.ToAffine()
	negateIf(&k, r.Y.IsOddBit())
	r.X.PutBytesUnchecked(sig[:32])
	e := s.challenge.scalar(sig[:32], px, msg)
	e.Mul(d).Add(&k)
	e.PutBytesUnchecked(sig[32:])
	k.Zero()
	return nil
}
