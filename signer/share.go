package signer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/secret"
)

// Own is Vigil's number among a key's participants: the device is 0, the owner's
// cold shares follow from 2 on.
const Own = 1

// ErrEpoch says that a wallet's secret does not hold the epoch asked for.
var ErrEpoch = errors.New("signer: no share of this epoch")

// held is what Vigil holds of one epoch of a wallet's key.
type held struct {
	epoch       uint32
	host, share secret.Bytes // 32 bytes each
}

func (h held) burn() {
	h.host.Burn()
	h.share.Burn()
}

// holding is a wallet's dkg-secret opened: one epoch, or two during the cut-over
// of a refresh, in ascending order.
type holding []held

func (hs holding) burn() {
	for _, h := range hs {
		h.burn()
	}
}

// of finds an epoch.
func (hs holding) of(epoch uint32) (held, error) {
	i := slices.IndexFunc(hs, func(h held) bool { return h.epoch == epoch })
	if i < 0 {
		return held{}, fmt.Errorf("%w: epoch %d", ErrEpoch, epoch)
	}
	return hs[i], nil
}

// The value of a dkg-secret: a version byte, the number of epochs, and for each
// its number, Vigil's host key of the ceremony that made it, and Vigil's share.
const (
	holdingVersion = 1
	maxEpochs      = 2
	heldLen        = 4 + 32 + 32
)

// encode returns the value. The holding stays the caller's.
func (hs holding) encode() (secret.Bytes, error) {
	if len(hs) == 0 || len(hs) > maxEpochs {
		return secret.Bytes{}, fmt.Errorf("signer: a wallet's secret of %d epochs", len(hs))
	}
	b := make([]byte, 0, 2+len(hs)*heldLen)
	b = append(b, holdingVersion, byte(len(hs)))
	add := func(part []byte) error {
		b = append(b, part...)
		return nil
	}
	for _, h := range hs {
		b = binary.BigEndian.AppendUint32(b, h.epoch)
		if err := errors.Join(h.host.Use(add), h.share.Use(add)); err != nil {
			clear(b)
			return secret.Bytes{}, err
		}
	}
	return secret.New(b), nil
}

// errHolding says nothing of the bytes that it is about.
var errHolding = errors.New("signer: malformed wallet secret")

func decodeHolding(value secret.Bytes) (hs holding, err error) {
	err = value.Use(func(b []byte) error {
		if len(b) < 2 || b[0] != holdingVersion || b[1] == 0 || b[1] > maxEpochs || len(b) != 2+int(b[1])*heldLen {
			return errHolding
		}
		for b = b[2:]; len(b) > 0; b = b[heldLen:] {
			h := held{epoch: binary.BigEndian.Uint32(b)}
			if len(hs) > 0 && h.epoch != hs[0].epoch+1 {
				return errHolding
			}
			h.host, h.share = secret.New(slices.Clone(b[4:36])), secret.New(slices.Clone(b[36:heldLen]))
			hs = append(hs, h)
		}
		return nil
	})
	if err != nil {
		hs.burn()
		return nil, err
	}
	return hs, nil
}

// holding reads a wallet's secret. Errors are delegate.ErrSecretMissing,
// delegate.ErrSecretWrong, and those of a store that is down.
func (s *Signer) holding(ctx context.Context, w vigil.WalletID) (holding, error) {
	value, err := s.fetch(ctx, dkgName(w))
	if err != nil {
		return nil, err
	}
	defer value.Burn()
	hs, err := decodeHolding(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(w), err)
	}
	return hs, nil
}

// keep writes a wallet's secret, all epochs in one value.
func (s *Signer) keep(ctx context.Context, w vigil.WalletID, hs holding) error {
	value, err := hs.encode()
	if err != nil {
		return err
	}
	defer value.Burn()
	if err := s.store.Put(ctx, dkgName(w), value); err != nil {
		return fmt.Errorf("store %s: %w", dkgName(w), err)
	}
	return nil
}

