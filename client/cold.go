package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrColdOld is returned for a cold share that is a copy of before a refresh, from
// which the wallet's present share cannot be made: the owner has a newer copy, or the
// refresh healed and made this one worthless.
var ErrColdOld = errors.New("client: the cold share is an old copy, of before a refresh")

// ColdShare is a share of a wallet that its owner keeps apart from the device and
// from Vigil, on a seed of its own: with it either of them can be lost. It takes
// part in Create and Refresh, and signs in Vigil's place (UseCold). Keep what Encode
// gives, encrypted; its words alone make the share again for as long as no refresh
// heals. It is for one goroutine.
type ColdShare struct {
	// Save keeps what the share has become, encoded as Encode does it, before anybody
	// hears of it; its error ends what was under way. A refresh that heals needs it.
	Save func(secret.Bytes) error

	network ark.Network
	own     coldKey // whose host key the epoch has that the share is of
	next    coldKey // of a healing refresh that is not known to be certified
	epoch   uint32
	out     *refresh.Output // nil before there is a share
	record  []byte

	one  *chilldkg.Participant1
	two  *chilldkg.Participant2
	join *refresh.Participant1
}

// coldKey is a host key of a cold share's: its seed, and under which number it has it.
type coldKey struct {
	seed  Seed
	index uint32
	host  *chilldkg.HostKey // nil: there is none
}

func newColdKey(seed Seed, network ark.Network, index uint32) (k coldKey, err error) {
	scalar, err := seed.host(network, index)
	if err != nil {
		return k, err
	}
	k.index = index
	if k.host, err = chilldkg.NewHostKey(scalar); err != nil {
		return k, err
	}
	k.seed, err = seed.clone()
	return k, err
}

func (k *coldKey) burn() {
	if k.host != nil {
		k.host.Burn()
		k.seed.Burn()
	}
	*k = coldKey{}
}

// NewColdShare prepares a share of the seed, which must not be the device's. It takes
// a copy of it.
func NewColdShare(seed Seed, network ark.Network) (*ColdShare, error) {
	own, err := newColdKey(seed, network, 0)
	if err != nil {
		return nil, err
	}
	return &ColdShare{network: network, own: own}, nil
}

// HostKey is the share's public key in ceremonies.
func (c *ColdShare) HostKey() bip340.PubKey { return c.own.host.PubKey() }

// Epoch is the number of refreshes that the share has seen.
func (c *ColdShare) Epoch() uint32 { return c.epoch }

// Wallet is the wallet that the share is of, and its participant's number; false
// before there is one.
func (c *ColdShare) Wallet() (id vigil.WalletID, participant int, ok bool) {
	if c.out == nil {
		return id, 0, false
	}
	return vigil.WalletID(c.out.Info.PubKey().XOnly()), c.out.ID, true
}

// Burn wipes the share from memory.
func (c *ColdShare) Burn() {
	c.own.burn()
	c.next.burn()
	if c.out != nil {
		c.out.Share.Burn()
	}
}

// Restore makes the share again of the wallet's recovery data, which Vigil, the
// device and every Backup have: of that of its making, or of the refresh after the
// one that it has seen. The error may be ErrColdOld.
func (c *ColdShare) Restore(record []byte) error {
	number := uint32(0)
	if info, _, err := refresh.RecoverPublic(record); err == nil {
		number = info.Epoch()
	}
	return c.forward(number, record, nil)
}

// forward brings the share to an epoch, of which record is the record: by the share
// sealed to its host key, when that is there, else from the epoch before.
func (c *ColdShare) forward(number uint32, record, sealed []byte) error {
	if c.out != nil && c.epoch == number {
		if string(record) != string(c.record) {
			return fmt.Errorf("%w: the cold share is not of this wallet", ErrSeed)
		}
		return nil
	}
	if c.out != nil && number < c.epoch {
		return fmt.Errorf("%w: the record is of epoch %d, which is over: the cold share is of %d", ErrSeed, number, c.epoch)
	}
	if number == 0 {
		out, _, err := chilldkg.Recover(c.own.host, record)
		if err != nil {
			return err
		}
		return c.made(out, record)
	}
	info, p, err := refresh.RecoverPublic(record)
	if err != nil {
		return err
	}
	if info.Epoch() != number || c.out != nil && info.PubKey() != c.out.Info.PubKey() {
		return fmt.Errorf("%w: the record is of epoch %d, or of another wallet than the cold share", ErrSeed, info.Epoch())
	}
	key, healed := &c.own, false
	if _, err := p.ID(c.own.host.PubKey()); err != nil {
		if key, healed = &c.next, true; c.next.host == nil {
			return fmt.Errorf("%w: %w", ErrColdOld, err)
		}
	}
	var out *refresh.Output
	switch {
	case len(sealed) == len(refresh.Sealed{}):
		out, err = refresh.Recover(key.host, record, refresh.Sealed(sealed))
	case c.out != nil && c.epoch+1 == number:
		out, err = refresh.Apply(key.host, record, c.out.Share)
	default:
		return fmt.Errorf("%w: it is of epoch %d, the wallet at %d", ErrColdOld, c.epoch, number)
	}
	if err != nil {
		return err
	}
	return c.become(out, record, healed)
}

