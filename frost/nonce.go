package frost

import (
	"encoding/binary"

	"github.com/vigil-ark/vigil/bip340"
)

// PubNonce is the public half of a nonce, and AggNonce the sum of all signers'.
type (
	PubNonce = bip340.PubNonce
	AggNonce = bip340.AggNonce
)

// ParsePubNonce decodes 66 bytes and checks both points; the error is
// bip340.ErrPoint.
func ParsePubNonce(b []byte) (PubNonce, error) { return bip340.ParsePubNonce(b) }

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
		r1, r2, err := nonces[i].Points()
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
