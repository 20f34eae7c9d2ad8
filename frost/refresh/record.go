package refresh

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// A record is: the old epoch's frost.Info as Encode writes it, the 32-byte hash
// of what made the old epoch, n old and n new host public keys, C_1 .. C_{t-1},
// n nonces, n encrypted shares, and the certificate.

func (p *Params) transcript(body []byte) []byte {
	b := append(p.old.Encode(), p.hash[:]...)
	return append(pedpop.AppendKeys(pedpop.AppendKeys(b, p.oldHosts), p.hosts), body...)
}

// infoLen is the length of an encoded frost.Info of n participants.
func infoLen(n int) int { return 40 + 33*n }

// parseTranscript decodes a record up to its certificate, and returns the body
// that the certificate is about and what follows it.
func parseTranscript(b []byte) (p *Params, c *change, body, rest []byte, err error) {
	fail := func(err error) (*Params, *change, []byte, []byte, error) {
		return nil, nil, nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	const nAt = 6 // where frost.Info keeps its n
	if len(b) <= nAt {
		return fail(chilldkg.ErrLength)
	}
	n := int(b[nAt])
	if len(b) < infoLen(n)+32+66*n {
		return fail(chilldkg.ErrLength)
	}
	old, err := frost.ParseInfo(b[:infoLen(n)])
	if err != nil {
		return fail(err)
	}
	r := pedpop.Reader{B: b[infoLen(n)+32:]}
	if p, err = newParams(old, [32]byte(b[infoLen(n):]), r.Keys(n), r.Keys(n)); err != nil {
		return fail(err)
	}
	bodyLen := 33*(p.t()-1) + 65*n
	if len(r.B) < bodyLen {
		return fail(chilldkg.ErrLength)
	}
	body, rest = r.B[:bodyLen], r.B[bodyLen:]
	c = &change{coms: r.Points(p.t()-1, "commitment"), nonces: r.Keys(n), enc: r.Scalars(n, "encrypted share")}
	if r.Err != nil {
		return fail(r.Err)
	}
	return p, c, body, rest, nil
}

// parseRecord decodes a record and verifies its certificate.
func parseRecord(b []byte) (*Params, *change, error) {
	p, c, body, cert, err := parseTranscript(b)
	if err != nil {
		return nil, nil, err
	}
	if err := pedpop.CheckLen(cert, p.n()*LenPmsg2(p.Healing()), "certificate"); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if id, err := p.verifyCert(body, cert); err != nil {
		return nil, nil, fmt.Errorf("%w: certificate: %w of participant %d", ErrRecord, err, id)
	}
	return p, c, nil
}

// RecoverPublic returns the new epoch's record of the key, and the parameters,
// from the record of a refresh. The error is ErrRecord.
func RecoverPublic(record []byte) (*frost.Info, *Params, error) {
	p, c, err := parseRecord(record)
	if err != nil {
		return nil, nil, err
	}
	info, err := p.info(c)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return info, p, nil
}

// Apply makes the new epoch from the record of a refresh, the participant's new
// host key and its share of the old epoch: for one whose certificate came late.
// Errors are ErrRecord, ErrShare, chilldkg.ErrHostKey and frost.ErrShare.
func Apply(host *chilldkg.HostKey, record []byte, old secret.Bytes) (*Output, error) {
	p, c, err := parseRecord(record)
	if err != nil {
		return nil, err
	}
	id, err := p.ID(host.PubKey())
	if err != nil {
		return nil, err
	}
	return p.apply(host, id, old, c)
}

// Sealed is a participant's share of one epoch, encrypted to its host key. It is
// of use only with the record of the refresh that made the epoch, and with no old
// share or old host key: those can be destroyed.
type Sealed [32]byte

// pad belongs to one host key and one record, which fix the one share that is
// ever sealed with it.
func pad(d []byte, id int, record []byte, out *btcec.ModNScalar) {
	h := sha256.Sum256(record)
	sum := tagSealed.HashSecret(d, pedpop.Be4(id), h[:])
	out.SetBytes(&sum)
	clear(sum[:])
}

// Seal encrypts the share of o, once the refresh is certified. Keep it with the
// record, at home and with the peers.
func Seal(host *chilldkg.HostKey, o *Output, record []byte) (Sealed, error) {
	var out Sealed
	err := host.Use(func(d []byte) error {
		return o.Share.Use(func(b []byte) error {
			var k, s btcec.ModNScalar
			defer k.Zero()
			defer s.Zero()
			pad(d, o.ID, record, &k)
			s.SetByteSlice(b)
			s.Add(&k).PutBytesUnchecked(out[:])
			return nil
		})
	})
	return out, err
}

// Recover restores a participant's epoch from its host key, the record of the
// refresh and its sealed share. Errors are ErrRecord, chilldkg.ErrHostKey and
// frost.ErrShare.
func Recover(host *chilldkg.HostKey, record []byte, sealed Sealed) (*Output, error) {
	info, p, err := RecoverPublic(record)
	if err != nil {
		return nil, err
	}
	id, err := p.ID(host.PubKey())
	if err != nil {
		return nil, err
	}
	out := &Output{ID: id, Info: info}
	err = host.Use(func(d []byte) error {
		var k, s btcec.ModNScalar
		defer k.Zero()
		defer s.Zero()
		pad(d, id, record, &k)
		if s.SetByteSlice(sealed[:]) {
			return fmt.Errorf("%w: sealed share", bip340.ErrScalar)
		}
		b := s.Add(k.Negate()).Bytes()
		out.Share = secret.New(b[:])
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, out.check()
}

// Acknowledge signs, with 64 bytes, that a participant has the new epoch. Only
// when all have may the old one be erased. Errors are ErrRecord and
// chilldkg.ErrHostKey.
func Acknowledge(host *chilldkg.HostKey, record []byte) ([]byte, error) {
	p, _, err := parseRecord(record)
	if err != nil {
		return nil, err
	}
	id, err := p.ID(host.PubKey())
	if err != nil {
		return nil, err
	}
	sig, err := host.Sign(rand.Reader, p.signed(ackTag, id, record))
	return bytes.Clone(sig[:]), err
}

// VerifyAcknowledgment checks participant id's acknowledgment. Errors are
// ErrRecord, chilldkg.ErrLength and ErrSignature.
func VerifyAcknowledgment(record []byte, id int, ack []byte) error {
	p, _, err := parseRecord(record)
	if err != nil {
		return err
	}
	if len(ack) != 64 || id < 0 || id >= p.n() {
		return fmt.Errorf("%w: acknowledgment of participant %d", chilldkg.ErrLength, id)
	}
	if !bip340.Standard().Verify(p.points[id], p.signed(ackTag, id, record), [64]byte(ack)) {
		return fmt.Errorf("%w: acknowledgment of participant %d", ErrSignature, id)
	}
	return nil
}

// Void signs, with 64 bytes, a participant's word that it has not signed the
// certificate of the refresh with this transcript and never will: so that a peer
// who did, and waits, may abandon its pending epoch. It is true for one that has
// no pending epoch stored and no Participant1 or Participant2 of the ceremony in
// memory; call it on no other. Errors are ErrRecord and chilldkg.ErrHostKey.
func Void(host *chilldkg.HostKey, transcript []byte) ([]byte, error) {
	p, _, body, _, err := parseTranscript(transcript)
	if err != nil {
		return nil, err
	}
	id, err := p.ID(host.PubKey())
	if err != nil {
		return nil, err
	}
	sig, err := host.Sign(rand.Reader, p.signed(voidTag, id, body))
	return bytes.Clone(sig[:]), err
}

// VerifyVoid checks participant id's Void of the own transcript. One suffices: a
// certificate takes everybody. Errors are ErrRecord, chilldkg.ErrLength and
// ErrSignature.
func VerifyVoid(transcript []byte, id int, void []byte) error {
	p, _, body, _, err := parseTranscript(transcript)
	if err != nil {
		return err
	}
	if len(void) != 64 || id < 0 || id >= p.n() {
		return fmt.Errorf("%w: void of participant %d", chilldkg.ErrLength, id)
	}
	if !bip340.Standard().Verify(p.points[id], p.signed(voidTag, id, body), [64]byte(void)) {
		return fmt.Errorf("%w: void of participant %d", ErrSignature, id)
	}
	return nil
}