// made takes up what the making of the key gave.
func (c *ColdShare) made(out *chilldkg.Output, record []byte) error {
	info, err := out.Info()
	if err != nil {
		return err
	}
	return c.become(&refresh.Output{ID: out.ID, Info: info, Share: out.Share}, record, false)
}

// become takes up a certified epoch, and lets go of what was before.
func (c *ColdShare) become(out *refresh.Output, record []byte, healed bool) error {
	if c.out != nil {
		c.out.Share.Burn()
	}
	c.out, c.record, c.epoch = out, record, out.Info.Epoch()
	if healed {
		c.own.burn()
		c.own, c.next = c.next, coldKey{}
	}
	c.next.burn()
	return c.save()
}

func (c *ColdShare) save() error {
	if c.Save == nil {
		return nil
	}
	raw, err := c.Encode()
	if err != nil {
		return err
	}
	defer raw.Burn()
	if err := c.Save(raw); err != nil {
		return fmt.Errorf("client: the cold share could not be kept: %w", err)
	}
	return nil
}

// UseCold has the device sign with a cold share in place of Vigil, until it is
// called with nil: when Vigil is gone, the coins of a 2-of-3 wallet can be spent
// as ever, together with the operator. A share that was away while the wallet was
// refreshed is brought forward. It should not stay on the device.
func (w *Wallet) UseCold(ctx context.Context, c *ColdShare) error {
	if c == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cold = nil
		return nil
	}
	if err := w.level(ctx, c); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.share == nil || c.out.Info.PubKey() != w.scripts.Group || c.out.ID == w.st.ID || c.out.Info.Threshold() != 2 {
		return fmt.Errorf("%w: the cold share and the device's do not sign together", ErrSeed)
	}
	// One record for both: the device's own.
	ids := []int{w.st.ID, c.out.ID}
	slices.Sort(ids)
	signers, err := w.share.Info().Signers(ids...)
	if err != nil {
		return err
	}
	second, err := frost.NewShare(w.share.Info(), c.out.ID, c.out.Share)
	if err != nil {
		return err
	}
	shares := []*frost.Share{w.share, second}
	slices.SortFunc(shares, func(a, b *frost.Share) int { return a.ID() - b.ID() })
	w.cold = &coldSigner{shares: shares, context: signers.Untweaked()}
	return nil
}

// level brings device and cold share to one epoch, the later one's. A cold share
// that has the certificate for which the device waits is as good as Vigil's word.
func (w *Wallet) level(ctx context.Context, c *ColdShare) error {
	st := w.current()
	if c.out != nil && st.Cutover.Pending && c.epoch == st.Cutover.Active+1 {
		if err := w.certifiedBy(ctx, c.epoch, c.record); err != nil {
			return err
		}
		st = w.current()
	}
	e, err := st.active()
	if err != nil {
		return err
	}
	err = c.forward(e.Number, e.Record, nil)
	if !errors.Is(err, ErrColdOld) {
		return err
	}
	sealed, asked := w.sealedCold(ctx, c, e.Number)
	if asked != nil {
		return errors.Join(err, asked)
	}
	return c.forward(e.Number, e.Record, sealed)
}

// sealedCold asks Vigil for the cold share as it was handed in, sealed to the
// share's host key. Nothing is changed by it.
func (w *Wallet) sealedCold(ctx context.Context, c *ColdShare, number uint32) ([]byte, error) {
	scalar, err := c.own.seed.host(c.network, c.own.index)
	if err != nil {
		return nil, err
	}
	defer scalar.Burn()
	key, err := bip340.NewKey(scalar)
	if err != nil {
		return nil, err
	}
	defer key.Burn()
	own := key.PubKey()
	var answer vigilpb.RecoverAnswer
	if err := w.vigil.ask(ctx, "Recover", caller{own[:], key, number}, &vigilpb.RecoverRequest{}, &answer); err != nil {
		return nil, err
	}
	for _, e := range answer.Epochs {
		if e.Number == number {
			return e.Sealed, nil
		}
	}
	return nil, fmt.Errorf("%w: it keeps nothing of epoch %d", ErrVigil, number)
}

