package frost

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// Share is one participant's secret share of a threshold key in one epoch. It is
// safe for concurrent use.
type Share struct {
	info *Info
	id   int
	key  *bip340.Key
}

// NewShare loads participant id's share, 32 big-endian bytes, and checks it once
// against its public share. It takes a copy: s and the Share are burned apart.
// Errors are ErrShare, bip340.ErrScalar and secret.ErrBurned.
func NewShare(info *Info, id int, s secret.Bytes) (*Share, error) {
	key, err := bip340.NewKey(s)
	if err != nil {
		return nil, fmt.Errorf("frost: share: %w", err)
	}
	return ShareOf(info, id, key)
}

// ShareOf is NewShare for a key that is made already, as a bip340.Known makes one
// that it has seen before. It takes the key over, and burns it when it is refused.
func ShareOf(info *Info, id int, key *bip340.Key) (*Share, error) {
	pub, ok := info.PubShare(id)
	if !ok || key.PubKey() != pub {
		key.Burn()
		return nil, fmt.Errorf("%w: participant %d", ErrShare, id)
	}
	return &Share{info: info, id: id, key: key}, nil
}

// Info returns the public record of the share's key and epoch.
func (s *Share) Info() *Info { return s.info }

// ID returns the participant's number, from 0.
func (s *Share) ID() int { return s.id }

// Burn wipes the share; every later use returns secret.ErrBurned.
func (s *Share) Burn() { s.key.Burn() }

// String names the public share only.
func (s *Share) String() string { return fmt.Sprintf("share %d of %s", s.id, s.info.key) }

// GoString names the public share only.
func (s *Share) GoString() string { return s.String() }

// LogValue names the public share only.
func (s *Share) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SessionID names a signing session. It goes into the nonces, so that sessions
// differ in them even should the randomness repeat.
type SessionID [32]byte

// nonce is NonceGen of BIP-445 with every field: id, public share, tweaked key,
// message, and as extra input the session and the nonces that are known already.
func (s *Share) nonce(random io.Reader, c *Context, msg []byte, session SessionID, seen []PubNonce) (*bip340.SecNonce, PubNonce, error) {
	id := binary.BigEndian.AppendUint32(make([]byte, 0, 4), uint32(s.id))
	extra := append(make([]byte, 0, len(session)+66*len(seen)), session[:]...)
	for i := range seen {
		extra = append(extra, seen[i][:]...)
	}
	pub := s.key.PubKey()
	n, public, err := bip340.NewSecNonce(random, s.key, bip340.Derivation{
		Aux: tagAux, Nonce: tagNonce, Fields: nonceFields(id, pub[:], c.output[:], msg, true, extra),
	})
	if err != nil {
		return nil, PubNonce{}, fmt.Errorf("frost: nonce: %w", err)
	}
	return n, public, nil
}

// member returns the share's position in c, which must be of the same record.
func (s *Share) member(c *Context) (int, error) {
	if c.info != s.info {
		return 0, fmt.Errorf("%w: the context is of another record than the share", ErrSigners)
	}
	at := c.position(s.id)
	if at < 0 {
		return 0, fmt.Errorf("%w: participant %d is not among them", ErrSigners, s.id)
	}
	return at, nil
}

// Pending is a signer's first round: a nonce that waits for the others'. It
// belongs to one message under one key, for good, and Sign uses it up, so no
// second message can be signed with its nonce. It lives in memory only.
type Pending struct {
	share  *Share
	ctx    *Context
	at     int
	msg    [32]byte
	public PubNonce
	nonce  *bip340.SecNonce
}

// Commit begins a signature of msg. Send the public nonce to the others, and
// call Burn on every path that does not come to Sign.
func (s *Share) Commit(c *Context, session SessionID, msg [32]byte) (*Pending, error) {
	at, err := s.member(c)
	if err != nil {
		return nil, err
	}
	n, public, err := s.nonce(rand.Reader, c, msg[:], session, nil)
	if err != nil {
		return nil, err
	}
	return &Pending{share: s, ctx: c, at: at, msg: msg, public: public, nonce: n}, nil
}

// PubNonce returns what the other signers need.
func (p *Pending) PubNonce() PubNonce { return p.public }

// Burn wipes the nonce.
func (p *Pending) Burn() { p.nonce.Burn() }

// String returns the word "nonce".
func (*Pending) String() string { return "nonce" }

// GoString returns the word "nonce".
func (*Pending) GoString() string { return "nonce" }

// LogValue returns the word "nonce".
func (*Pending) LogValue() slog.Value { return slog.StringValue("nonce") }

// MarshalText refuses with secret.ErrMarshal.
func (*Pending) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// MarshalBinary refuses with secret.ErrMarshal.
func (*Pending) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }
