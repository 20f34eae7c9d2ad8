// Package signer is the one room where a server key is used: it builds the
// names of secrets, takes part in the making, refresh and use of wallets' keys,
// opens the sessions of stored delegates, and makes the tree nonces, partial
// signatures and forfeit signatures of a batch. It knows no store of records, no
// transport, no operator and no policy.
package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/secret"
)

// Signer opens secrets when a session needs them and at no other time. It is
// safe for concurrent use.
type Signer struct {
	store secret.Store
	sound sound
	known bip340.Known // of shares: one that was checked once is not multiplied out again

	adding sync.Mutex // two keys must not get one name
	epochs sync.Mutex // held from reading a wallet's epochs to writing them

	mu    sync.Mutex
	names map[bip340.PubKey]string // of the service keys, by their public keys
}

// New makes a signer over store.
func New(store secret.Store) *Signer { return &Signer{store: store} }

// ServiceKey is one service delegate key's public half.
type ServiceKey struct {
	Number int
	Key    bip340.PubKey
}

// ServiceKeys reads every service delegate key once and returns their public
// keys by ascending number; the last is the one that new delegates name. It
// also teaches the signer which name belongs to which key. One that cannot be
// read is an error: nothing new should be taken then.
func (s *Signer) ServiceKeys(ctx context.Context) ([]ServiceKey, error) {
	keys, broken, err := s.scan(ctx)
	if err == nil {
		err = broken
	}
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// scan reads the service keys that can be read. broken is what is wrong with
// the others: it must not be held against delegates that name the sound ones.
func (s *Signer) scan(ctx context.Context) (keys []ServiceKey, broken, err error) {
	names, err := s.store.List(ctx, servicePrefix)
	if err != nil {
		return nil, nil, fmt.Errorf("list service keys: %w", err)
	}
	known := make(map[bip340.PubKey]string, len(names))
	keys = make([]ServiceKey, 0, len(names))
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimPrefix(name, servicePrefix))
		if err != nil || n < 1 || name != ServiceName(n) {
			broken = errors.Join(broken, fmt.Errorf("secret %q is no service key's name", name))
			continue
		}
		key, err := s.load(ctx, name)
		switch {
		case errors.Is(err, delegate.ErrSecretMissing), errors.Is(err, delegate.ErrSecretWrong):
			broken = errors.Join(broken, fmt.Errorf("service key %d: %w", n, err))
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("service key %d: %w", n, err)
		}
		known[key.PubKey()] = name
		keys = append(keys, ServiceKey{Number: n, Key: key.PubKey()})
		key.Burn()
	}
	slices.SortFunc(keys, func(a, b ServiceKey) int { return a.Number - b.Number })
	s.mu.Lock()
	s.names = known
	s.mu.Unlock()
	return keys, broken, nil
}

// AddServiceKey draws a service delegate key, stores it under the next free
// number and returns its public half. Nothing but `vigil init` and `vigil keys
// add` calls it: a service key is never made silently.
func (s *Signer) AddServiceKey(ctx context.Context) (ServiceKey, error) {
	s.adding.Lock()
	defer s.adding.Unlock()
	keys, err := s.ServiceKeys(ctx)
	if err != nil {
		return ServiceKey{}, err
	}
	next := ServiceKey{Number: 1}
	if len(keys) > 0 {
		next.Number = keys[len(keys)-1].Number + 1
	}
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		return ServiceKey{}, fmt.Errorf("draw a service key: %w", err)
	}
	defer key.Burn()
	defer scalar.Burn()
	if err := s.store.Put(ctx, ServiceName(next.Number), scalar); err != nil {
		return ServiceKey{}, fmt.Errorf("store service key %d: %w", next.Number, err)
	}
	next.Key = key.PubKey()
	if _, err := s.ServiceKeys(ctx); err != nil {
		return ServiceKey{}, err
	}
	return next, nil
}

// name finds the secret of a delegate key. When the key is not known yet, the
// store is asked once more: it may have been added since.
func (s *Signer) name(ctx context.Context, key bip340.PubKey) (string, error) {
	s.mu.Lock()
	name, ok := s.names[key]
	s.mu.Unlock()
	if ok {
		return name, nil
	}
	_, broken, err := s.scan(ctx)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.names[key]; ok {
		return name, nil
	}
	if broken != nil { // it may be one of those
		return "", fmt.Errorf("%w: %s; %w", delegate.ErrSecretMissing, key, broken)
	}
	return "", fmt.Errorf("%w: %s", delegate.ErrSecretMissing, key)
}

// load opens one secret as a key.
func (s *Signer) load(ctx context.Context, name string) (*bip340.Key, error) {
	value, err := s.fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	defer value.Burn()
	key, err := bip340.NewKey(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, name, err)
	}
	return key, nil
}

// keyring holds the keys of one session, each secret read once however many
// delegates share it.
type keyring struct {
	keys map[bip340.PubKey]*bip340.Key
}

// key returns the key of pub. A stranger may have made the operator list our key
// negated; what is signed is always under the key that the task names.
func (r *keyring) key(pub bip340.PubKey) (*bip340.Key, error) {
	k, ok := r.keys[pub]
	if !ok {
		return nil, fmt.Errorf("signer: %s is no key of this session", pub)
	}
	return k, nil
}

// add takes a key over, as the one that pub names in tasks and leaves.
func (r *keyring) add(pub bip340.PubKey, key *bip340.Key) {
	if old, ok := r.keys[pub]; ok && old != key {
		key.Burn() // one of the same wallet's delegates brought it before
		return
	}
	r.keys[pub] = key
}

func (r *keyring) burn() {
	for _, k := range r.keys {
		k.Burn()
	}
	clear(r.keys)
}
