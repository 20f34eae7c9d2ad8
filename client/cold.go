package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
)

// ColdShare is a share of a wallet that its owner keeps apart from the device and
// from Vigil, on a seed of its own: with it either of them can be lost. It takes
// part in Create, and can be made again of its seed and the wallet's record.
type ColdShare struct {
	host   *chilldkg.HostKey
	one    *chilldkg.Participant1
	two    *chilldkg.Participant2
	out    *chilldkg.Output
	record []byte
}

// NewColdShare prepares a share of the seed, which must not be the device's.
func NewColdShare(seed Seed, network ark.Network) (*ColdShare, error) {
	scalar, err := seed.host(network, 0)
	if err != nil {
		return nil, err
	}
	host, err := chilldkg.NewHostKey(scalar)
	if err != nil {
		return nil, err
	}
	return &ColdShare{host: host}, nil
}

// HostKey is the share's public key in ceremonies.
func (c *ColdShare) HostKey() bip340.PubKey { return c.host.PubKey() }

// Burn wipes the share from memory.
func (c *ColdShare) Burn() {
	c.host.Burn()
	if c.out != nil {
		c.out.Share.Burn()
	}
}

// Restore makes the share again of the wallet's recovery data, which Vigil, the
// device and every Backup have.
func (c *ColdShare) Restore(record []byte) (err error) {
	c.out, _, err = chilldkg.Recover(c.host, record)
	c.record = record
	return err
}

// share loads it for signing.
func (c *ColdShare) share() (*frost.Share, error) {
	if c.out == nil {
		return nil, ErrPending
	}
	info, err := c.out.Info()
	if err != nil {
		return nil, err
	}
	return frost.NewShare(info, c.out.ID, c.out.Share)
}

// UseCold has the device sign with a cold share in place of Vigil, until it is
// called with nil: when Vigil is gone, the coins of a 2-of-3 wallet can be spent
// as ever, together with the operator. Only a wallet whose shares were never
// refreshed can do that. The share should not stay on the device.
func (w *Wallet) UseCold(c *ColdShare) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c == nil {
		w.cold = nil
		return nil
	}
	second, err := c.share()
	if err != nil {
		return err
	}
	if w.share == nil || second.Info().PubKey() != w.desc.Group || w.st.Cutover.Active != second.Info().Epoch() {
		return fmt.Errorf("%w: the cold share is not of this wallet's epoch", ErrSeed)
	}
	// One record for both: the device's own.
	ids := []int{w.st.ID, second.ID()}
	slices.Sort(ids)
	signers, err := w.share.Info().Signers(ids...)
	if err != nil {
		return err
	}
	if second, err = frost.NewShare(w.share.Info(), second.ID(), c.out.Share); err != nil {
		return err
	}
	shares := []*frost.Share{w.share, second}
	slices.SortFunc(shares, func(a, b *frost.Share) int { return a.ID() - b.ID() })
	w.cold = &coldSigner{shares: shares, context: signers.Untweaked()}
	return nil
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
	c.one, pmsg1, err = chilldkg.Step1(c.host, params)
	return pmsg1, err
}

func (c *ColdShare) step2(cmsg1 []byte) (pmsg2 []byte, err error) {
	c.two, pmsg2, err = c.one.Step2(c.host, cmsg1)
	return pmsg2, err
}

func (c *ColdShare) finalize(cmsg2 []byte) (err error) {
	c.out, c.record, err = c.two.Finalize(cmsg2)
	return err
}

// acknowledge signs that the share's owner has the recovery data, making the
// share of them if need be.
func (c *ColdShare) acknowledge(params *chilldkg.Params, record []byte) ([]byte, error) {
	if c.out == nil {
		if err := c.Restore(record); err != nil {
			return nil, err
		}
	}
	return chilldkg.Acknowledge(c.host, params, record)
}
