package bip340

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/secret"
)

// SecNonce is the secret half of a two-scalar nonce of BIP-327 or BIP-445. It
// serves one signature with the key that it was made for: the first use wipes
// it, whether or not a signature comes of it. It lives in memory only: it cannot
// be encoded, and prints as the word "nonce".
type SecNonce struct {
	key PubKey
	pub [2]Point
	use func(f func(k1, k2 *btcec.ModNScalar) error) error
}

// Public returns the two public points, decoded, for callers that add them up.
func (n *SecNonce) Public() [2]Point { return n.pub }

// newSecNonce takes k1 and k2 over and wipes them.
func newSecNonce(key PubKey, k1, k2 *btcec.ModNScalar) *SecNonce {
	r := MulBases(k1, k2)
	k := [2]btcec.ModNScalar{*k1, *k2}
	k1.Zero()
	k2.Zero()
	var used atomic.Bool
	return &SecNonce{key: key, pub: [2]Point(r), use: func(f func(k1, k2 *btcec.ModNScalar) error) error {
		if used.Swap(true) {
			return ErrNonceUsed
		}
		// From here on this caller alone reaches k, once.
		defer func() {
			k[0].Zero()
			k[1].Zero()
		}()
		return f(&k[0], &k[1])
	}}
}

// Derivation names what a nonce is bound to beside randomness and key: the two
// tags of the standard, and all its other fields in their encoding, up to but
// not including the last byte, which counts the two scalars.
type Derivation struct {
	Aux, Nonce Tag
	Fields     []byte
}

// NewSecNonce draws 32 bytes from random, hedges them with the key and d, and
// returns the nonce with the two public points' encodings (NonceGen of BIP-327
// and BIP-445). Production code passes crypto/rand.Reader.
func NewSecNonce(random io.Reader, key *Key, d Derivation) (*SecNonce, PubNonce, error) {
	var fresh [32]byte
	if _, err := io.ReadFull(random, fresh[:]); err != nil {
		return nil, PubNonce{}, ErrRand
	}
	var n *SecNonce
	var pub PubNonce
	err := key.use(func(sk *btcec.ModNScalar) (err error) {
		var seed [32]byte
		sk.PutBytes(&seed)
		hashed := d.Aux.hashSecret(fresh[:])
		subtle.XORBytes(seed[:], seed[:], hashed[:])
		n, pub, err = deriveNonce(key.pub, &seed, d)
		clear(seed[:])
		clear(hashed[:])
		return err
	})
	clear(fresh[:])
	return n, pub, err
}

func deriveNonce(key PubKey, seed *[32]byte, d Derivation) (*SecNonce, PubNonce, error) {
	var k [2]btcec.ModNScalar
	for i := range k {
		sum := d.Nonce.hashSecret(seed[:], d.Fields, []byte{byte(i)})
		k[i].SetBytes(&sum)
		clear(sum[:])
	}
	return nonceOf(key, &k[0], &k[1])
}

func nonceOf(key PubKey, k1, k2 *btcec.ModNScalar) (*SecNonce, PubNonce, error) {
	var pub PubNonce
	if k1.IsZeroBit()|k2.IsZeroBit() != 0 {
		return nil, pub, fmt.Errorf("%w: nonce", ErrScalar)
	}
	n := newSecNonce(key, k1, k2)
	p1, p2 := n.pub[0].PubKey(), n.pub[1].PubKey()
	copy(pub[:33], p1[:])
	copy(pub[33:], p2[:])
	return n, pub, nil
}

// ImportSecNonce makes a nonce of its two scalars, 64 bytes, for the key pub. It
// exists to reproduce published vectors and is called by tests only, which a
// test holds: a nonce that comes from anywhere but fresh randomness may have
// been used before. The error is ErrScalar.
func ImportSecNonce(pub PubKey, k secret.Bytes) (*SecNonce, error) {
	var n *SecNonce
	err := k.Use(func(b []byte) error {
		var k1, k2 btcec.ModNScalar
		if len(b) != 64 || k1.SetByteSlice(b[:32]) || k2.SetByteSlice(b[32:]) || k1.IsZero() || k2.IsZero() {
			return fmt.Errorf("%w: nonce", ErrScalar)
		}
		n = newSecNonce(pub, &k1, &k2)
		return nil
	})
	return n, err
}

// Burn wipes the nonce; a later use returns ErrNonceUsed. It may be called more
// than once and beside a running use, which keeps the nonce to its end.
func (n *SecNonce) Burn() {
	if n != nil && n.use != nil {
		// The only error says that the nonce is gone already.
		_ = n.use(func(_, _ *btcec.ModNScalar) error { return nil })
	}
}

// String returns the word "nonce".
func (*SecNonce) String() string { return "nonce" }

// GoString returns the word "nonce".
func (*SecNonce) GoString() string { return "nonce" }

// LogValue returns the word "nonce".
func (*SecNonce) LogValue() slog.Value { return slog.StringValue("nonce") }

// MarshalText refuses with secret.ErrMarshal.
func (*SecNonce) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// MarshalBinary refuses with secret.ErrMarshal.
func (*SecNonce) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }
