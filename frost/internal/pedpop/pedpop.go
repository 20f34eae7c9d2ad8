// Package pedpop owns what the key ceremonies of a threshold key share: host
// keys, secret polynomials, their commitments, and shares encrypted such that
// ciphertexts add up (EncPedPop of ChillDKG). It knows nothing of rounds or
// messages.
package pedpop

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// ErrHostKey says that bytes are no host key, or not that of a participant.
var ErrHostKey = errors.New("frost: not a participant's host key")

// HostKey is a participant's long-lived key in the key ceremonies: it encrypts
// shares to the participant, signs that a ceremony succeeded, and with the
// public recovery data restores the share. Whoever signed a certificate with it
// must keep it, whatever error came after: somebody else may hold the whole
// certificate. It is safe for concurrent use.
type HostKey struct {
	key *bip340.Key
	raw secret.Bytes
}

// NewHostKey takes 32 big-endian bytes over: burning the HostKey burns s. The
// error is ErrHostKey or secret.ErrBurned.
func NewHostKey(s secret.Bytes) (*HostKey, error) {
	key, err := bip340.NewKey(s)
	if errors.Is(err, bip340.ErrScalar) {
		return nil, fmt.Errorf("%w: %w", ErrHostKey, err)
	}
	if err != nil {
		return nil, err
	}
	return &HostKey{key: key, raw: s}, nil
}

// PubKey returns the public host key.
func (h *HostKey) PubKey() bip340.PubKey { return h.key.PubKey() }

// Burn wipes the key.
func (h *HostKey) Burn() {
	h.key.Burn()
	h.raw.Burn()
}

// Sign makes a BIP-340 signature of msg with auxiliary randomness from random.
func (h *HostKey) Sign(random io.Reader, msg []byte) ([64]byte, error) {
	return bip340.Standard().Sign(h.key, random, msg)
}

// Use calls f with the 32 secret bytes, inside secret.Do.
func (h *HostKey) Use(f func(b []byte) error) error {
	return h.raw.Use(func(b []byte) (err error) {
		secret.Do(func() { err = f(b) })
		return err
	})
}

// String names the public key only.
func (h *HostKey) String() string { return "host key " + h.PubKey().String() }

// GoString names the public key only.
func (h *HostKey) GoString() string { return h.String() }

// LogValue names the public key only.
func (h *HostKey) LogValue() slog.Value { return slog.StringValue(h.String()) }

// MarshalText refuses with secret.ErrMarshal.
func (*HostKey) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// MarshalBinary refuses with secret.ErrMarshal.
func (*HostKey) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }

// Random draws 32 bytes; bip340.ErrRand.
func Random() (b [32]byte, err error) {
	if _, err := rand.Read(b[:]); err != nil {
		return b, bip340.ErrRand
	}
	return b, nil
}

