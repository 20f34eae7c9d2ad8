package frost

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// PartialSig is one signer's part of a signature, a big-endian scalar.
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
// safe for concurrent use.
type Session struct {
	ctx    *Context
	msg    []byte
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
		return nil, &ContributionError{Index: -1, Contrib: "aggnonce", Err: err}
	}
	return c.sessionOf(agg, r1, r2, msg), nil
}

// sessionOf is session with the points of agg at hand. The nonce coefficient
// binds the signers, the nonces, the key and the message.
func (c *Context) sessionOf(agg AggNonce, r1, r2 bip340.Point, msg []byte) *Session {
	h := tagNonceCoef.Hash(c.bound, agg[:], c.output[:], msg)
	var b btcec.ModNScalar
	b.SetBytes(&h)
	return &Session{ctx: c, msg: msg, values: bip340.NewSession(c.tweak, &b, r1, r2, msg)}
}

// sign takes the nonce first, whatever it then finds.
func (c *Context) sign(key *bip340.Key, at int, n *bip340.SecNonce, session func() (*Session, error)) (PartialSig, error) {
	sig, err := bip340.PartialSign(key, n, func() (*bip340.Session, *btcec.ModNScalar, error) {
		s, err := session()
		if err != nil {
			return nil, nil, err
		}
		return s.values, &c.lambdas[at], nil
	})
	if err != nil {
		return PartialSig{}, fmt.Errorf("frost: sign: %w", err)
	}
	return sig, nil
}

// Sign makes the partial signature, given all signers' public nonces by
// position. The nonce is used up before anything is looked at, on every path; a
// second call returns bip340.ErrNonceUsed. The own nonce must stand at its place
// unchanged, else ErrSigners. A nonce that does not decode is a
// *ContributionError. The Session verifies and combines the parts.
func (p *Pending) Sign(nonces []PubNonce) (PartialSig, *Session, error) {
	var s *Session
	sig, err := p.ctx.sign(p.share.key, p.at, p.nonce, func() (*Session, error) {
		if len(nonces) != len(p.ctx.ids) || nonces[p.at] != p.public {
			return nil, fmt.Errorf("%w: own public nonce is not among the nonces", ErrSigners)
		}
		agg, r, err := aggregate(nonces, p.at, p.nonce.Public())
		if err != nil {
			return nil, err
		}
		s = p.ctx.sessionOf(agg, r[0], r[1], p.msg[:])
		return s, nil
	})
	if err != nil {
		return PartialSig{}, nil, err
	}
	return sig, s, nil
}

// Query asks the last signer for one signature: everybody else's nonce is there
// by position. What stands at the last signer's own position is not looked at.
type Query struct {
	Context *Context
	Session SessionID
	Msg     [32]byte
	Nonces  []PubNonce
}

// Answer is the last signer's part. With the partial signatures of the others,
// Session makes the whole.
type Answer struct {
	Nonce   PubNonce
	Sig     PartialSig
	Session *Session
}

// Answer signs as the last signer: it draws a nonce that depends on the others',
// signs and wipes it, so that no nonce is left when it returns. Repeating it
// makes another nonce; a caller that wants to repeat an answer keeps the answer.
// Errors are ErrSigners, *ContributionError and secret.ErrBurned.
func (s *Share) Answer(q Query) (Answer, error) {
	at, err := s.member(q.Context)
	if err != nil {
		return Answer{}, err
	}
	if len(q.Nonces) != len(q.Context.ids) {
		return Answer{}, fmt.Errorf("%w: %d nonces for %d signers", ErrSigners, len(q.Nonces), len(q.Context.ids))
	}
	n, public, err := s.nonce(rand.Reader, q.Context, q.Msg[:], q.Session, q.Nonces)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Nonce: public}
	all := append([]PubNonce(nil), q.Nonces...)
	all[at] = public
	a.Sig, err = q.Context.sign(s.key, at, n, func() (*Session, error) {
		agg, r, err := aggregate(all, at, n.Public())
		if err != nil {
			return nil, err
		}
		a.Session = q.Context.sessionOf(agg, r[0], r[1], q.Msg[:])
		return a.Session, nil
	})
	if err != nil {
		return Answer{}, err
	}
	return a, nil
}

// AnswerAll answers many queries, each with a nonce of its own, or none: the
// first error ends it. The same public nonce in two queries is ErrNonceRepeated:
// its owner would give its share away by signing both.
func (s *Share) AnswerAll(qs []Query) ([]Answer, error) {
	seen := make(map[PubNonce]bool, len(qs))
	for i := range qs {
		own := qs[i].Context.position(s.id)
		for at, n := range qs[i].Nonces {
			if at == own {
				continue
			}
			if seen[n] {
				return nil, fmt.Errorf("%w: query %d", ErrNonceRepeated, i)
			}
			seen[n] = true
		}
	}
	answers := make([]Answer, len(qs))
	for i := range qs {
		var err error
		if answers[i], err = s.Answer(qs[i]); err != nil {
			return nil, fmt.Errorf("query %d: %w", i, err)
		}
	}
	return answers, nil
}

// VerifyPartial checks sig as that of the signer at position at, whose public
// nonce was nonce. Full points are compared. Errors are ErrPartialSig,
// ErrSigners and *ContributionError.
func (s *Session) VerifyPartial(sig PartialSig, at int, nonce PubNonce) error {
	if at < 0 || at >= len(s.ctx.ids) {
		return fmt.Errorf("%w: no position %d", ErrSigners, at)
	}
	r1, r2, err := nonce.Points()
	if err != nil {
		return &ContributionError{Index: at, Contrib: "pubnonce", Err: err}
	}
	if !s.values.VerifyPartial(sig, s.ctx.info.points[s.ctx.ids[at]], r1, r2, &s.ctx.lambdas[at]) {
		return ErrPartialSig
	}
	return nil
}

// combine adds the partial signatures, one of each signer by position, into a
// signature that is not verified yet.
func (s *Session) combine(sigs []PartialSig) ([64]byte, error) {
	if len(sigs) != len(s.ctx.ids) {
		return [64]byte{}, fmt.Errorf("%w: %d partial signatures of %d signers", ErrSigners, len(sigs), len(s.ctx.ids))
	}
	parts := make([][32]byte, len(sigs))
	for i := range sigs {
		parts[i] = sigs[i]
	}
	sig, bad, err := s.values.Finish(parts)
	if err != nil {
		return [64]byte{}, &ContributionError{Index: bad, Contrib: "psig", Err: err}
	}
	return sig, nil
}

// Aggregate adds the partial signatures, one of each signer by position, into a
// BIP-340 signature under the context's output key, and verifies it. Only when
// it does not verify are the parts verified one by one, to blame the first bad
// one with a *ContributionError; for that it takes all public nonces by
// position. When every part verifies the error is ErrSignature.
func (s *Session) Aggregate(sigs []PartialSig, nonces []PubNonce) ([64]byte, error) {
	sig, err := s.combine(sigs)
	if err != nil {
		return [64]byte{}, err
	}
	if bip340.Standard().Verify(s.ctx.tweak.Q(), s.msg, sig) {
		return sig, nil
	}
	if len(nonces) != len(sigs) {
		return [64]byte{}, ErrSignature
	}
	for i := range sigs {
		if err := s.VerifyPartial(sigs[i], i, nonces[i]); err != nil {
			if errors.Is(err, bip340.ErrPoint) {
				return [64]byte{}, err
			}
			return [64]byte{}, &ContributionError{Index: i, Contrib: "psig", Err: err}
		}
	}
	return [64]byte{}, ErrSignature
}
