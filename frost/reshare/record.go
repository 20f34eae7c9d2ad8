package reshare

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// Output is the epoch that the ceremony ends in, as a participant has it.
type Output struct {
	ID    int
	Info  *frost.Info
	Share secret.Bytes // 32 bytes
}

// Pending is a participant that has signed the certificate and waits for the
// others' signatures. The old epoch goes on.
type Pending struct {
	params     *Params
	transcript []byte
	out        *Output
}

// Pending returns the outcome before its certificate: to be stored, not to be
// signed with.
func (s *Pending) Pending() *Output { return s.out }

// Burn wipes the share, on every path that does not come to the certificate.
func (s *Pending) Burn() { s.out.Share.Burn() }

// split checks the transcript's length and returns its two rounds.
func (p *Params) split(transcript []byte) (deals, passes []byte, err error) {
	first := p.LenDeal() * len(p.dealers)
	if err := pedpop.CheckLen(transcript, p.lenTranscript(), "transcript"); err != nil {
		return nil, nil, err
	}
	return transcript[:first], transcript[first:], nil
}

func (p *Params) lenTranscript() int {
	n := p.LenDeal() * len(p.dealers)
	if p.kind == rebuild {
		n += LenPass * len(p.dealers)
	}
	return n
}

// public checks all that is public in a transcript and returns what it is about.
func (p *Params) public(transcript []byte) (*frost.Info, []*deal, []*pass, error) {
	first, second, err := p.split(transcript)
	if err != nil {
		return nil, nil, nil, err
	}
	deals, err := p.readDeals(first, true)
	if err != nil {
		return nil, nil, nil, err
	}
	var passes []*pass
	if p.kind == rebuild {
		if passes, err = p.readPasses(first, second, true); err != nil {
			return nil, nil, nil, err
		}
	}
	info, err := p.info(deals)
	return info, deals, passes, err
}

// info is the record of the epoch that the ceremony ends in.
func (p *Params) info(deals []*deal) (*frost.Info, error) {
	if p.Epoch() == p.old.Epoch() {
		return p.old, nil
	}
	shares := p.old.PubShares()
	if p.kind == rebuild { // one more on the same polynomial: the anchors add up to it
		var sum bip340.Sum
		for _, d := range deals {
			sum.Add(p.anchor(d))
		}
		shares = append(shares, sum.Point().PubKey())
	} else {
		sums := make([]*bip340.Sum, p.t)
		for k := range sums {
			sums[k] = new(bip340.Sum)
			for _, d := range deals {
				sums[k].Add(d.coms[k])
			}
		}
		coeffs := bip340.Points(sums...)
		shares = make([]bip340.PubKey, len(p.hosts))
		for j := range shares {
			shares[j] = pedpop.Evaluate(coeffs, j).Point().PubKey()
		}
	}
	if slices.Contains(shares, bip340.PubKey{}) { // dealers and its owner would have to agree on it
		return nil, fmt.Errorf("reshare: public share: %w", bip340.ErrInfinity)
	}
	return frost.NewInfo(p.Epoch(), p.t, p.old.PubKey(), shares)
}

// Accept takes the transcript, checks everything, takes the share out of it and
// signs the certificate, with 64 bytes. host is the participant's host key after
// the ceremony. old is its share of the old epoch where that stays its share, in
// a repair or an enrolment; else it is not looked at. Before the signature leaves,
// make host key, transcript and share durable. Sign one transcript of a ceremony
// only: with two that are certified the holders could end apart. Errors are chilldkg.ErrHostKey,
// chilldkg.ErrLength, frost.ErrShare, frost.ErrInfo, bip340.ErrInfinity and
// *chilldkg.FaultError.
func (p *Params) Accept(host *chilldkg.HostKey, old secret.Bytes, transcript []byte) (*Pending, []byte, error) {
	out, err := p.take(host, old, transcript)
	if err != nil {
		return nil, nil, err
	}
	sig, err := host.Sign(rand.Reader, p.signed(certTag, out.ID, transcript))
	if err != nil {
		out.Share.Burn()
		return nil, nil, err
	}
	return &Pending{params: p, transcript: bytes.Clone(transcript), out: out}, sig[:], nil
}

