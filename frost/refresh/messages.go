package refresh

import (
	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// contribution is a participant's first message.
type contribution struct {
	coms  []bip340.Point // C_1 .. C_{t-1}
	pop   [64]byte
	nonce bip340.PubKey
	enc   []btcec.ModNScalar
}

// parseContribution's errors are chilldkg.ErrLength and chilldkg.ErrMalformed.
func parseContribution(b []byte, t, n int) (*contribution, error) {
	if err := pedpop.CheckLen(b, LenPmsg1(t, n), "participant message 1"); err != nil {
		return nil, err
	}
	r := pedpop.Reader{B: b}
	c := &contribution{coms: r.Points(t-1, "commitment"), pop: r.Sigs(1)[0], nonce: r.Keys(1)[0], enc: r.Scalars(n, "encrypted share")}
	return c, r.Err
}

func (c *contribution) encode() []byte {
	b := pedpop.AppendPoints(make([]byte, 0, LenPmsg1(len(c.coms)+1, len(c.enc))), c.coms)
	b = append(append(b, c.pop[:]...), c.nonce[:]...)
	return pedpop.AppendScalars(b, c.enc)
}

// sums is the coordinator's first message. The first commitments stay apart for
// the proofs of possession.
type sums struct {
	first  []bip340.Point // C_{i,1}
	rest   []bip340.Point // sums C_2 .. C_{t-1}
	pops   [][64]byte
	nonces []bip340.PubKey
	enc    []btcec.ModNScalar // E_j
}

// parseSums's errors are chilldkg.ErrLength and chilldkg.ErrMalformed.
func parseSums(b []byte, t, n int) (*sums, error) {
	if err := pedpop.CheckLen(b, LenCmsg1(t, n), "coordinator message 1"); err != nil {
		return nil, err
	}
	r := pedpop.Reader{B: b}
	s := &sums{
		first: r.Points(n, "first commitment"), rest: r.Points(t-2, "sum of commitments"), pops: r.Sigs(n),
		nonces: r.Keys(n), enc: r.Scalars(n, "encrypted share"),
	}
	return s, r.Err
}

func (s *sums) encode() []byte {
	n := len(s.first)
	b := pedpop.AppendPoints(make([]byte, 0, LenCmsg1(len(s.rest)+2, n)), s.first)
	b = pedpop.AppendPoints(b, s.rest)
	for i := range s.pops {
		b = append(b, s.pops[i][:]...)
	}
	return pedpop.AppendScalars(pedpop.AppendKeys(b, s.nonces), s.enc)
}

// change is what a refresh adds, in public: the coefficients C_1 .. C_{t-1} of
// the sharing of zero.
type change struct {
	coms   []bip340.Point
	nonces []bip340.PubKey
	enc    []btcec.ModNScalar
}

func (s *sums) change() *change {
	var first bip340.Sum
	for i := range s.first {
		first.Add(s.first[i])
	}
	return &change{coms: append([]bip340.Point{first.Point()}, s.rest...), nonces: s.nonces, enc: s.enc}
}

// body is what the certificate is about, behind the context's hash.
func (c *change) body() []byte {
	b := pedpop.AppendPoints(nil, c.coms)
	return pedpop.AppendScalars(pedpop.AppendKeys(b, c.nonces), c.enc)
}

// at returns the sharing of zero in public, for participant id.
func (c *change) at(id int) *bip340.Sum {
	return pedpop.Evaluate(append([]bip340.Point{{}}, c.coms...), id)
}
