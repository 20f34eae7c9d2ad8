package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/signer"
)

// places says where Vigil keeps what it keeps. Public state and secrets are two
// places with two sets of credentials.
type places struct {
	DataDir        string `help:"Directory of public state." default:"${data_dir}" placeholder:"DIR" type:"path"`
	SecretDir      string `help:"Directory of sealed secrets; default <data-dir>/secrets. Better on another disk, and never in a backup of the data directory." placeholder:"DIR" type:"path"`
	KeyFile        string `help:"File with the key-encryption key, 32 random bytes; default <data-dir>/kek." placeholder:"FILE" type:"path"`
	PassphraseFile string `help:"File with a passphrase instead of a key." placeholder:"FILE" type:"path"`
	AskPassphrase  bool   `help:"Ask for the passphrase on the terminal."`
	Credential     string `help:"Name of a systemd credential that holds the key." placeholder:"NAME"`
	AdminSocket    string `help:"Socket on which a running Vigil answers its own operator; default <data-dir>/admin.sock." placeholder:"FILE" type:"path"`
}

func (p places) kvDir() string { return filepath.Join(p.DataDir, "kv") }

func (p places) secretDir() string {
	if p.SecretDir != "" {
		return p.SecretDir
	}
	return filepath.Join(p.DataDir, "secrets")
}

func (p places) socket() string {
	if p.AdminSocket != "" {
		return p.AdminSocket
	}
	return filepath.Join(p.DataDir, "admin.sock")
}

func (p places) keyFile() string {
	if p.KeyFile != "" {
		return p.KeyFile
	}
	return filepath.Join(p.DataDir, "kek")
}

// ownKey says whether the key is the file that `vigil init` makes.
func (p places) ownKey() bool {
	return p.PassphraseFile == "" && p.Credential == "" && !p.AskPassphrase
}

// keyPlace tells a person where the key-encryption key is.
func (p places) keyPlace() string {
	switch {
	case p.PassphraseFile != "":
		return "the passphrase in " + p.PassphraseFile
	case p.Credential != "":
		return "the credential " + p.Credential
	case p.AskPassphrase:
		return "your passphrase"
	}
	return "the key in " + p.keyFile()
}

// key is where the key-encryption key comes from.
func (p places) key(env *environment) (sealed.Key, error) {
	given := 0
	for _, is := range []bool{p.KeyFile != "", p.PassphraseFile != "", p.Credential != "", p.AskPassphrase} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return sealed.Key{}, errors.New("give one of --key-file, --passphrase-file, --ask-passphrase and --credential")
	case p.PassphraseFile != "":
		return sealed.PassphraseFile(p.PassphraseFile), nil
	case p.Credential != "":
		return sealed.SystemdCredential(p.Credential), nil
	case p.AskPassphrase:
		passphrase, err := env.ask("Passphrase: ")
		return sealed.Passphrase(passphrase), err
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

// errGenerations refuses stores that were not made together.
var errGenerations = errors.New("the secret store and the key-value store were not made together; restore both from one point in time, or see `vigil restore`")

// open opens both stores and refuses them when they do not belong together.
func (p places) open(env *environment, committed func(time.Duration)) (_ *stores, err error) {
	ctx := env.ctx
	kek, err := p.key(env)
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
		switch {
		case errors.Is(err, sqlite.ErrMissing):
			return nil, fmt.Errorf("%s holds no store; run `vigil init` first, or `vigil restore`: %w", p.kvDir(), err)
		case errors.Is(err, sqlite.ErrLocked):
			return nil, fmt.Errorf("another process has the stores in %s open: stop it first, or, if it is a Vigil that this command may ask, name its socket with --admin-socket: %w", p.DataDir, err)
		}
		return nil, fmt.Errorf("open the store in %s: %w", p.kvDir(), err)
	}
	if s.secrets, err = sealed.Open(ctx, p.secretDir(), kek, sealed.Options{}); err != nil {
		switch {
		case errors.Is(err, sealed.ErrMissing):
			return nil, fmt.Errorf("%s holds no secret store, but there are records that need one; name its place with --secret-dir, or bring it back with `vigil restore`: %w", p.secretDir(), err)
		case errors.Is(err, sealed.ErrWrongKey):
			return nil, fmt.Errorf("the key given does not open the secret store in %s; give the one that it was last sealed with: %w", p.secretDir(), err)
		}
		return nil, fmt.Errorf("open the secret store in %s: %w", p.secretDir(), err)
	}
	backup := func(ctx context.Context, from uint32) error {
		// A start that was cut short, or a store brought back later, makes another copy.
		name := fmt.Sprintf("kv-before-migration-from-%d-%s.db", from, time.Now().UTC().Format("20060102T150405.000Z"))
		return s.kv.Backup(ctx, filepath.Join(p.DataDir, name))
	}
	if s.ledger, err = ledger.Open(ctx, s.kv, ledger.Options{BeforeMigration: backup, Garbage: signer.Garbage}); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if s.secrets.Generation() != s.kv.Generation() || ledger.Generation(s.kv.Generation()) != s.ledger.Generation() {
		return nil, errGenerations
	}
	return s, nil
}
