package musig2

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// PartialSig is one cosigner's part of a signature, a big-endian scalar.
type PartialSig [32]byte

// ParsePartialSig decodes 32 bytes below the group order, else
// bip340.ErrScalar.
func ParsePartialSig(b []byte) (PartialSig, error) {
	var p PartialSig
	var s btcec.ModNScalar
	if len(b) != len(p) || s.SetByteSlice(b) {
		return PartialSig{}, fmt.Errorf("%w: partial signature", bip340.ErrScalar)
	}
	copy(p[:], b)
	return p, nil
}

// Session is one message under one aggregate nonce. It is public, immutable and
// safe for concurrent use; several keys of ours in one node share it.
type Session struct {
	ctx    *Context
	values *bip340.Session
}

// Session computes the session values (GetSessionValues). An aggregate nonce
// that does not decode is a *ContributionError.
func (c *Context) Session(agg AggNonce, msg [32]byte) (*Session, error) {
	return c.session(agg, msg[:])
}

func (c *Context) session(agg AggNonce, msg []byte) (*Session, error) {
	r1, r2, err := agg.Points()
	if err != nil {
		return nil, &ContributionError{Signer: -1, Contrib: "aggnonce", Err: err}
	}
	h := tagNonceCoef.Hash(agg[:], c.output[:], msg)
	var b btcec.ModNScalar
	b.SetBytes(&h)
	return &Session{ctx: c, values: bip340.NewSession(c.tweak, &b, r1, r2, msg)}, nil
}

// Sign makes key's partial signature. The nonce is used up before anything else
// is looked at, on every path. Errors are bip340.ErrNonceUsed,
// bip340.ErrNonceKey, ErrNotCosigner, *ContributionError for the aggregate
// nonce, and secret.ErrBurned for a burned key.
func (c *Context) Sign(key *bip340.Key, n *SecNonce, agg AggNonce, msg [32]byte) (PartialSig, error) {
	return c.sign(key, n, func() (*Session, error) { return c.session(agg, msg[:]) })
}

// Sign is Context.Sign with the session values at hand.
func (s *Session) Sign(key *bip340.Key, n *SecNonce) (PartialSig, error) {
	return s.ctx.sign(key, n, func() (*Session, error) { return s, nil })
}

func (c *Context) sign(key *bip340.Key, n *SecNonce, session func() (*Session, error)) (PartialSig, error) {
	sig, err := bip340.PartialSign(key, n, func() (*bip340.Session, *btcec.ModNScalar, error) {
		own, ok := c.cosigner[key.PubKey()]
		if !ok {
			return nil, nil, ErrNotCosigner
		}
		s, err := session()
		if err != nil {
			return nil, nil, err
		}
		return s.values, &own.coeff, nil
	})
	if err != nil {
		return PartialSig{}, fmt.Errorf("musig2: sign: %w", err)
	}
	return sig, nil
}

// VerifyPartial checks p as the partial signature of signer, whose public nonce
// was nonce. Errors are ErrPartialSig, ErrNotCosigner and *ContributionError.
func (c *Context) VerifyPartial(p PartialSig, signer bip340.PubKey, nonce PubNonce, agg AggNonce, msg [32]byte) error {
	s, err := c.session(agg, msg[:])
	if err != nil {
		return err
	}
	return s.VerifyPartial(p, signer, nonce)
}

// VerifyPartial is Context.VerifyPartial with the session values at hand.
func (s *Session) VerifyPartial(p PartialSig, signer bip340.PubKey, nonce PubNonce) error {
	who, ok := s.ctx.cosigner[signer]
	if !ok {
		return ErrNotCosigner
	}
	r1, r2, err := nonce.Points()
	if err != nil {
		return &ContributionError{Signer: -1, Contrib: "pubnonce", Err: err}
	}
	if !s.values.VerifyPartial(p, who.point, r1, r2, &who.coeff) {
		return ErrPartialSig
	}
	return nil
}

// Combine adds the cosigners' partial signatures, one for each key of the set,
// into a BIP-340 signature under OutputKey. It does not verify: a caller that
// has not checked the parts checks the whole with bip340.Verify. A partial
// signature out of range is a *ContributionError with its index.
func (c *Context) Combine(agg AggNonce, msg [32]byte, sigs []PartialSig) ([64]byte, error) {
	s, err := c.session(agg, msg[:])
	if err != nil {
		return [64]byte{}, err
	}
	return s.Combine(sigs)
}

// Combine is Context.Combine with the session values at hand.
func (s *Session) Combine(sigs []PartialSig) ([64]byte, error) {
	parts := make([][32]byte, len(sigs))
	for i := range sigs {
		parts[i] = sigs[i]
	}
	sig, bad, err := s.values.Finish(parts)
	if err != nil {
		return [64]byte{}, &ContributionError{Signer: bad, Contrib: "psig", Err: err}
	}
	return sig, nil
}
