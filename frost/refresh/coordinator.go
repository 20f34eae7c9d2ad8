package refresh

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// Session is a coordinator after its first message. It holds no secret.
type Session struct {
	params *Params
	body   []byte
}

// Coordinate adds up the participants' first messages, by their number, and
// returns the message for all of them, of LenCmsg1 bytes. A server that takes
// part hands in its own message like the others'. Errors are chilldkg.ErrLength
// and *chilldkg.FaultError.
func Coordinate(params *Params, pmsgs1 [][]byte) (*Session, []byte, error) {
	n := params.n()
	if len(pmsgs1) != n {
		return nil, nil, fmt.Errorf("%w: %d messages of %d participants", chilldkg.ErrLength, len(pmsgs1), n)
	}
	m := &sums{first: make([]bip340.Point, n), pops: make([][64]byte, n), nonces: make([]bip340.PubKey, n), enc: make([]btcec.ModNScalar, n)}
	rest := make([]*bip340.Sum, params.t()-2)
	for k := range rest {
		rest[k] = new(bip340.Sum)
	}
	for i, b := range pmsgs1 {
		c, err := parseContribution(b, params.t(), n)
		if errors.Is(err, chilldkg.ErrMalformed) {
			return nil, nil, participantFault(i, err.Error())
		}
		if err != nil {
			return nil, nil, fmt.Errorf("participant %d: %w", i, err)
		}
		m.first[i], m.pops[i], m.nonces[i] = c.coms[0], c.pop, c.nonce
		for k := range rest {
			rest[k].Add(c.coms[k+1])
		}
		for j := range c.enc {
			m.enc[j].Add(&c.enc[j])
		}
	}
	m.rest = bip340.Points(rest...)
	return &Session{params: params, body: m.change().body()}, m.encode(), nil
}

func participantFault(id int, reason string) error {
	return &chilldkg.FaultError{By: chilldkg.Participant, ID: id, Reason: reason}
}

// Finalize takes the participants' second messages, by their number, and returns
// the certificate for all of them and the record of the refresh. Errors are
// chilldkg.ErrLength and *chilldkg.FaultError.
func (s *Session) Finalize(pmsgs2 [][]byte) (cmsg2, record []byte, err error) {
	p := s.params
	if len(pmsgs2) != p.n() {
		return nil, nil, fmt.Errorf("%w: %d messages of %d participants", chilldkg.ErrLength, len(pmsgs2), p.n())
	}
	for i, b := range pmsgs2 {
		if err := pedpop.CheckLen(b, LenPmsg2(p.Healing()), "participant message 2"); err != nil {
			return nil, nil, fmt.Errorf("participant %d: %w", i, err)
		}
		cmsg2 = append(cmsg2, b...)
	}
	if id, err := p.verifyCert(s.body, cmsg2); err != nil {
		return nil, nil, participantFault(id, err.Error())
	}
	return cmsg2, append(p.transcript(s.body), cmsg2...), nil
}
