package client

import (
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
