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

// parseRecord decodes a record and verifies its certificate.
func parseRecord(b []byte) (*Params, *change, error) {
	fail := func(err error) (*Params, *change, error) { return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err) }
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
	p, err := newParams(old, [32]byte(b[infoLen(n):]), r.Keys(n), r.Keys(n))
	if err != nil {
		return fail(err)
	}
	bodyLen := 33*(p.t()-1) + 65*n
	if err := pedpop.CheckLen(r.B, bodyLen+n*LenPmsg2(p.Healing()), "record's end"); err != nil {
		return fail(err)
	}
	body, cert := r.B[:bodyLen], r.B[bodyLen:]
	c := &change{coms: r.Points(p.t()-1, "commitment"), nonces: r.Keys(n), enc: r.Scalars(n, "encrypted share")}
	if r.Err != nil {
		return fail(r.Err)
	}
	if id, err := p.verifyCert(body, cert); err != nil {
		return fail(fmt.Errorf("certificate: %w of participant %d", err, id))
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
