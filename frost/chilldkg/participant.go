package chilldkg

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// Participant1 is a participant after its first message. It holds no secret:
// the host key restores all of them. Forgetting it before the second message
// costs nothing.
type Participant1 struct {
	params *Params
	id     int
	own    *contribution
}

// ID returns the participant's number.
func (p *Participant1) ID() int { return p.id }

// Step1 begins a session with fresh randomness and returns the message for the
// coordinator, of LenPmsg1 bytes. The error is ErrHostKey when the host key is
// not among the session's.
func Step1(host *HostKey, params *Params) (*Participant1, []byte, error) {
	random, err := pedpop.Random()
	if err != nil {
		return nil, nil, err
	}
	defer clear(random[:])
	return step1(host, params, &random)
}

func step1(host *HostKey, params *Params, random *[32]byte) (*Participant1, []byte, error) {
	id, err := params.ID(host.PubKey())
	if err != nil {
		return nil, nil, err
	}
	if *random == ([32]byte{}) {
		return nil, nil, ErrRandomness
	}
	s := &Participant1{params: params, id: id}
	err = host.Use(func(d []byte) (err error) {
		seed := tagSeed.HashSecret(d, random[:], params.tags.Context)
		defer clear(seed[:])
		s.own, err = contribute(params, id, d, &seed)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return s, s.own.encode(), nil
}

// contribute derives everything from seed, the nonce too: the same seed with
// other participants cannot make one pad twice.
func contribute(p *Params, id int, d []byte, seed *[32]byte) (*contribution, error) {
	poly, err := pedpop.NewPolynomial(tagCoeffs, seed, 0, p.t-1)
	if err != nil {
		return nil, fmt.Errorf("chilldkg: %w", err)
	}
	defer poly.Wipe()
	var secn btcec.ModNScalar
	defer secn.Zero()
	sum := tagSecNonce.HashSecret(seed[:])
	bad := secn.SetBytes(&sum) | secn.IsZeroBit()
	clear(sum[:])
	if bad != 0 {
		return nil, fmt.Errorf("chilldkg: nonce: %w", bip340.ErrScalar)
	}
	secrets := make([]*btcec.ModNScalar, 0, p.t+1)
	for k := range poly {
		secrets = append(secrets, &poly[k])
	}
	points := bip340.MulBases(append(secrets, &secn)...)
	c := &contribution{coms: points[:p.t], nonce: points[p.t].PubKey()}
	aux := tagAux.HashSecret(seed[:])
	c.pop, err = schemePop.SignScalar(&poly[0], c.coms[0].PubKey(), aux, pedpop.Be4(id))
	clear(aux[:])
	if err != nil {
		return nil, err
	}
	c.enc = p.tags.Encrypt(poly, &secn, c.nonce, d, id, p.hosts, p.points)
	return c, nil
}

// Participant2 is a participant after its second message: it has a share, but no
// word that the others have theirs.
type Participant2 struct {
	params *Params
	eq     []byte
	sig    [64]byte
	out    *Output
}

// Step2 takes the coordinator's first message and returns the participant's
// second, of LenPmsg2 bytes, which says that it has its share. Before that message
// leaves, make host key, Transcript and Unconfirmed durable: the others may
// succeed with it even if this side hears nothing more. Errors are ErrLength,
// ErrHostKey, *FaultError and *UnknownFaultError.
func (p *Participant1) Step2(host *HostKey, cmsg1 []byte) (*Participant2, []byte, error) {
	return p.step2(host, cmsg1, rand.Reader)
}

func (p *Participant1) step2(host *HostKey, cmsg1 []byte, aux io.Reader) (*Participant2, []byte, error) {
	if host.PubKey() != p.params.hosts[p.id] {
		return nil, nil, fmt.Errorf("%w: it is not the one of step 1", ErrHostKey)
	}
	m, err := parseSums(cmsg1, p.params.t, p.params.n())
	if errors.Is(err, ErrMalformed) {
		return nil, nil, coordinatorFault(err.Error())
	}
	if err != nil {
		return nil, nil, err
	}
	return p.accept(host, m, nil, aux)
}

// accept is step 2 with the message decoded; g is its outcome where it is at
// hand already.
func (p *Participant1) accept(host *HostKey, m *sums, g *group, aux io.Reader) (*Participant2, []byte, error) {
	if m.nonces[p.id] != p.own.nonce {
		return nil, nil, coordinatorFault("it replied with another public nonce")
	}
	s := &Participant2{params: p.params}
	err := host.Use(func(d []byte) error {
		pads, err := p.params.tags.Pads(d, p.id, host.PubKey(), m.nonces)
		if ne := (*pedpop.NonceError)(nil); errors.As(err, &ne) {
			return &FaultError{By: ParticipantOrCoordinator, ID: ne.ID, Reason: "invalid public nonce"}
		}
		if err != nil {
			return err
		}
		defer pads.Wipe()
		var sec btcec.ModNScalar
		defer sec.Zero()
		pads.Sum(&m.enc[p.id], &sec)
		if err := p.checkFirst(m); err != nil {
			return err
		}
		if g == nil {
			if g, err = m.group(); err != nil {
				return err
			}
		}
		var share btcec.ModNScalar
		defer share.Zero()
		share.Add2(&sec, &g.tau)
		if !pedpop.IsBehind(&share, g.shares[p.id]) {
			return unknownFault(p.id, &sec, pads, &m.enc[p.id], g)
		}
		s.out = g.output(p.params.t)
		s.out.ID = p.id
		b := share.Bytes()
		s.out.Share = secret.New(b[:])
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	s.eq = m.transcript(p.params, g)
	if s.sig, err = host.Sign(aux, signed(certTag, p.id, s.eq)); err != nil {
		return nil, nil, err
	}
	return s, bytes.Clone(s.sig[:]), nil
}

// checkFirst checks the commitments to the secrets: the own one is unchanged,
// and the others' senders know what is behind theirs.
func (p *Participant1) checkFirst(m *sums) error {
	if !m.first[p.id].Equal(p.own.coms[0]) {
		return coordinatorFault("it sent another first commitment of this participant's")
	}
	for i := range m.first {
		// No proof verifies under a commitment at infinity.
		if i != p.id && !schemePop.Verify(m.first[i], pedpop.Be4(i), m.pops[i]) {
			return &FaultError{By: ParticipantOrCoordinator, ID: i, Reason: "invalid proof of possession"}
		}
	}
	return nil
}

// Transcript is public. Should the certificate come after this Participant2 was
// lost, Recover takes the two one after the other.
func (p *Participant2) Transcript() []byte { return bytes.Clone(p.eq) }

// Unconfirmed is the outcome before its certificate: to be stored, not to be
// used.
func (p *Participant2) Unconfirmed() *Output { return p.out }

// Finalize takes the coordinator's second message, the certificate, and returns
// the outcome and the recovery data, public and the same for all: keep and hand
// them on, sign Acknowledge, and use the key only with everybody's
// acknowledgment. Errors are ErrLength and *FaultError. After an error keep the
// host key and the Transcript: another certificate may still come.
func (p *Participant2) Finalize(cmsg2 []byte) (*Output, []byte, error) {
	if err := pedpop.CheckLen(cmsg2, LenCmsg2(p.params.n()), "certificate"); err != nil {
		return nil, nil, err
	}
	sigs := (&pedpop.Reader{B: cmsg2}).Sigs(p.params.n())
	for i := range sigs {
		if i == p.out.ID && sigs[i] == p.sig {
			continue
		}
		if !p.params.verify(certTag, i, p.eq, sigs[i]) {
			return nil, nil, coordinatorFault(fmt.Sprintf("invalid signature %d in the certificate", i))
		}
	}
	return p.out, append(bytes.Clone(p.eq), cmsg2...), nil
}
