package chilldkg

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// Output is what a session yields: the threshold key, everybody's public share,
// and for a participant its secret share.
type Output struct {
	ID        int // the participant; -1 for a coordinator
	Threshold int
	Key       bip340.PubKey
	PubShares []bip340.PubKey
	Share     secret.Bytes // 32 bytes; burned from the start for a coordinator
}

// Info validates the public part as the record of epoch 0.
func (o *Output) Info() (*frost.Info, error) {
	return frost.NewInfo(0, o.Threshold, o.Key, o.PubShares)
}

// group is the public outcome of a session.
type group struct {
	untweaked bip340.Point     // S_0
	tau       btcec.ModNScalar // public: a hash of S_0
	tauG      bip340.Point
	key       bip340.Point // S_0 + tau*G
	shares    []bip340.Point
}

// newGroup adds up. The key is tweaked such that no script path can be hidden in
// it: by the hash of the x coordinate of S_0, which is not made even first.
func newGroup(s0 bip340.Point, rest []bip340.Point, n int) (*group, error) {
	if s0.IsInfinity() {
		return nil, fmt.Errorf("chilldkg: sum of commitments: %w", bip340.ErrInfinity)
	}
	g := &group{untweaked: s0}
	x := s0.XOnly()
	sum := tagTapTweak.Hash(x[:])
	if g.tau.SetBytes(&sum) != 0 {
		return nil, fmt.Errorf("chilldkg: tweak: %w", bip340.ErrScalar)
	}
	var tweak, key bip340.Sum
	tweak.AddMulBase(&g.tau)
	key = tweak
	key.Add(s0)
	two := bip340.Points(&tweak, &key)
	g.tauG, g.key = two[0], two[1]
	coeffs := append([]bip340.Point{g.key}, rest...)
	all := make([]*bip340.Sum, n)
	for j := range all {
		all[j] = pedpop.Evaluate(coeffs, j)
	}
	g.shares = bip340.Points(all...)
	return g, nil
}

// group is newGroup of the message's sums.
func (s *sums) group() (*group, error) {
	var s0 bip340.Sum
	for i := range s.first {
		s0.Add(s.first[i])
	}
	return newGroup(s0.Point(), s.rest, len(s.first))
}

// transcript is the input of the equality check: what all participants must
// have seen alike.
func (s *sums) transcript(p *Params, g *group) []byte {
	b := make([]byte, 0, LenRecovery(p.t, p.n()))
	b = append(b, pedpop.Be4(p.t)...)
	b = pedpop.AppendPoints(b, []bip340.Point{g.untweaked})
	b = pedpop.AppendPoints(b, s.rest)
	b = append(b, p.joined...)
	return pedpop.AppendScalars(pedpop.AppendKeys(b, s.nonces), s.enc)
}

// output is the outcome without a secret share.
func (g *group) output(t int) *Output {
	o := &Output{ID: -1, Threshold: t, Key: g.key.PubKey(), PubShares: make([]bip340.PubKey, len(g.shares))}
	for i := range g.shares {
		o.PubShares[i] = g.shares[i].PubKey()
	}
	return o
}

// signed is what host key id signs of data under tag.
func signed(tag string, id int, data []byte) []byte {
	return append(append(pedpop.Padded33(tag), pedpop.Be4(id)...), data...)
}

// verify checks one host key's signature of data under tag.
func (p *Params) verify(tag string, id int, data []byte, sig [64]byte) bool {
	return bip340.Standard().Verify(p.points[id], signed(tag, id, data), sig)
}
