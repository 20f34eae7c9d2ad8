package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
)

// Host is Vigil's host key, which devices pin. It signs answers, prepared
// delegates and webhooks, and does no other job: the host keys of key ceremonies
// are drawn for each wallet. It is safe for concurrent use.
type Host struct{ key *bip340.Key }

// Host opens the host key. Errors are delegate.ErrSecretMissing, for a Vigil that
// was initialised before there were wallets, delegate.ErrSecretWrong, and those
// of a store that is down.
func (s *Signer) Host(ctx context.Context) (*Host, error) {
	key, err := s.load(ctx, hostName)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return &Host{key: key}, nil
}

// AddHostKey draws the host key and returns its public half; when there is one
// already, it stays. Nothing but `vigil init` and `vigil keys add-host` calls it.
func (s *Signer) AddHostKey(ctx context.Context) (bip340.PubKey, error) {
	s.adding.Lock()
	defer s.adding.Unlock()
	old, err := s.Host(ctx)
	if err == nil {
		defer old.Burn()
		return old.PubKey(), nil
	}
	if !errors.Is(err, delegate.ErrSecretMissing) {
		return bip340.PubKey{}, err
	}
	return s.draw(ctx, hostName)
}

// draw stores a fresh key under name and returns its public half.
func (s *Signer) draw(ctx context.Context, name string) (bip340.PubKey, error) {
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		return bip340.PubKey{}, fmt.Errorf("draw %s: %w", name, err)
	}
	defer key.Burn()
	defer scalar.Burn()
	if err := s.store.Put(ctx, name, scalar); err != nil {
		return bip340.PubKey{}, fmt.Errorf("store %s: %w", name, err)
	}
	return key.PubKey(), nil
}

// PubKey is the key that devices pin.
func (h *Host) PubKey() bip340.PubKey { return h.key.PubKey() }

// Sign signs a tagged hash that the caller computed over what it says.
func (h *Host) Sign(hash [32]byte) ([64]byte, error) { return h.key.Sign(hash[:]) }

// Burn wipes the key.
func (h *Host) Burn() { h.key.Burn() }
