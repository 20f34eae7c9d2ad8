package musig2

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/vigil-ark/vigil/bip340"
)

// SecNonce is the secret half of a nonce: for one signature, with the key that
// it was made for, in memory only.
type SecNonce = bip340.SecNonce

// PubNonce is the public half of a nonce, and AggNonce the sum of all signers'.
type (
	PubNonce = bip340.PubNonce
	AggNonce = bip340.AggNonce
)

// ParsePubNonce decodes 66 bytes and checks both points; the error is
// bip340.ErrPoint.
func ParsePubNonce(b []byte) (PubNonce, error) { return bip340.ParsePubNonce(b) }

// ParseAggNonce decodes 66 bytes and checks both points; the error is
// bip340.ErrPoint.
func ParseAggNonce(b []byte) (AggNonce, error) { return bip340.ParseAggNonce(b) }

// NewNonce makes a nonce for one signature by key (NonceGen of BIP-327) out of
// fresh randomness, hedged with the key, the aggregate key of ctx, and msg and
// extra where they are known: ctx and msg may be nil. Callers must hold the
// SecNonce in memory only and call Burn on every path that does not sign.
func NewNonce(key *bip340.Key, ctx *Context, msg *[32]byte, extra []byte) (*SecNonce, PubNonce, error) {
	var x, m []byte
	if ctx != nil {
		x = ctx.output[:]
	}
	if msg != nil {
		m = msg[:]
	}
	return newNonce(rand.Reader, key, x, m, msg != nil, extra)
}

func newNonce(random io.Reader, key *bip340.Key, x, msg []byte, hasMsg bool, extra []byte) (*SecNonce, PubNonce, error) {
	if uint64(len(extra)) > math.MaxUint32 {
		return nil, PubNonce{}, fmt.Errorf("musig2: extra input of %d bytes", len(extra))
	}
	pk := key.PubKey()
	n, pub, err := bip340.NewSecNonce(random, key, bip340.Derivation{
		Aux: tagAux, Nonce: tagNonce, Fields: nonceFields(pk[:], x, msg, hasMsg, extra),
	})
	if err != nil {
		return nil, PubNonce{}, fmt.Errorf("musig2: nonce: %w", err)
	}
	return n, pub, nil
}

// nonceFields encodes what NonceGen hashes between the randomness and the final
// counter: u8(len) pk, u8(len) aggregate key, 00 or 01 u64(len) message,
// u32(len) extra.
func nonceFields(pk, x, msg []byte, hasMsg bool, extra []byte) []byte {
	b := make([]byte, 0, 1+len(pk)+1+len(x)+9+len(msg)+4+len(extra))
	b = append(append(b, byte(len(pk))), pk...)
	b = append(append(b, byte(len(x))), x...)
	if hasMsg {
		b = append(b, 1)
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(msg))), msg...)
	} else {
		b = append(b, 0)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(extra))), extra...)
}

// AggregateNonces sums the cosigners' public nonces (NonceAgg). A nonce that
// does not decode is a *ContributionError with its index.
func AggregateNonces(nonces []PubNonce) (AggNonce, error) {
	var sums [2]bip340.Sum
	for i := range nonces {
		r1, r2, err := nonces[i].Points()
		if err != nil {
			return AggNonce{}, &ContributionError{Signer: i, Contrib: "pubnonce", Err: err}
		}
		sums[0].Add(r1)
		sums[1].Add(r2)
	}
	var agg AggNonce
	for i, p := range bip340.Points(&sums[0], &sums[1]) {
		k := p.PubKey()
		copy(agg[33*i:], k[:])
	}
	return agg, nil
}
