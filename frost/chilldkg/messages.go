package chilldkg

import (
	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
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

// contribution is a participant's first message.
type contribution struct {
	coms  []bip340.Point // A_0 .. A_{t-1}
	pop   [64]byte
	nonce bip340.PubKey
	enc   []btcec.ModNScalar
}

// parseContribution's errors are ErrLength and ErrMalformed.
func parseContribution(b []byte, t, n int) (*contribution, error) {
	if err := pedpop.CheckLen(b, LenPmsg1(t, n), "participant message 1"); err != nil {
		return nil, err
	}
	r := pedpop.Reader{B: b}
	c := &contribution{coms: r.Points(t, "commitment"), pop: r.Sigs(1)[0], nonce: r.Keys(1)[0], enc: r.Scalars(n, "encrypted share")}
	return c, r.Err
}

func (c *contribution) encode() []byte {
	b := make([]byte, 0, LenPmsg1(len(c.coms), len(c.enc)))
	b = pedpop.AppendPoints(b, c.coms)
	b = append(b, c.pop[:]...)
	b = append(b, c.nonce[:]...)
	return pedpop.AppendScalars(b, c.enc)
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
	if err := pedpop.CheckLen(b, LenCmsg1(t, n), "coordinator message 1"); err != nil {
		return nil, err
	}
	r := pedpop.Reader{B: b}
	s := &sums{
		first: r.Points(n, "commitment to a secret"), rest: r.Points(t-1, "sum of commitments"), pops: r.Sigs(n),
		nonces: r.Keys(n), enc: r.Scalars(n, "encrypted share"),
	}
	return s, r.Err
}

func (s *sums) encode() []byte {
	n := len(s.first)
	b := make([]byte, 0, LenCmsg1(len(s.rest)+1, n))
	b = pedpop.AppendPoints(pedpop.AppendPoints(b, s.first), s.rest)
	for i := range s.pops {
		b = append(b, s.pops[i][:]...)
	}
	return pedpop.AppendScalars(pedpop.AppendKeys(b, s.nonces), s.enc)
}

// investigation is the coordinator's investigation message to one participant.
type investigation struct {
	enc     []btcec.ModNScalar // everybody's encrypted share for the participant
	partial []bip340.Point     // everybody's public share for the participant
}

// parseInvestigation's errors are ErrLength and ErrMalformed.
func parseInvestigation(b []byte, n int) (*investigation, error) {
	if err := pedpop.CheckLen(b, LenInvestigation(n), "investigation"); err != nil {
		return nil, err
	}
	r := pedpop.Reader{B: b}
	v := &investigation{enc: r.Scalars(n, "encrypted share"), partial: r.Points(n, "partial public share")}
	return v, r.Err
}
