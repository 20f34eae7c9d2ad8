package chilldkg

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// Lengths of the messages of a session, in bytes, for a threshold t and n
// participants.

// LenPmsg1 is the length of a participant's first message.
func LenPmsg1(t, n int) int { return 33*t + 64 + 33 + 32*n }

// LenCmsg1 is the length of the coordinator's first message.
func LenCmsg1(t, n int) int { return 162*n + 33*(t-1) }

// LenPmsg2 is the length of a participant's second message, a signature, and of
// a recovery acknowledgment.
const LenPmsg2 = 64

// LenCmsg2 is the length of the coordinator's second message, the certificate.
func LenCmsg2(n int) int { return 64 * n }

// LenInvestigation is the length of the coordinator's investigation message to
// one participant.
func LenInvestigation(n int) int { return 65 * n }

// LenRecovery is the length of the recovery data.
func LenRecovery(t, n int) int { return 4 + 33*t + 162*n }

// reader takes fixed pieces off a message whose length was checked before.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	piece := r.b[:n]
	r.b = r.b[n:]
	return piece
}

// points takes n points, which may be at infinity.
func (r *reader) points(n int, what string) []bip340.Point {
	out := make([]bip340.Point, n)
	for i := range out {
		p, err := bip340.DecodePointOrInfinity([33]byte(r.take(33)))
		if err != nil && r.err == nil {
			r.err = fmt.Errorf("%w: %s %d: %w", ErrMalformed, what, i, err)
		}
		out[i] = p
	}
	return out
}

func (r *reader) scalars(n int, what string) []btcec.ModNScalar {
	out := make([]btcec.ModNScalar, n)
	for i := range out {
		if out[i].SetByteSlice(r.take(32)) && r.err == nil {
			r.err = fmt.Errorf("%w: %s %d is out of range", ErrMalformed, what, i)
		}
	}
	return out
}

// keys takes n public keys as they are, to be decoded where they are used.
func (r *reader) keys(n int) []bip340.PubKey {
	out := make([]bip340.PubKey, n)
	for i := range out {
		out[i] = bip340.PubKey(r.take(33))
	}
	return out
}

func (r *reader) sigs(n int) [][64]byte {
	out := make([][64]byte, n)
	for i := range out {
		out[i] = [64]byte(r.take(64))
	}
	return out
}

func appendPoints(b []byte, ps []bip340.Point) []byte {
	for i := range ps {
		k := ps[i].PubKey()
		b = append(b, k[:]...)
	}
	return b
}

func appendScalars(b []byte, ss []btcec.ModNScalar) []byte {
	for i := range ss {
		k := ss[i].Bytes()
		b = append(b, k[:]...)
	}
	return b
}

// contribution is a participant's first message.
type contribution struct {
	coms  []bip340.Point // A_0 .. A_{t-1}
	pop   [64]byte
	nonce bip340.PubKey
	enc   []btcec.ModNScalar
}

func checkLen(b []byte, want int, what string) error {
	if len(b) != want {
		return fmt.Errorf("%w: %s of %d bytes, want %d", ErrLength, what, len(b), want)
	}
	return nil
}

// parseContribution's errors are ErrLength and ErrMalformed.
func parseContribution(b []byte, t, n int) (*contribution, error) {
	if err := checkLen(b, LenPmsg1(t, n), "participant message 1"); err != nil {
		return nil, err
	}
	r := reader{b: b}
	c := &contribution{coms: r.points(t, "commitment"), pop: r.sigs(1)[0], nonce: r.keys(1)[0], enc: r.scalars(n, "encrypted share")}
	return c, r.err
}

func (c *contribution) encode() []byte {
	b := make([]byte, 0, LenPmsg1(len(c.coms), len(c.enc)))
	b = appendPoints(b, c.coms)
	b = append(b, c.pop[:]...)
	b = append(b, c.nonce[:]...)
	return appendScalars(b, c.enc)
}

// sums is the coordinator's first message: the contributions, added up as far
// as the proofs of possession allow.
type sums struct {
	first  []bip340.Point // A_{i,0}
	rest   []bip340.Point // S_1 .. S_{t-1}
	pops   [][64]byte
	nonces []bip340.PubKey
	enc    []btcec.ModNScalar // E_j
}

// parseSums's errors are ErrLength and ErrMalformed.
func parseSums(b []byte, t, n int) (*sums, error) {
	if err := checkLen(b, LenCmsg1(t, n), "coordinator message 1"); err != nil {
		return nil, err
	}
	r := reader{b: b}
	s := &sums{
		first: r.points(n, "commitment to a secret"), rest: r.points(t-1, "sum of commitments"), pops: r.sigs(n),
		nonces: r.keys(n), enc: r.scalars(n, "encrypted share"),
	}
	return s, r.err
}

func (s *sums) encode() []byte {
	n := len(s.first)
	b := make([]byte, 0, LenCmsg1(len(s.rest)+1, n))
	b = appendPoints(appendPoints(b, s.first), s.rest)
	for i := range s.pops {
		b = append(b, s.pops[i][:]...)
	}
	return appendScalars(appendKeys(b, s.nonces), s.enc)
}

func appendKeys(b []byte, ks []bip340.PubKey) []byte {
	for i := range ks {
		b = append(b, ks[i][:]...)
	}
	return b
}

// investigation is the coordinator's investigation message to one participant.
type investigation struct {
	enc     []btcec.ModNScalar // everybody's encrypted share for the participant
	partial []bip340.Point     // everybody's public share for the participant
}

// parseInvestigation's errors are ErrLength and ErrMalformed.
func parseInvestigation(b []byte, n int) (*investigation, error) {
	if err := checkLen(b, LenInvestigation(n), "investigation"); err != nil {
		return nil, err
	}
	r := reader{b: b}
	v := &investigation{enc: r.scalars(n, "encrypted share"), partial: r.points(n, "partial public share")}
	return v, r.err
}
