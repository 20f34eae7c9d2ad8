package refresh

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// Output is the new epoch as a participant has it.
type Output struct {
	ID    int
	Info  *frost.Info
	Share secret.Bytes // 32 bytes
}

// Participant1 is a participant after its first message. It holds no secret.
type Participant1 struct {
	params *Params
	id     int
	own    *contribution
}

// Step1 begins with fresh randomness and returns the message for the
// coordinator, of LenPmsg1 bytes. host is the participant's host key of the new
// epoch. The error is chilldkg.ErrHostKey when it is not.
func Step1(host *chilldkg.HostKey, params *Params) (*Participant1, []byte, error) {
	id, err := params.ID(host.PubKey())
	if err != nil {
		return nil, nil, err
	}
	random, err := pedpop.Random()
	if err != nil {
		return nil, nil, err
	}
	defer clear(random[:])
	s := &Participant1{params: params, id: id}
	err = host.Use(func(d []byte) (err error) {
		seed := tagSeed.HashSecret(d, random[:], params.ctx[:])
		defer clear(seed[:])
		s.own, err = contribute(params, id, d, &seed)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return s, s.own.encode(), nil
}

func contribute(p *Params, id int, d []byte, seed *[32]byte) (*contribution, error) {
	poly, err := pedpop.NewPolynomial(tagCoeffs, seed, 1, p.t()-1) // value 0 at 0
	if err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	defer poly.Wipe()
	var secn btcec.ModNScalar
	defer secn.Zero()
	sum := tagSecNonce.HashSecret(seed[:])
	bad := secn.SetBytes(&sum) | secn.IsZeroBit()
	clear(sum[:])
	if bad != 0 {
		return nil, fmt.Errorf("refresh: nonce: %w", bip340.ErrScalar)
	}
	secrets := make([]*btcec.ModNScalar, 0, p.t())
	for k := 1; k < len(poly); k++ {
		secrets = append(secrets, &poly[k])
	}
	points := bip340.MulBases(append(secrets, &secn)...)
	last := len(points) - 1
	c := &contribution{coms: points[:last], nonce: points[last].PubKey()}
	aux := tagAux.HashSecret(seed[:])
	c.pop, err = schemePop.SignScalar(&poly[1], c.coms[0].PubKey(), aux, p.popMessage(id))
	clear(aux[:])
	if err != nil {
		return nil, err
	}
	c.enc = p.tags.Encrypt(poly, &secn, c.nonce, d, id, p.hosts, p.points)
	return c, nil
}

func (p *Params) popMessage(id int) []byte { return append(pedpop.Be4(id), p.ctx[:]...) }

// Participant2 is a participant after its second message: it has the new share,
// but no word that the others have theirs. The new epoch is pending.
type Participant2 struct {
	params *Params
	body   []byte
	sig    []byte
	out    *Output
}

// Step2 takes the coordinator's first message and returns the participant's
// second, of LenPmsg2 bytes. host is its new host key, oldHost its old one (the
// same for hygiene), share its secret share of the old epoch. Before the message
// leaves, make the new host key, Transcript and Pending durable as the pending
// epoch. Errors are chilldkg.ErrLength, chilldkg.ErrHostKey, ErrShare and
// *chilldkg.FaultError.
func (p *Participant1) Step2(host, oldHost *chilldkg.HostKey, share secret.Bytes, cmsg1 []byte) (*Participant2, []byte, error) {
	ps := p.params
	if host.PubKey() != ps.hosts[p.id] || oldHost.PubKey() != ps.oldHosts[p.id] {
		return nil, nil, fmt.Errorf("%w: not those of this participant", chilldkg.ErrHostKey)
	}
	m, err := parseSums(cmsg1, ps.t(), ps.n())
	if errors.Is(err, chilldkg.ErrMalformed) {
		return nil, nil, coordinatorFault(err.Error())
	}
	if err != nil {
		return nil, nil, err
	}
	if m.nonces[p.id] != p.own.nonce {
		return nil, nil, coordinatorFault("it replied with another public nonce")
	}
	if err := p.checkFirst(m); err != nil {
		return nil, nil, err
	}
	c := m.change()
	out, err := ps.apply(host, p.id, share, c)
	if err != nil {
		return nil, nil, err
	}
	s := &Participant2{params: ps, body: c.body(), out: out}
	if s.sig, err = ps.certify(rand.Reader, host, oldHost, p.id, s.body); err != nil {
		return nil, nil, err
	}
	return s, bytes.Clone(s.sig), nil
}

// certify signs with the new host key, and to heal with the old one too, which
// so hands its place over.
func (p *Params) certify(random io.Reader, host, oldHost *chilldkg.HostKey, id int, body []byte) ([]byte, error) {
	sig, err := host.Sign(random, p.signed(certTag, id, body))
	if err != nil {
		return nil, err
	}
	if !p.Healing() {
		return sig[:], nil
	}
	old, err := oldHost.Sign(random, p.signed(rotateTag, id, body))
	if err != nil {
		return nil, err
	}
	return append(sig[:], old[:]...), nil
}

func (p *Params) signed(tag string, id int, body []byte) []byte {
	return append(append(append(pedpop.Padded33(tag), pedpop.Be4(id)...), p.ctx[:]...), body...)
}

func coordinatorFault(reason string) error {
	return &chilldkg.FaultError{By: chilldkg.Coordinator, ID: -1, Reason: reason}
}

// checkFirst checks the first commitments: the own one is unchanged, and the
// others' senders know what is behind theirs.
func (p *Participant1) checkFirst(m *sums) error {
	if !m.first[p.id].Equal(p.own.coms[0]) {
		return coordinatorFault("it sent another first commitment of this participant's")
	}
	for i := range m.first {
		if i != p.id && !schemePop.Verify(m.first[i], p.params.popMessage(i), m.pops[i]) {
			return &chilldkg.FaultError{By: chilldkg.ParticipantOrCoordinator, ID: i, Reason: "invalid proof of possession"}
		}
	}
	return nil
}

// apply decrypts what is for participant id, checks it, adds it to the old share
// and makes the new epoch's record, which must be of the same key.
func (p *Params) apply(host *chilldkg.HostKey, id int, old secret.Bytes, c *change) (*Output, error) {
	info, err := p.info(c)
	if err != nil {
		return nil, err
	}
	out := &Output{ID: id, Info: info}
	err = host.Use(func(d []byte) error {
		pads, err := p.tags.Pads(d, id, host.PubKey(), c.nonces)
		if ne := (*pedpop.NonceError)(nil); errors.As(err, &ne) {
			return &chilldkg.FaultError{By: chilldkg.ParticipantOrCoordinator, ID: ne.ID, Reason: "invalid public nonce"}
		}
		if err != nil {
			return err
		}
		defer pads.Wipe()
		var gamma, share btcec.ModNScalar
		defer gamma.Zero()
		defer share.Zero()
		pads.Sum(&c.enc[id], &gamma)
		if !pedpop.IsBehind(&gamma, c.at(id).Point()) {
			return ErrShare
		}
		return old.Use(func(b []byte) error {
			if share.SetByteSlice(b) || len(b) != 32 {
				return fmt.Errorf("refresh: old share: %w", bip340.ErrScalar)
			}
			sum := share.Add(&gamma).Bytes()
			out.Share = secret.New(sum[:])
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return out, out.check()
}

// check loads the share against the record, which shows an old share of another
// epoch.
func (o *Output) check() error {
	s, err := frost.NewShare(o.Info, o.ID, o.Share)
	if err != nil {
		o.Share.Burn()
		return err
	}
	s.Burn()
	return nil
}

// info is the record of the new epoch.
func (p *Params) info(c *change) (*frost.Info, error) {
	sums := make([]*bip340.Sum, p.n())
	for j, k := range p.old.PubShares() {
		pt, err := k.Point()
		if err != nil {
			return nil, err
		}
		sums[j] = c.at(j)
		sums[j].Add(pt)
	}
	shares := make([]bip340.PubKey, p.n())
	for j, pt := range bip340.Points(sums...) {
		shares[j] = pt.PubKey()
	}
	return frost.NewInfo(p.Epoch(), p.t(), p.old.PubKey(), shares)
}

// Pending returns the new epoch before its certificate: to be stored, not to be
// signed with.
func (p *Participant2) Pending() *Output { return p.out }

// Transcript is public: the record of the refresh but for its certificate.
// Should the certificate come after this Participant2 was lost, Apply takes the
// two one after the other.
func (p *Participant2) Transcript() []byte { return p.params.transcript(p.body) }

// Finalize takes the certificate and returns the new epoch, active from here on,
// and its record, public and the same for all. Errors are chilldkg.ErrLength and
// *chilldkg.FaultError. After an error the pending epoch stays pending: another
// certificate may still come, and the old epoch goes on.
func (p *Participant2) Finalize(cmsg2 []byte) (*Output, []byte, error) {
	if err := pedpop.CheckLen(cmsg2, p.params.n()*LenPmsg2(p.params.Healing()), "certificate"); err != nil {
		return nil, nil, err
	}
	if id, err := p.params.verifyCert(p.body, cmsg2); err != nil {
		return nil, nil, coordinatorFault(fmt.Sprintf("certificate: %v of participant %d", err, id))
	}
	return p.out, append(p.Transcript(), cmsg2...), nil
}

// verifyCert returns the first participant whose signatures do not verify.
func (p *Params) verifyCert(body, cert []byte) (int, error) {
	size := LenPmsg2(p.Healing())
	for i := range p.n() {
		if err := p.verifyOne(i, body, cert[size*i:][:size]); err != nil {
			return i, err
		}
	}
	return -1, nil
}

func (p *Params) verifyOne(i int, body, sig []byte) error {
	std := bip340.Standard()
	if !std.Verify(p.points[i], p.signed(certTag, i, body), [64]byte(sig)) {
		return ErrSignature
	}
	if p.Healing() && !std.Verify(p.oldPts[i], p.signed(rotateTag, i, body), [64]byte(sig[64:])) {
		return fmt.Errorf("%w: old host key", ErrSignature)
	}
	return nil
}
