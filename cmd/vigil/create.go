package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/signer"
)

// errHalf refuses to make a store beside one that is in use: what is missing may
// hold what coins depend on.
var errHalf = errors.New("one of the two stores exists and the other does not; bring the missing one back (see `vigil restore`), or give another --data-dir")

// create makes both stores under one fresh generation mark, or takes up an init
// that was cut short, which is one that pinned no operator. What was set up
// whole is refused, and so is what lost a part: nothing that may have been used
// is ever made anew.
func (p places) create(env *environment) (_ *stores, err error) {
	ctx := env.ctx
	if err := os.MkdirAll(p.DataDir, 0o700); err != nil {
		return nil, err
	}
	kek, err := p.key(env)
	if err != nil {
		return nil, err
	}
	if p.ownKey() {
		if err := sealed.GenerateKeyFile(p.keyFile()); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the key file: %w", err)
		}
	}
	s := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.secrets, err = ifThere(sealed.Open(ctx, p.secretDir(), kek, sealed.Options{})); err != nil {
		return nil, fmt.Errorf("a secret store exists in %s: %w", p.secretDir(), err)
	}
	if s.kv, err = ifThere(sqlite.Open(ctx, p.kvDir(), sqlite.Options{})); err != nil {
		return nil, fmt.Errorf("a store exists in %s: %w", p.kvDir(), err)
	}
	if err := s.complete(ctx, p, kek); err != nil {
		return nil, err
	}
	switch _, err := s.ledger.Operator(ctx); {
	case err == nil:
		return nil, fmt.Errorf("a Vigil exists in %s: %w", p.DataDir, os.ErrExist)
	case !errors.Is(err, ledger.ErrNotFound):
		return nil, err
	}
	return s, nil
}

// complete makes what is not there. The secret store comes first: records must
// never be without the place of their keys.
func (s *stores) complete(ctx context.Context, p places, kek sealed.Key) (err error) {
	used := false
	if s.secrets != nil {
		names, err := s.secrets.List(ctx, "")
		if err != nil {
			return err
		}
		used = len(names) > 0
	}
	if s.secrets == nil && s.kv != nil || s.kv == nil && used {
		return errHalf
	}
	if s.secrets == nil {
		var generation ledger.Generation
		if _, err := rand.Read(generation[:]); err != nil {
			return err
		}
		if s.secrets, err = sealed.Create(ctx, p.secretDir(), kek, sealed.Options{Generation: generation}); err != nil {
			return fmt.Errorf("make the secret store in %s: %w", p.secretDir(), err)
		}
	}
	generation := s.secrets.Generation()
	if s.kv == nil {
		if s.kv, err = sqlite.Create(ctx, p.kvDir(), sqlite.Options{Generation: generation}); err != nil {
			return fmt.Errorf("make the store in %s: %w", p.kvDir(), err)
		}
	}
	if s.kv.Generation() != generation {
		return errGenerations
	}
	s.ledger, err = ledger.Open(ctx, s.kv, ledger.Options{})
	if errors.Is(err, ledger.ErrNoLedger) && !used {
		if err := ledger.Create(ctx, s.kv, generation); err != nil {
			return fmt.Errorf("make the ledger: %w", err)
		}
		s.ledger, err = ledger.Open(ctx, s.kv, ledger.Options{})
	}
	return err
}

// ifThere is an opened store, or nil when there is none.
func ifThere[S any](store *S, err error) (*S, error) {
	if errors.Is(err, sqlite.ErrMissing) { // the secret store's as well
		return nil, nil
	}
	return store, err
}

// firstKey is the first service key: a new one, unless an init that was cut short
// has made it.
func firstKey(ctx context.Context, s *signer.Signer) (signer.ServiceKey, error) {
	keys, err := s.ServiceKeys(ctx)
	if err != nil {
		return signer.ServiceKey{}, err
	}
	if len(keys) > 0 {
		return keys[0], nil
	}
	return s.AddServiceKey(ctx)
}