func (p *Params) take(host *chilldkg.HostKey, old secret.Bytes, transcript []byte) (*Output, error) {
	id := slices.Index(p.hosts, host.PubKey())
	if id < 0 {
		return nil, fmt.Errorf("%w: not a holder after this ceremony", chilldkg.ErrHostKey)
	}
	info, deals, passes, err := p.public(transcript)
	if err != nil {
		return nil, err
	}
	out := &Output{ID: id, Info: info}
	if p.kind == rebuild && id != p.target {
		err = old.Use(func(b []byte) error {
			out.Share = secret.New(bytes.Clone(b))
			return nil
		})
	} else {
		err = host.Use(func(d []byte) error {
			var s btcec.ModNScalar
			defer s.Zero()
			var err error
			if p.kind == rebuild {
				err = p.rebuilt(d, deals, passes, &s)
			} else {
				err = p.sumFor(d, id, deals, &s)
			}
			if err != nil {
				return err
			}
			b := s.Bytes()
			out.Share = secret.New(b[:])
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	if err := matches(info, id, out.Share); err != nil {
		out.Share.Burn()
		return nil, err
	}
	return out, nil
}

// verifyCert checks every host key's signature; the number of the first that
// does not sign it is in the error.
func (p *Params) verifyCert(transcript, cert []byte) error {
	if err := pedpop.CheckLen(cert, 64*len(p.hosts), "certificate"); err != nil {
		return err
	}
	for j := range p.hosts {
		if !bip340.Standard().Verify(p.points[j], p.signed(certTag, j, transcript), [64]byte(cert[64*j:])) {
			return participantFault(j, "its signature of the certificate does not verify")
		}
	}
	return nil
}

// Certify takes everybody's signature, by number, and returns the record: public,
// and the same for all. Errors are chilldkg.ErrLength and *chilldkg.FaultError.
func (p *Params) Certify(transcript []byte, sigs [][]byte) ([]byte, error) {
	if _, _, err := p.split(transcript); err != nil {
		return nil, err
	}
	for j, s := range sigs {
		if err := pedpop.CheckLen(s, 64, "signature"); err != nil {
			return nil, fmt.Errorf("participant %d: %w", j, err)
		}
	}
	cert := bytes.Join(sigs, nil)
	if err := p.verifyCert(transcript, cert); err != nil {
		return nil, err
	}
	return slices.Concat(p.head(), transcript, cert), nil
}

// Finalize takes the record and returns what it makes, active from here on. The
// error is ErrRecord; what is pending stays so, for another record may still
// come.
func (s *Pending) Finalize(record []byte) (*Output, error) {
	p, transcript, err := parseRecord(record)
	if err != nil {
		return nil, err
	}
	if p.ctx != s.params.ctx || !bytes.Equal(transcript, s.transcript) {
		return nil, fmt.Errorf("%w: of another ceremony", ErrRecord)
	}
	return s.out, nil
}

// parseHead decodes parameters and returns what follows them.
func parseHead(b []byte) (*Params, []byte, error) {
	const nAt = 7 // kind, then where frost.Info keeps its n
	if len(b) <= nAt {
		return nil, nil, chilldkg.ErrLength
	}
	n := int(b[nAt])
	at := 1 + 40 + 33*n
	if len(b) < at+32+3 {
		return nil, nil, chilldkg.ErrLength
	}
	old, err := frost.ParseInfo(b[1:at])
	if err != nil {
		return nil, nil, err
	}
	p := &Params{kind: kind(b[0]), old: old, hash: [32]byte(b[at:]), t: int(b[at+32]), target: int(b[at+34]) - 1}
	rest, m := b[at+35:], int(b[at+33])
	if len(rest) < old.Threshold()+33*(n+m) {
		return nil, nil, chilldkg.ErrLength
	}
	for _, id := range rest[:old.Threshold()] {
		p.dealers = append(p.dealers, int(id))
	}
	r := pedpop.Reader{B: rest[old.Threshold():]}
	p.oldHosts, p.hosts = r.Keys(n), r.Keys(m)
	switch {
	case p.kind == handOver && p.target == -1:
		p, err = newParams(p)
	case p.kind == rebuild && p.target >= 0 && p.target < m:
		p, err = newRepair(old, p.hash, p.oldHosts, p.dealers, p.target, p.hosts[p.target])
		if err == nil && !bytes.HasPrefix(b, p.head()) {
			err = fmt.Errorf("%w: other parts change too", ErrParams)
		}
	default:
		err = fmt.Errorf("%w: kind %d of participant %d", ErrParams, p.kind, p.target)
	}
	return p, r.B, err
}

// parseRecord decodes a record, verifies its certificate and returns its
// transcript.
func parseRecord(b []byte) (*Params, []byte, error) {
	p, rest, err := parseHead(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	end := p.lenTranscript()
	if len(rest) != end+64*len(p.hosts) {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, chilldkg.ErrLength)
	}
	if err := p.verifyCert(rest[:end], rest[end:]); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return p, rest[:end], nil
}

// RecoverPublic returns the record of the key after a ceremony, and the
// ceremony's parameters. Errors are ErrExperimental and ErrRecord.
func RecoverPublic(x Experimental, record []byte) (*frost.Info, *Params, error) {
	if x != Accepted {
		return nil, nil, ErrExperimental
	}
	p, transcript, err := parseRecord(record)
	if err != nil {
		return nil, nil, err
	}
	info, _, _, err := p.public(transcript)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return info, p, nil
}

// Recover makes a participant's outcome from the record and its host key: for one
// whose record came late, or whose share is lost. old is as for Accept. Errors are
// ErrExperimental, ErrRecord and those of Accept.
func Recover(x Experimental, host *chilldkg.HostKey, record []byte, old secret.Bytes) (*Output, error) {
	if x != Accepted {
		return nil, ErrExperimental
	}
	p, transcript, err := parseRecord(record)
	if err != nil {
		return nil, err
	}
	return p.take(host, old, transcript)
}