// Be4 is v in four big-endian bytes.
func Be4(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

// Padded33 is tag in ASCII, filled with zeros to 33 bytes.
func Padded33(tag string) []byte {
	b := make([]byte, 33)
	copy(b, tag)
	return b
}

// Polynomial holds secret coefficients, lowest degree first. Wipe it.
type Polynomial []btcec.ModNScalar

// NewPolynomial derives coefficient k, first <= k <= last, as the hash of seed
// and be4(k); one that is not below the group order, or zero, is an error, once in
// 2^128. Coefficients below first are 0.
func NewPolynomial(tag bip340.Tag, seed *[32]byte, first, last int) (Polynomial, error) {
	p := make(Polynomial, last+1)
	for k := first; k <= last; k++ {
		sum := tag.HashSecret(seed[:], Be4(k))
		bad := p[k].SetBytes(&sum) | p[k].IsZeroBit()
		clear(sum[:])
		if bad != 0 {
			p.Wipe()
			return nil, fmt.Errorf("%w: coefficient", bip340.ErrScalar)
		}
	}
	return p, nil
}

// Wipe clears the coefficients.
func (p Polynomial) Wipe() {
	for i := range p {
		p[i].Zero()
	}
}

// At sets out to the value for participant id, at x = id+1.
func (p Polynomial) At(id int, out *btcec.ModNScalar) {
	var x btcec.ModNScalar
	x.SetInt(uint32(id + 1))
	out.Zero()
	for i := len(p) - 1; i >= 0; i-- {
		out.Mul(&x).Add(&p[i])
	}
}

// Evaluate returns the value for participant id of the polynomial behind the
// public coefficients, lowest degree first, as a running sum.
func Evaluate(coeffs []bip340.Point, id int) *bip340.Sum {
	var sum bip340.Sum
	for k := len(coeffs) - 1; k >= 0; k-- {
		sum.MulSmall(uint32(id + 1))
		sum.Add(coeffs[k])
	}
	return &sum
}

// Lagrange returns for every id the factor prod (x - x_k) / (x_id - x_k) over the
// other ids k, where x_id = id+1. The ids are distinct and public.
func Lagrange(ids []int, x int) []btcec.ModNScalar {
	out := make([]btcec.ModNScalar, len(ids))
	for i, id := range ids {
		var num, den btcec.ModNScalar
		num.SetInt(1)
		den.SetInt(1)
		for _, k := range ids {
			if k != id {
				num.Mul(small(x - (k + 1)))
				den.Mul(small(id - k))
			}
		}
		out[i] = *num.Mul(den.InverseNonConst())
	}
	return out
}

// small returns v, which may be negative, modulo the group order.
func small(v int) *btcec.ModNScalar {
	var s btcec.ModNScalar
	if v < 0 {
		return s.SetInt(uint32(-v)).Negate()
	}
	return s.SetInt(uint32(v))
}

// Tags are the two hashes that make pads, and the context that they are bound to
// behind the recipient's number.
type Tags struct {
	ECDH, Self bip340.Tag
	Context    []byte
}

// Send sets out to the pad from the owner of nonce scalar secn to participant j
// with host key to.
func (t *Tags) Send(secn *btcec.ModNScalar, nonce bip340.PubKey, to bip340.PubKey, point bip340.Point, j int, out *btcec.ModNScalar) {
	t.pad(bip340.MulSecret(secn, point), nonce, to, j, out)
}

// Receive sets out to the same pad at its other end: k is the secret behind host,
// point the nonce decoded.
func (t *Tags) Receive(k *btcec.ModNScalar, point bip340.Point, nonce, host bip340.PubKey, j int, out *btcec.ModNScalar) {
	t.pad(bip340.MulSecret(k, point), nonce, host, j, out)
}

// pad hashes the shared point with both keys, the sender's nonce first.
func (t *Tags) pad(shared bip340.Point, nonce, host bip340.PubKey, j int, out *btcec.ModNScalar) {
	k := shared.PubKey()
	ecdh := sha256.Sum256(k[:])
	clear(k[:])
	sum := t.ECDH.HashSecret(ecdh[:], nonce[:], host[:], Be4(j), t.Context)
	clear(ecdh[:])
	out.SetBytes(&sum)
	clear(sum[:])
}

// self is the pad of participant j to itself.
func (t *Tags) self(d []byte, nonce bip340.PubKey, j int, out *btcec.ModNScalar) {
	sum := t.Self.HashSecret(d, nonce[:], Be4(j), t.Context)
	out.SetBytes(&sum)
	clear(sum[:])
}

// Encrypt returns the polynomial's value for every participant plus the pad to
// it. secn is the ephemeral secret behind nonce, d the host secret of participant
// id.
func (t *Tags) Encrypt(p Polynomial, secn *btcec.ModNScalar, nonce bip340.PubKey, d []byte, id int, hosts []bip340.PubKey, points []bip340.Point) []btcec.ModNScalar {
	out := make([]btcec.ModNScalar, len(hosts))
	var pad, share btcec.ModNScalar
	for j := range hosts {
		if j == id {
			t.self(d, nonce, j, &pad)
		} else {
			t.Send(secn, nonce, hosts[j], points[j], j, &pad)
		}
		p.At(j, &share)
		out[j] = *share.Add(&pad)
	}
	pad.Zero()
	share.Zero()
	return out
}

// NonceError names the participant whose public nonce is no point.
type NonceError struct {
	ID  int
	Err error
}

func (e *NonceError) Error() string {
	return fmt.Sprintf("frost: public nonce of participant %d: %v", e.ID, e.Err)
}

func (e *NonceError) Unwrap() error { return e.Err }

// Pads returns the pads from all participants to participant id, whose host
// secret is d. Wipe them. The error is a *NonceError.
func (t *Tags) Pads(d []byte, id int, host bip340.PubKey, nonces []bip340.PubKey) (Polynomial, error) {
	var k btcec.ModNScalar
	k.SetByteSlice(d)
	defer k.Zero()
	pads := make(Polynomial, len(nonces))
	for j, n := range nonces {
		if j == id {
			t.self(d, n, id, &pads[j])
			continue
		}
		p, err := n.Point()
		if err != nil {
			pads.Wipe()
			return nil, &NonceError{ID: j, Err: err}
		}
		t.Receive(&k, p, n, host, id, &pads[j])
	}
	return pads, nil
}

// Sum sets out to e minus all of p.
func (p Polynomial) Sum(e *btcec.ModNScalar, out *btcec.ModNScalar) {
	var all btcec.ModNScalar
	for i := range p {
		all.Add(&p[i])
	}
	out.Set(e).Add(all.Negate())
	all.Zero()
}

// IsBehind says whether s, which is secret, is the discrete logarithm of p.
func IsBehind(s *btcec.ModNScalar, p bip340.Point) bool {
	if s.IsZero() || p.IsInfinity() {
		return s.IsZero() && p.IsInfinity()
	}
	return bip340.MulBase(s).Equal(p)
}