// fetch reads a secret, and parts one that is not there, or not what was stored,
// from a store that is down.
func (s *Signer) fetch(ctx context.Context, name string) (secret.Bytes, error) {
	value, err := s.store.Get(ctx, name)
	switch {
	case errors.Is(err, secret.ErrNotFound):
		return value, fmt.Errorf("%w: %s", delegate.ErrSecretMissing, name)
	case errors.Is(err, secret.ErrTampered):
		return value, fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, name, err)
	case err != nil:
		return value, fmt.Errorf("read secret %s: %w", name, err)
	}
	return value, nil
}

// Epochs lists, ascending, the epochs of which Vigil holds a share: the row's,
// and after a crash between the two stores one that the row does not know.
func (s *Signer) Epochs(ctx context.Context, w vigil.WalletID) ([]uint32, error) {
	hs, err := s.holding(ctx, w)
	if err != nil {
		return nil, err
	}
	defer hs.burn()
	epochs := make([]uint32, len(hs))
	for i, h := range hs {
		epochs[i] = h.epoch
	}
	return epochs, nil
}

// Erase destroys the share of the epoch before, once all participants have
// acknowledged epoch: in one write, which may be repeated. One of a later epoch
// stays: it is of a refresh that broke off, and the next one takes its place, or
// the caller's record is a copy of the past, and Adopt will ask for it. Erase
// refuses with ErrEpoch when the epoch's share is not there.
func (s *Signer) Erase(ctx context.Context, w vigil.WalletID, epoch uint32) error {
	return s.retain(ctx, w, epoch, false)
}

// retain destroys the shares of a wallet before that of epoch, and with all the
// later ones too.
func (s *Signer) retain(ctx context.Context, w vigil.WalletID, epoch uint32, all bool) error {
	s.epochs.Lock()
	defer s.epochs.Unlock()
	hs, err := s.holding(ctx, w)
	if err != nil {
		return err
	}
	defer hs.burn()
	if _, err := hs.of(epoch); err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(hs), func(h held) bool { return h.epoch < epoch || all && h.epoch > epoch })
	if len(kept) == len(hs) {
		return nil
	}
	return s.keep(ctx, w, kept)
}

// Acknowledge signs Vigil's own acknowledgment of an epoch's recovery data or
// record, 64 bytes, with the host key of the ceremony that made it.
func (s *Signer) Acknowledge(ctx context.Context, k Key) ([]byte, error) {
	hs, err := s.holding(ctx, k.wallet())
	if err != nil {
		return nil, err
	}
	defer hs.burn()
	h, err := hs.of(k.Info.Epoch())
	if err != nil {
		return nil, err
	}
	return k.acknowledge(h)
}

// hostKey makes a ceremony's host key of a copy, so that it is burned apart.
func hostKey(b secret.Bytes) (host *chilldkg.HostKey, err error) {
	err = b.Use(func(d []byte) error {
		host, err = chilldkg.NewHostKey(secret.New(slices.Clone(d)))
		return err
	})
	return host, err
}

// drawHost draws a ceremony's host key.
func drawHost() (*chilldkg.HostKey, error) {
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("draw a host key: %w", err)
	}
	key.Burn()
	return chilldkg.NewHostKey(scalar)
}

// share loads Vigil's share of an epoch and checks it against the caller's
// record of it.
func (s *Signer) share(ctx context.Context, w vigil.WalletID, info *frost.Info) (*frost.Share, error) {
	hs, err := s.holding(ctx, w)
	if err != nil {
		return nil, err
	}
	defer hs.burn()
	h, err := hs.of(info.Epoch())
	if err != nil {
		return nil, err
	}
	key, err := s.known.NewKey(h.share)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(w), err)
	}
	share, err := frost.ShareOf(info, Own, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(w), err)
	}
	return share, nil
}
