package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
)

var (
	// ErrLost says that an epoch's share cannot be made again: the host key that
	// Vigil had in it is in the secret store no more, or what the share would be made
	// of.
	ErrLost = errors.New("signer: the share of this epoch cannot be made again")
	// ErrForeign says that a record is of another epoch than that which Vigil has
	// under its number.
	ErrForeign = errors.New("signer: a record of another refresh")
)

// Seal returns Vigil's share of an epoch that a refresh made, encrypted to Vigil's
// host key of the ceremony, 32 bytes: to be kept with the record, by a peer, for
// Adopt. Errors are ErrEpoch, delegate.ErrSecretMissing and ErrSecretWrong, and a
// store's.
func (s *Signer) Seal(ctx context.Context, k Key) ([]byte, error) {
	var sealed refresh.Sealed
	err := s.withEpoch(ctx, k, func(host *chilldkg.HostKey, h held) (err error) {
		sealed, err = refresh.Seal(host, &refresh.Output{ID: Own, Info: k.Info, Share: h.share}, k.Record)
		return err
	})
	return bytes.Clone(sealed[:]), err
}

// Adopt takes up an epoch that Vigil once certified and whose record its copies of
// the past do not have, or whose share they do not: k is what a verified record
// says. That Vigil's own host key of the secret store is the record's shows that
// Vigil signed it. The share is there already, or is made of sealed (see Seal; none
// is empty), or of the share of the epoch before; then it is durable when Adopt
// returns, with that of the epoch before, if it is there, and no other. before says
// that it is. Adopt may be repeated. Errors are ErrLost, ErrForeign,
// delegate.ErrSecretMissing and ErrSecretWrong; any other is a store that is down.
func (s *Signer) Adopt(ctx context.Context, k Key, sealed []byte) (before bool, err error) {
	s.epochs.Lock()
	defer s.epochs.Unlock()
	hs, err := s.holding(ctx, k.wallet())
	if err != nil {
		return false, err
	}
	defer hs.burn()
	old, none := hs.of(k.Info.Epoch() - 1)
	before = none == nil
	if h, err := hs.of(k.Info.Epoch()); err == nil {
		return before, h.is(k)
	}
	if last := hs[len(hs)-1].epoch; last > k.Info.Epoch() {
		return false, fmt.Errorf("%w: epoch %d is over, epoch %d is there", ErrForeign, k.Info.Epoch(), last)
	}
	host, h, err := hs.hostOf(k)
	if err != nil {
		return false, err
	}
	defer host.Burn()
	out, err := remake(host, k, sealed, old, before)
	if err != nil {
		return false, err
	}
	defer out.Share.Burn()
	next := holding{{epoch: k.Info.Epoch(), host: h.host, share: out.Share}}
	if before {
		next = holding{old, next[0]}
	}
	return before, s.keep(ctx, k.wallet(), next)
}

// is says whether this is the epoch of k.
func (h held) is(k Key) error {
	host, err := hostKey(h.host)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(k.wallet()), err)
	}
	defer host.Burn()
	share, err := frost.NewShare(k.Info, Own, h.share)
	if err != nil || host.PubKey() != k.Hosts[Own] {
		return fmt.Errorf("%w: epoch %d", ErrForeign, k.Info.Epoch())
	}
	share.Burn()
	return nil
}

// hostOf finds the host key that Vigil has in the epoch of k: hygiene keeps it over
// many epochs.
func (hs holding) hostOf(k Key) (*chilldkg.HostKey, held, error) {
	for _, h := range hs {
		host, err := hostKey(h.host)
		if err != nil {
			return nil, held{}, fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(k.wallet()), err)
		}
		if host.PubKey() == k.Hosts[Own] {
			return host, h, nil
		}
		host.Burn()
	}
	return nil, held{}, fmt.Errorf("%w: epoch %d: the host key of that refresh is gone", ErrLost, k.Info.Epoch())
}

// remake makes a share again, checked against the record.
func remake(host *chilldkg.HostKey, k Key, sealed []byte, old held, before bool) (*refresh.Output, error) {
	if len(sealed) == len(refresh.Sealed{}) {
		if out, err := refresh.Recover(host, k.Record, refresh.Sealed(sealed)); err == nil && out.ID == Own {
			return out, nil
		}
	}
	if !before {
		return nil, fmt.Errorf("%w: epoch %d: neither its sealed share nor that of the epoch before is there", ErrLost, k.Info.Epoch())
	}
	out, err := refresh.Apply(host, k.Record, old.share)
	if err != nil {
		return nil, fmt.Errorf("%w: epoch %d: %w", ErrForeign, k.Info.Epoch(), err)
	}
	return out, nil
}
