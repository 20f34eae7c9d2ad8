// Package bip340 owns the curve: strict decoding, tagged hashes, masked base
// multiplication, BIP-340 signatures, and the tweak context, session values and
// nonces that BIP-327 and BIP-445 share. It knows nothing of Ark, storage
// or transport.
package bip340

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Errors of this package, matched with errors.Is. None of them tells which
// step on a secret failed, and none shows a byte of one.
var (
	// ErrPoint says that bytes are not the strict encoding of a curve point.
	ErrPoint = errors.New("bip340: not a valid point")
	// ErrScalar says that 32 bytes are not below the group order, or are zero where
	// zero is forbidden.
	ErrScalar = errors.New("bip340: scalar out of range")
	// ErrInfinity says that an operation ended in the point at infinity.
	ErrInfinity = errors.New("bip340: result is the point at infinity")
	// ErrNonceUsed says that a secret nonce was used or burned before.
	ErrNonceUsed = errors.New("bip340: secret nonce already used")
	// ErrNonceKey says that a secret nonce belongs to another key.
	ErrNonceKey = errors.New("bip340: secret nonce made for another key")
	// ErrRand says that the system's randomness failed.
	ErrRand = errors.New("bip340: no randomness")
)

// PubKey is a compressed SEC1 public key: one parity byte (2 or 3) and the
// 32-byte x coordinate. A value made by ParsePubKey is on the curve.
type PubKey [33]byte

// XOnly is a BIP-340 public key: the 32-byte x coordinate of a point with even
// y. A value made by ParseXOnly is on the curve.
type XOnly [32]byte

// ParsePubKey decodes a compressed public key: exactly 33 bytes, first byte 2
// or 3, x below the field prime and on the curve. Anything else is ErrPoint.
func ParsePubKey(b []byte) (PubKey, error) {
	var k PubKey
	if len(b) != len(k) {
		return PubKey{}, fmt.Errorf("%w: %d bytes, want %d", ErrPoint, len(b), len(k))
	}
	copy(k[:], b)
	if _, err := k.Point(); err != nil {
		return PubKey{}, err
	}
	return k, nil
}

// ParsePubKeyHex is ParsePubKey over 66 hexadecimal digits.
func ParsePubKeyHex(s string) (PubKey, error) {
	if len(s) != 2*len(PubKey{}) {
		return PubKey{}, fmt.Errorf("%w: %d hex digits, want %d", ErrPoint, len(s), 2*len(PubKey{}))
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return PubKey{}, fmt.Errorf("%w: %w", ErrPoint, err)
	}
	return ParsePubKey(b)
}

// ParseXOnly decodes a BIP-340 public key: exactly 32 bytes that are the x
// coordinate of a curve point. Anything else is ErrPoint.
func ParseXOnly(b []byte) (XOnly, error) {
	var k XOnly
	if len(b) != len(k) {
		return XOnly{}, fmt.Errorf("%w: %d bytes, want %d", ErrPoint, len(b), len(k))
	}
	copy(k[:], b)
	if _, err := k.PubKey().Point(); err != nil {
		return XOnly{}, err
	}
	return k, nil
}

// XOnly drops the parity.
func (k PubKey) XOnly() XOnly { return XOnly(k[1:]) }

// Point decodes the key. Its error is ErrPoint.
func (k PubKey) Point() (Point, error) { return decodePoint((*[33]byte)(&k)) }

// String returns the key in lower-case hexadecimal.
func (k PubKey) String() string { return hex.EncodeToString(k[:]) }

// PubKey returns the compressed key with even y.
func (k XOnly) PubKey() PubKey {
	var p PubKey
	p[0] = 2
	copy(p[1:], k[:])
	return p
}

// String returns the key in lower-case hexadecimal.
func (k XOnly) String() string { return hex.EncodeToString(k[:]) }
