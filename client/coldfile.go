package client

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
)

// ErrColdFile is returned for bytes that are no encoded cold share.
var ErrColdFile = errors.New("client: not a cold share")

const (
	coldVersion = 1
	// maxCold bounds an encoded cold share in bytes: a record of 128 participants has
	// some 30 KiB.
	maxCold = 256 << 10
)

// coldForm is what a cold share is kept as. Words, share and the words of next are
// its secrets.
type coldForm struct {
	Version int         `json:"version"`
	Network ark.Network `json:"network"`
	Words   []byte      `json:"words"`
	Index   uint32      `json:"index"`
	Epoch   uint32      `json:"epoch"`
	ID      int         `json:"id,omitempty"`
	Info    []byte      `json:"info,omitempty"` // frost.Info, once there is a share
	Share   []byte      `json:"share,omitempty"`
	Record  []byte      `json:"record,omitempty"`
	Next    *coldNext   `json:"next,omitempty"`
}

// coldNext is the host key of a healing refresh that may have been certified.
type coldNext struct {
	Words []byte `json:"words"`
	Index uint32 `json:"index"`
}

func (f *coldForm) wipe() {
	clear(f.Words)
	clear(f.Share)
	if f.Next != nil {
		clear(f.Next.Words)
	}
}

// Encode is all that the share is, its seed among it: keep it encrypted.
func (c *ColdShare) Encode() (secret.Bytes, error) {
	f := coldForm{Version: coldVersion, Network: c.network, Index: c.own.index, Epoch: c.epoch, Record: c.record}
	defer f.wipe()
	copied := func(to *[]byte) func([]byte) error {
		return func(b []byte) error { *to = append(*to, b...); return nil }
	}
	err := c.own.seed.Words(copied(&f.Words))
	if c.out != nil {
		f.ID, f.Info = c.out.ID, c.out.Info.Encode()
		err = errors.Join(err, c.out.Share.Use(copied(&f.Share)))
	}
	if c.next.host != nil {
		f.Next = &coldNext{Index: c.next.index}
		err = errors.Join(err, c.next.seed.Words(copied(&f.Next.Words)))
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("client: cold share: %w", err)
	}
	return secret.New(raw), nil
}

// ParseColdShare reads what Encode wrote. The error is ErrColdFile.
func ParseColdShare(raw secret.Bytes) (c *ColdShare, err error) {
	var f coldForm
	defer f.wipe()
	err = raw.Use(func(b []byte) error {
		if len(b) > maxCold {
			return fmt.Errorf("%d bytes", len(b))
		}
		return json.Unmarshal(b, &f)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrColdFile, err)
	}
	if f.Version != coldVersion {
		return nil, fmt.Errorf("%w: version %d", ErrColdFile, f.Version)
	}
	c = &ColdShare{network: f.Network, epoch: f.Epoch, record: f.Record}
	if err := c.parse(&f); err != nil {
		c.Burn()
		return nil, fmt.Errorf("%w: %w", ErrColdFile, err)
	}
	return c, nil
}

func (c *ColdShare) parse(f *coldForm) (err error) {
	if c.own, err = parseColdKey(f.Words, f.Network, f.Index); err != nil {
		return err
	}
	if f.Next != nil {
		if c.next, err = parseColdKey(f.Next.Words, f.Network, f.Next.Index); err != nil {
			return err
		}
	}
	if len(f.Info) == 0 {
		return nil
	}
	info, err := frost.ParseInfo(f.Info)
	if err != nil {
		return err
	}
	share := secret.New(append([]byte(nil), f.Share...))
	loaded, err := frost.NewShare(info, f.ID, share)
	if err != nil {
		share.Burn()
		return err
	}
	loaded.Burn()
	if info.Epoch() != f.Epoch {
		share.Burn()
		return fmt.Errorf("epoch %d, its record is of %d", f.Epoch, info.Epoch())
	}
	c.out = &refresh.Output{ID: f.ID, Info: info, Share: share}
	return nil
}

func parseColdKey(words []byte, network ark.Network, index uint32) (k coldKey, err error) {
	raw := secret.New(append([]byte(nil), words...))
	defer raw.Burn()
	seed, err := ParseSeed(raw)
	if err != nil {
		return k, err
	}
	defer seed.Burn()
	return newColdKey(seed, network, index)
}
