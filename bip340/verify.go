package bip340

import "github.com/btcsuite/btcd/btcec/v2"

// Verifier verifies signatures under one key, decoded once. It is immutable.
type Verifier struct {
	key XOnly
	neg Point // -P, so that R = s*G + e*(-P)
}

// NewVerifier decodes pk; the error is ErrPoint.
func NewVerifier(pk XOnly) (*Verifier, error) {
	p, err := pk.PubKey().Point()
	if err != nil {
		return nil, err
	}
	return &Verifier{key: pk, neg: p.Negate()}, nil
}

// Verify reports whether sig is a BIP-340 signature of msg, of any length.
func (v *Verifier) Verify(msg []byte, sig [64]byte) bool {
	return v.verify(tagChallenge, msg, sig)
}

func (v *Verifier) verify(challenge Tag, msg []byte, sig [64]byte) bool {
	var r btcec.FieldVal
	var s btcec.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) {
		return false
	}
	var sum Sum
	sum.AddMulBase(&s)
	sum.AddMul(challenge.scalar(sig[:32], v.key[:], msg), v.neg)
	if sum.infinite() {
		return false
	}
	// x(R) is compared before the inversion, which only the parity needs.
	var x btcec.FieldVal
	x.SquareVal(&sum.j.Z).Mul(&r).Normalize()
	if !sum.j.X.Normalize().Equals(&x) {
		return false
	}
	return sum.Point().HasEvenY()
}

// Verify reports whether sig is a BIP-340 signature of msg, of any length,
// under pk. For many signatures under one key use a Verifier.
func Verify(pk XOnly, msg []byte, sig [64]byte) bool {
	v, err := NewVerifier(pk)
	return err == nil && v.Verify(msg, sig)
}
