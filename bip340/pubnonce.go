package bip340

import "fmt"

// PubNonce is the public half of a nonce of BIP-327 and BIP-445: two compressed
// points.
type PubNonce [66]byte

// AggNonce is the sum of all signers' public nonces: two compressed points, each 33
// zero bytes when it is the point at infinity.
type AggNonce [66]byte

// ParsePubNonce decodes 66 bytes and checks both points; the error is ErrPoint.
func ParsePubNonce(b []byte) (PubNonce, error) {
	if len(b) != len(PubNonce{}) {
		return PubNonce{}, fmt.Errorf("%w: public nonce of %d bytes, want %d", ErrPoint, len(b), len(PubNonce{}))
	}
	n := PubNonce(b)
	if _, _, err := n.Points(); err != nil {
		return PubNonce{}, err
	}
	return n, nil
}

// ParseAggNonce decodes 66 bytes and checks both points; the error is ErrPoint.
func ParseAggNonce(b []byte) (AggNonce, error) {
	if len(b) != len(AggNonce{}) {
		return AggNonce{}, fmt.Errorf("%w: aggregate nonce of %d bytes, want %d", ErrPoint, len(b), len(AggNonce{}))
	}
	n := AggNonce(b)
	if _, _, err := n.Points(); err != nil {
		return AggNonce{}, err
	}
	return n, nil
}

// Points decodes the halves; neither may be at infinity.
func (n *PubNonce) Points() (r1, r2 Point, err error) {
	if r1, err = PubKey(n[:33]).Point(); err != nil {
		return r1, r2, err
	}
	r2, err = PubKey(n[33:]).Point()
	return r1, r2, err
}

// Points decodes the halves; either may be at infinity.
func (n *AggNonce) Points() (r1, r2 Point, err error) {
	if r1, err = DecodePointOrInfinity([33]byte(n[:33])); err != nil {
		return r1, r2, err
	}
	r2, err = DecodePointOrInfinity([33]byte(n[33:]))
	return r1, r2, err
}
