package bip340

import "github.com/btcsuite/btcd/btcec/v2"

// Negated returns the key n-d, whose public key has the same x coordinate and
// the other parity. In a tree node a cosigner may stand under either. The two
// keys are burned apart; the error is secret.ErrBurned.
func (k *Key) Negated() (*Key, error) {
	var out *Key
	err := k.use(func(d *btcec.ModNScalar) error {
		var neg btcec.ModNScalar
		neg.NegateVal(d)
		b := neg.Bytes()
		neg.Zero()
		defer clear(b[:])
		var err error
		out, err = keyOf(&b)
		return err
	})
	return out, err
}
