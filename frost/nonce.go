package frost

import (
	"encoding/binary"
	"fmt"

	"github.com/vigil-ark/vigil/bip340"
)

// PubNonce is the public half of a nonce: two compressed points.
type PubNonce [66]byte

// AggNonce is the sum of all signers' public nonces: two compressed points, each
// 33 zero bytes when it is the point at infinity.
type AggNonce [66]byte

// ParsePubNonce decodes 66 bytes and checks both points; the error is
// bip340.ErrPoint.
func ParsePubNonce(b []byte) (PubNonce, error) {
	var n PubNonce
	if len(b) != len(n) {
		return PubNonce{}, fmt.Errorf("%w: public nonce of %d bytes, want %d", bip340.ErrPoint, len(b), len(n))
	}
	copy(n[:], b)
	if _, _, err := n.points(); err != nil {
		return PubNonce{}, err
	}
	return n, nil
}

// points decodes the halves; neither may be at infinity.
func (n *PubNonce) points() (r1, r2 bip340.Point, err error) {
	if r1, err = bip340.PubKey(n[:33]).Point(); err != nil {
		return r1, r2, err
	}
	r2, err = bip340.PubKey(n[33:]).Point()
	return r1, r2, err
}

// points decodes the halves; either may be at infinity.
func (n *AggNonce) points() (r1, r2 bip340.Point, err error) {
	if r1, err = bip340.DecodePointOrInfinity([33]byte(n[:33])); err != nil {
		return r1, r2, err
	}
	r2, err = bip340.DecodePointOrInfinity([33]byte(n[33:]))
	return r1, r2, err
}

// AggregateNonces sums the signers' public nonces (NonceAgg). A nonce that does
// not decode is a *ContributionError with its index.
func AggregateNonces(nonces []PubNonce) (AggNonce, error) {
	agg, _, err := aggregate(nonces, -1, [2]bip340.Point{})
	return agg, err
}

// aggregate also returns the two points, to save decoding them, as it saves
// decoding the own nonce at position at, whose points are own.
func aggregate(nonces []PubNonce, at int, own [2]bip340.Point) (agg AggNonce, r [2]bip340.Point, err error) {
	var sums [2]bip340.Sum
	for i := range nonces {
		if i == at {
			sums[0].Add(own[0])
			sums[1].Add(own[1])
			continue
		}
		r1, r2, err := nonces[i].points()
		if err != nil {
			return agg, r, &ContributionError{Index: i, Contrib: "pubnonce", Err: err}
		}
		sums[0].Add(r1)
		sums[1].Add(r2)
	}
	copy(r[:], bip340.Points(&sums[0], &sums[1]))
	for i := range r {
		k := r[i].PubKey()
		copy(agg[33*i:], k[:])
	}
	return agg, r, nil
}

// nonceFields encodes what NonceGen of BIP-445 hashes between the randomness and
// the final counter: u8(len) signer id, u8(len) public share, u8(len) x-only
// key, 00 or 01 u64(len) message, u32(len) extra.
func nonceFields(id, share, x, msg []byte, hasMsg bool, extra []byte) []byte {
	b := make([]byte, 0, 1+len(id)+1+len(share)+1+len(x)+9+len(msg)+4+len(extra))
	b = append(append(b, byte(len(id))), id...)
	b = append(append(b, byte(len(share))), share...)
	b = append(append(b, byte(len(x))), x...)
	if hasMsg {
		b = append(b, 1)
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(msg))), msg...)
	} else {
		b = append(b, 0)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(extra))), extra...)
}
