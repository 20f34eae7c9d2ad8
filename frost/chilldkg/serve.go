package chilldkg

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"

	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// Serving is a participant that is the coordinator too, as a server is: it
// shares what both compute, and no message of its own is parsed back. Its second
// message leaves inside the certificate.
type Serving struct {
	session *Session
	own     *Participant2
}

// Serve takes the other participants' first messages, by their number (the
// server's own place is not looked at), and returns the coordinator's first.
// Errors are those of Coordinate, Step1 and Step2; as the coordinator is the
// server itself, a *FaultError always names the participant, and no investigation
// is left to the caller.
func Serve(host *HostKey, params *Params, pmsgs1 [][]byte) (*Serving, []byte, error) {
	random, err := pedpop.Random()
	if err != nil {
		return nil, nil, err
	}
	defer clear(random[:])
	return serve(host, params, pmsgs1, &random, rand.Reader)
}

func serve(host *HostKey, params *Params, pmsgs1 [][]byte, random *[32]byte, aux io.Reader) (*Serving, []byte, error) {
	p1, _, err := step1(host, params, random)
	if err != nil {
		return nil, nil, err
	}
	all, err := params.contributions(pmsgs1, p1)
	if err != nil {
		return nil, nil, err
	}
	m := params.add(all)
	g, err := m.group()
	if err != nil {
		return nil, nil, err
	}
	p2, _, err := p1.accept(host, m, g, aux)
	if err != nil {
		return nil, nil, ownBlame(err, all, p1.id)
	}
	s := &Serving{session: &Session{params: params, eq: p2.eq, group: g}, own: p2}
	return s, m.encode(), nil
}

// ownBlame sharpens a participant's error for one who is the coordinator too.
func ownBlame(err error, all []*contribution, id int) error {
	if unknown := (*UnknownFaultError)(nil); errors.As(err, &unknown) {
		err = unknown.Investigate(inquiry(all, id))
	}
	if fault := (*FaultError)(nil); errors.As(err, &fault) && fault.By == ParticipantOrCoordinator {
		return &FaultError{By: Participant, ID: fault.ID, Reason: fault.Reason}
	}
	return err
}

// Transcript is Participant2.Transcript.
func (s *Serving) Transcript() []byte { return s.own.Transcript() }

// Certify takes the other participants' second messages, by their number, and
// returns the certificate, which holds the server's own signature: before it
// leaves, the host key, the outcome and the recovery data must be durable.
// Errors are those of Session.Finalize.
func (s *Serving) Certify(pmsgs2 [][]byte) (cmsg2 []byte, out *Output, recovery []byte, err error) {
	if cmsg2, err = s.session.certify(pmsgs2, s.own); err != nil {
		return nil, nil, nil, err
	}
	return cmsg2, s.own.out, append(bytes.Clone(s.own.eq), cmsg2...), nil
}

// Burn wipes the share of a session that did not come to its end.
func (s *Serving) Burn() { s.own.out.Share.Burn() }
