package chilldkg

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// record is decoded, certified recovery data.
type record struct {
	params *Params
	group  *group
	nonces []bip340.PubKey
	enc    []btcec.ModNScalar
}

// parseRecord decodes, but verifies no signature. Its error is ErrRecoveryData.
func parseRecord(b []byte) (p *Params, coms []bip340.Point, nonces []bip340.PubKey, enc []btcec.ModNScalar, err error) {
	fail := func(why string, err error) (*Params, []bip340.Point, []bip340.PubKey, []btcec.ModNScalar, error) {
		return nil, nil, nil, nil, fmt.Errorf("%w: %s: %w", ErrRecoveryData, why, err)
	}
	if len(b) < 4 {
		return fail("length", ErrLength)
	}
	t := binary.BigEndian.Uint32(b)
	if t > frost.MaxParticipants || len(b) < 4+33*int(t) || (len(b)-4-33*int(t))%162 != 0 {
		return fail("length", ErrLength)
	}
	n := (len(b) - 4 - 33*int(t)) / 162
	if n > frost.MaxParticipants {
		return fail("length", ErrThreshold)
	}
	r := pedpop.Reader{B: b[4:]}
	coms = r.Points(int(t), "sum of commitments")
	hosts := r.Keys(n)
	nonces = r.Keys(n)
	enc = r.Scalars(n, "encrypted share")
	if r.Err != nil {
		return fail("decoding", r.Err)
	}
	if p, err = NewParams(int(t), hosts); err != nil {
		return fail("session parameters", err)
	}
	return p, coms, nonces, enc, nil
}

func parseCertified(b []byte) (*record, error) {
	p, coms, nonces, enc, err := parseRecord(b)
	if err != nil {
		return nil, err
	}
	eq := b[:len(b)-LenCmsg2(p.n())]
	for i, sig := range (&pedpop.Reader{B: b[len(eq):]}).Sigs(p.n()) {
		if !p.verify(certTag, i, eq, sig) {
			return nil, fmt.Errorf("%w: certificate: %w of participant %d", ErrRecoveryData, ErrSignature, i)
		}
	}
	g, err := newGroup(coms[0], coms[1:], p.n())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecoveryData, err)
	}
	return &record{params: p, group: g, nonces: nonces, enc: enc}, nil
}

// Recover restores a participant's whole outcome from its host key and the
// recovery data. Errors are ErrRecoveryData and, when the host key is not among
// the session's, ErrHostKey.
func Recover(host *HostKey, recovery []byte) (*Output, *Params, error) {
	r, err := parseCertified(recovery)
	if err != nil {
		return nil, nil, err
	}
	id, err := r.params.ID(host.PubKey())
	if err != nil {
		return nil, nil, err
	}
	out := r.group.output(r.params.t)
	out.ID = id
	err = host.Use(func(d []byte) error {
		pads, err := r.params.tags.Pads(d, id, host.PubKey(), r.nonces)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRecoveryData, err)
		}
		defer pads.Wipe()
		var share btcec.ModNScalar
		defer share.Zero()
		pads.Sum(&r.enc[id], &share)
		share.Add(&r.group.tau)
		// The certificate holds this host key's signature, made after this check.
		if !pedpop.IsBehind(&share, r.group.shares[id]) {
			return fmt.Errorf("%w: the share is not the one behind the public share", ErrRecoveryData)
		}
		b := share.Bytes()
		out.Share = secret.New(b[:])
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return out, r.params, nil
}

// RecoverPublic restores the outcome without a secret share. The error is
// ErrRecoveryData.
func RecoverPublic(recovery []byte) (*Output, *Params, error) {
	r, err := parseCertified(recovery)
	if err != nil {
		return nil, nil, err
	}
	return r.group.output(r.params.t), r.params, nil
}

// Acknowledge signs, with LenPmsg2 bytes, that a participant has the recovery
// data. Errors are ErrHostKey and, for data of another session, ErrRecoveryData.
func Acknowledge(host *HostKey, params *Params, recovery []byte) ([]byte, error) {
	return acknowledge(host, params, recovery, rand.Reader)
}

func acknowledge(host *HostKey, params *Params, recovery []byte, aux io.Reader) ([]byte, error) {
	id, err := params.ID(host.PubKey())
	if err != nil {
		return nil, err
	}
	if err := params.own(recovery); err != nil {
		return nil, err
	}
	sig, err := host.Sign(aux, signed(ackTag, id, recovery))
	if err != nil {
		return nil, err
	}
	return bytes.Clone(sig[:]), nil
}

// own says whether recovery data are of this session.
func (p *Params) own(recovery []byte) error {
	of, _, _, _, err := parseRecord(recovery)
	if err != nil {
		return err
	}
	if of.Hash() != p.Hash() {
		return fmt.Errorf("%w: of another session", ErrRecoveryData)
	}
	return nil
}

// VerifyAcknowledgment checks participant id's acknowledgment. The key may be
// used, addresses shown and coins received only when all participants' verify.
// Errors are ErrLength, ErrRecoveryData and ErrSignature.
func VerifyAcknowledgment(params *Params, recovery []byte, id int, ack []byte) error {
	if err := pedpop.CheckLen(ack, LenPmsg2, "acknowledgment"); err != nil {
		return err
	}
	if id < 0 || id >= params.n() {
		return errors.Join(ErrLength, fmt.Errorf("chilldkg: no participant %d", id))
	}
	if err := params.own(recovery); err != nil {
		return err
	}
	if !params.verify(ackTag, id, recovery, [64]byte(ack)) {
		return fmt.Errorf("%w: acknowledgment of participant %d", ErrSignature, id)
	}
	return nil
}
