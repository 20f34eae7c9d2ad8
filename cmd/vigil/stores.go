package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret/sealed"
)

// places says where Vigil keeps what it keeps. Public state and secrets are two
// places with two sets of credentials.
type places struct {
	DataDir        string `help:"Directory of public state." default:"${data_dir}" placeholder:"DIR" type:"path"`
	SecretDir      string `help:"Directory of sealed secrets; default <data-dir>/secrets. Better on another disk, and never in a backup of the data directory." placeholder:"DIR" type:"path"`
	KeyFile        string `help:"File with the key-encryption key, 32 random bytes; default <data-dir>/kek." placeholder:"FILE" type:"path"`
	PassphraseFile string `help:"File with a passphrase instead of a key." placeholder:"FILE" type:"path"`
	Credential     string `help:"Name of a systemd credential that holds the key." placeholder:"NAME"`
}

func (p places) kvDir() string { return filepath.Join(p.DataDir, "kv") }

func (p places) secretDir() string {
	if p.SecretDir != "" {
		return p.SecretDir
	}
	return filepath.Join(p.DataDir, "secrets")
}

func (p places) keyFile() string {
	if p.KeyFile != "" {
		return p.KeyFile
	}
	return filepath.Join(p.DataDir, "kek")
}

// key is where the key-encryption key comes from.
func (p places) key() (sealed.Key, error) {
	given := 0
	for _, s := range []string{p.KeyFile, p.PassphraseFile, p.Credential} {
		if s != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return sealed.Key{}, errors.New("give one of --key-file, --passphrase-file and --credential")
	case p.PassphraseFile != "":
		return sealed.PassphraseFile(p.PassphraseFile), nil
	case p.Credential != "":
		return sealed.SystemdCredential(p.Credential), nil
	}
	return sealed.KeyFile(p.keyFile()), nil
}

// stores are both stores, open and known to belong together.
type stores struct {
	kv      *sqlite.Store
	secrets *sealed.Store
	ledger  *ledger.Ledger
}

// Close closes what is open.
func (s *stores) Close() error {
	var errs []error
	if s.kv != nil {
		errs = append(errs, s.kv.Close())
	}
	if s.secrets != nil {
		errs = append(errs, s.secrets.Close())
	}
	return errors.Join(errs...)
}

// create makes both stores under one fresh generation mark.
func (p places) create(ctx context.Context) (_ *stores, err error) {
	if err := os.MkdirAll(p.DataDir, 0o700); err != nil {
		return nil, err
	}
	kek, err := p.key()
	if err != nil {
		return nil, err
	}
	if p.PassphraseFile == "" && p.Credential == "" {
		if err := sealed.GenerateKeyFile(p.keyFile()); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the key file: %w", err)
		}
	}
	var generation ledger.Generation
	if _, err := rand.Read(generation[:]); err != nil {
		return nil, err
	}
	s := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// The secret store first: records must never be without the place of their
	// keys.
	if s.secrets, err = sealed.Create(ctx, p.secretDir(), kek, sealed.Options{Generation: generation}); err != nil {
		return nil, fmt.Errorf("make the secret store in %s: %w", p.secretDir(), err)
	}
	if s.kv, err = sqlite.Create(ctx, p.kvDir(), sqlite.Options{Generation: generation}); err != nil {
		return nil, fmt.Errorf("make the store in %s: %w", p.kvDir(), err)
	}
	if err = ledger.Create(ctx, s.kv, generation); err != nil {
		return nil, fmt.Errorf("make the ledger: %w", err)
	}
	if s.ledger, err = ledger.Open(ctx, s.kv, ledger.Options{}); err != nil {
		return nil, err
	}
	return s, nil
}

// errGenerations refuses stores that were not made together.
var errGenerations = errors.New("the secret store and the key-value store were not made together; restore both from one point in time, or see `vigil restore`")

// open opens both stores and refuses them when they do not belong together.
func (p places) open(ctx context.Context, committed func(time.Duration)) (_ *stores, err error) {
	kek, err := p.key()
	if err != nil {
		return nil, err
	}
	s := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.kv, err = sqlite.Open(ctx, p.kvDir(), sqlite.Options{OnCommit: committed}); err != nil {
		if errors.Is(err, sqlite.ErrMissing) {
			return nil, fmt.Errorf("%s holds no store; run `vigil init` first: %w", p.kvDir(), err)
		}
		return nil, fmt.Errorf("open the store in %s: %w", p.kvDir(), err)
	}
	if s.secrets, err = sealed.Open(ctx, p.secretDir(), kek, sealed.Options{OnCommit: committed}); err != nil {
		return nil, fmt.Errorf("open the secret store in %s: %w", p.secretDir(), err)
	}
	backup := func(ctx context.Context, from uint32) error {
		return s.kv.Backup(ctx, filepath.Join(p.DataDir, fmt.Sprintf("kv-before-migration-from-%d.db", from)))
	}
	if s.ledger, err = ledger.Open(ctx, s.kv, ledger.Options{BeforeMigration: backup}); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if s.secrets.Generation() != s.kv.Generation() || ledger.Generation(s.kv.Generation()) != s.ledger.Generation() {
		return nil, errGenerations
	}
	return s, nil
}