func (w *Wallet) withCold() *coldSigner {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cold
}

// coldSigner signs with two shares that are both at hand.
type coldSigner struct {
	shares  []*frost.Share // by id
	context *frost.Context
}

func (s *coldSigner) sign(_ context.Context, docs ...*document) error {
	for _, d := range docs {
		for _, j := range d.jobs {
			sig, err := s.signature(j.msg)
			if err != nil {
				return err
			}
			if err := j.put(s.context.OutputKey(), sig); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *coldSigner) signature(msg [32]byte) (sig [64]byte, err error) {
	var session frost.SessionID
	if _, err := rand.Read(session[:]); err != nil {
		return sig, err
	}
	first, err := s.shares[0].Commit(s.context, session, msg)
	if err != nil {
		return sig, err
	}
	defer first.Burn()
	nonces := []frost.PubNonce{first.PubNonce(), {}}
	last, err := s.shares[1].Answer(frost.Query{Context: s.context, Session: session, Msg: msg, Nonces: nonces})
	if err != nil {
		return sig, err
	}
	nonces[1] = last.Nonce
	part, signing, err := first.Sign(nonces)
	if err != nil {
		return sig, err
	}
	return signing.Aggregate([]frost.PartialSig{part, last.Sig}, nonces)
}

func (c *ColdShare) step1(params *chilldkg.Params) (pmsg1 []byte, err error) {
	c.one, pmsg1, err = chilldkg.Step1(c.own.host, params)
	return pmsg1, err
}

func (c *ColdShare) step2(cmsg1 []byte) (pmsg2 []byte, err error) {
	c.two, pmsg2, err = c.one.Step2(c.own.host, cmsg1)
	return pmsg2, err
}

func (c *ColdShare) finalize(cmsg2 []byte) error {
	out, record, err := c.two.Finalize(cmsg2)
	if err != nil {
		return err
	}
	return c.made(out, record)
}

// heal returns the share's host key for a refresh that makes the epoch of a number: a
// new one when it heals, of a new seed, so that old copies of this share are worth
// nothing.
func (c *ColdShare) heal(number uint32, healing bool) (bip340.PubKey, error) {
	c.next.burn()
	if !healing {
		return c.own.host.PubKey(), nil
	}
	if c.Save == nil {
		return bip340.PubKey{}, fmt.Errorf("%w: a refresh that heals gives the cold share a new seed, and nothing keeps it", ErrConfig)
	}
	seed, err := NewSeed()
	if err != nil {
		return bip340.PubKey{}, err
	}
	defer seed.Burn()
	if c.next, err = newColdKey(seed, c.network, number); err != nil {
		return bip340.PubKey{}, err
	}
	return c.next.host.PubKey(), nil
}

// key is the host key of the epoch that is being made.
func (c *ColdShare) key() *chilldkg.HostKey {
	if c.next.host != nil {
		return c.next.host
	}
	return c.own.host
}

func (c *ColdShare) refresh1(params *refresh.Params) (pmsg1 []byte, err error) {
	c.join, pmsg1, err = refresh.Step1(c.key(), params)
	return pmsg1, err
}

// refresh2 makes the second message. The new share follows from the old one and the
// record, so that only the host key must be kept before the message leaves.
func (c *ColdShare) refresh2(cmsg1 []byte) ([]byte, error) {
	two, pmsg2, err := c.join.Step2(c.key(), c.own.host, c.out.Share, cmsg1)
	if err != nil {
		return nil, err
	}
	two.Pending().Share.Burn()
	if c.next.host == nil {
		return pmsg2, nil
	}
	return pmsg2, c.save()
}

// acknowledge signs that the share's owner has the recovery data, making the
// share of them if need be.
func (c *ColdShare) acknowledge(params *chilldkg.Params, record []byte) ([]byte, error) {
	if c.out == nil {
		if err := c.Restore(record); err != nil {
			return nil, err
		}
	}
	return chilldkg.Acknowledge(c.own.host, params, record)
}
