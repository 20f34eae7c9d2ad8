package bip340

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/secret"
)

// Key is a secret scalar with its public key. The scalar lives in a
// secret.Bytes of the key's own, so that no printer or encoder can reach it. A
// Key is safe for concurrent use.
type Key struct {
	pub    PubKey
	scalar secret.Bytes
}

// NewKey makes a key of 32 big-endian bytes. It takes a copy: s stays usable,
// and both are burned apart. The error is ErrScalar, or secret.ErrBurned; it
// never shows the secret.
func NewKey(s secret.Bytes) (*Key, error) {
	var k *Key
	err := s.Use(func(b []byte) error {
		if len(b) != 32 {
			return fmt.Errorf("%w: a key has 32 bytes", ErrScalar)
		}
		var err error
		secret.Do(func() { k, err = keyOf((*[32]byte)(b)) })
		return err
	})
	return k, err
}

// keyOf leaves b as it is.
func keyOf(b *[32]byte) (*Key, error) {
	var d btcec.ModNScalar
	defer d.Zero()
	if d.SetBytes(b)|d.IsZeroBit() != 0 {
		return nil, ErrScalar
	}
	own := *b
	return &Key{pub: MulBase(&d).PubKey(), scalar: secret.New(own[:])}, nil
}

// GenerateKey draws a key from the system's randomness. It also returns the
// scalar's 32 bytes, for a secret.Store; burn them once they are stored.
func GenerateKey() (*Key, secret.Bytes, error) {
	for {
		var b [32]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, secret.Bytes{}, ErrRand
		}
		k, err := keyOf(&b)
		kept := secret.New(b[:])
		if err == nil {
			return k, kept, nil
		}
		// Out of range once in 2^128 draws: draw again.
		kept.Burn()
	}
}

// PubKey returns the public key.
func (k *Key) PubKey() PubKey { return k.pub }

// Burn wipes the scalar; every later use returns secret.ErrBurned.
func (k *Key) Burn() { k.scalar.Burn() }

// String names the public key only.
func (k *Key) String() string { return "key " + k.pub.String() }

// GoString names the public key only.
func (k *Key) GoString() string { return k.String() }

// LogValue names the public key only.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText refuses with secret.ErrMarshal.
func (k *Key) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// MarshalBinary refuses with secret.ErrMarshal.
func (k *Key) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }

// use calls f with the scalar and wipes it afterwards.
func (k *Key) use(f func(d *btcec.ModNScalar) error) error {
	return k.scalar.Use(func(b []byte) error {
		var err error
		secret.Do(func() {
			var d btcec.ModNScalar
			d.SetByteSlice(b)
			err = f(&d)
			d.Zero()
		})
		return err
	})
}

// Sign makes a BIP-340 signature of msg, of any length, with fresh auxiliary
// randomness. It does not verify its own signature: the nonce is hedged, so a
// fault yields a useless signature, not a leak that repeats.
func (k *Key) Sign(msg []byte) ([64]byte, error) {
	return k.sign(rand.Reader, msg)
}

func (k *Key) sign(random io.Reader, msg []byte) (sig [64]byte, err error) {
	return Standard().Sign(k, random, msg)
}

// negateIf negates s when bit is 1 and leaves it when bit is 0, in constant
// time: the scalar's limbs are out of reach, so it selects among encodings.
func negateIf(s *btcec.ModNScalar, bit uint32) {
	var negated btcec.ModNScalar
	negated.NegateVal(s)
	var a, b [32]byte
	s.PutBytes(&a)
	negated.PutBytes(&b)
	subtle.ConstantTimeCopy(int(bit), a[:], b[:])
	s.SetBytes(&a)
	negated.Zero()
	clear(a[:])
	clear(b[:])
}
