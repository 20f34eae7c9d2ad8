package chilldkg

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// Session is a coordinator after its first message. It holds no secret.
type Session struct {
	params *Params
	eq     []byte
	group  *group
}

// Coordinate adds up the participants' first messages, by their number, and
// returns the message for all of them, of LenCmsg1 bytes. It judges no proof and
// no nonce; the participants do. Errors are ErrLength and *FaultError.
func Coordinate(params *Params, pmsgs1 [][]byte) (*Session, []byte, error) {
	all, err := params.contributions(pmsgs1, nil)
	if err != nil {
		return nil, nil, err
	}
	m := params.add(all)
	g, err := m.group()
	if err != nil {
		return nil, nil, err
	}
	return &Session{params: params, eq: m.transcript(params, g), group: g}, m.encode(), nil
}

// contributions decodes all messages but own's, which takes the place of its
// participant's.
func (p *Params) contributions(pmsgs1 [][]byte, own *Participant1) ([]*contribution, error) {
	if len(pmsgs1) != p.n() {
		return nil, fmt.Errorf("%w: %d messages of %d participants", ErrLength, len(pmsgs1), p.n())
	}
	all := make([]*contribution, p.n())
	for i := range all {
		if own != nil && i == own.id {
			all[i] = own.own
			continue
		}
		c, err := parseContribution(pmsgs1[i], p.t, p.n())
		if errors.Is(err, ErrMalformed) {
			return nil, &FaultError{By: Participant, ID: i, Reason: err.Error()}
		}
		if err != nil {
			return nil, fmt.Errorf("participant %d: %w", i, err)
		}
		all[i] = c
	}
	return all, nil
}

func (p *Params) add(all []*contribution) *sums {
	n := p.n()
	m := &sums{first: make([]bip340.Point, n), pops: make([][64]byte, n), nonces: make([]bip340.PubKey, n), enc: make([]btcec.ModNScalar, n)}
	rest := make([]*bip340.Sum, p.t-1)
	for k := range rest {
		rest[k] = new(bip340.Sum)
	}
	for i, c := range all {
		m.first[i], m.pops[i], m.nonces[i] = c.coms[0], c.pop, c.nonce
		for k := range rest {
			rest[k].Add(c.coms[k+1])
		}
		for j := range c.enc {
			m.enc[j].Add(&c.enc[j])
		}
	}
	m.rest = bip340.Points(rest...)
	return m
}

// Finalize takes the participants' second messages, by their number, and returns
// the certificate for all of them, of LenCmsg2 bytes, the outcome without a secret
// share, and the recovery data. Errors are ErrLength and *FaultError.
func (s *Session) Finalize(pmsgs2 [][]byte) (cmsg2 []byte, out *Output, recovery []byte, err error) {
	if cmsg2, err = s.certify(pmsgs2, nil); err != nil {
		return nil, nil, nil, err
	}
	return cmsg2, s.group.output(s.params.t), append(bytes.Clone(s.eq), cmsg2...), nil
}

// certify checks all signatures but own's, which is put in its place.
func (s *Session) certify(pmsgs2 [][]byte, own *Participant2) ([]byte, error) {
	n := s.params.n()
	if len(pmsgs2) != n {
		return nil, fmt.Errorf("%w: %d messages of %d participants", ErrLength, len(pmsgs2), n)
	}
	cert := make([]byte, 0, LenCmsg2(n))
	for i, b := range pmsgs2 {
		if own != nil && i == own.out.ID {
			cert = append(cert, own.sig[:]...)
			continue
		}
		if err := pedpop.CheckLen(b, LenPmsg2, "participant message 2"); err != nil {
			return nil, fmt.Errorf("participant %d: %w", i, err)
		}
		cert = append(cert, b...)
	}
	for i := range n {
		if own != nil && i == own.out.ID {
			continue
		}
		if !s.params.verify(certTag, i, s.eq, [64]byte(cert[64*i:])) {
			return nil, &FaultError{By: Participant, ID: i, Reason: "invalid signature for the certificate"}
		}
	}
	return cert, nil
}

// Investigate answers participants whose step 2 ended in an *UnknownFaultError:
// it returns a message for each participant, of LenInvestigation bytes. Errors
// are ErrLength and *FaultError.
func Investigate(params *Params, pmsgs1 [][]byte) ([][]byte, error) {
	all, err := params.contributions(pmsgs1, nil)
	if err != nil {
		return nil, err
	}
	msgs := make([][]byte, params.n())
	for j := range msgs {
		msgs[j] = inquiry(all, j)
	}
	return msgs, nil
}

// inquiry is the investigation message to participant j.
func inquiry(all []*contribution, j int) []byte {
	enc, partial := make([]btcec.ModNScalar, len(all)), make([]*bip340.Sum, len(all))
	for i, c := range all {
		enc[i] = c.enc[j]
		partial[i] = pedpop.Evaluate(c.coms, j)
	}
	b := pedpop.AppendScalars(make([]byte, 0, LenInvestigation(len(all))), enc)
	return pedpop.AppendPoints(b, bip340.Points(partial...))
}
