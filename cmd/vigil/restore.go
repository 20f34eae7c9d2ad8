package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret/export"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/signer"
)

type restoreCmd struct {
	places
	Backup   string `help:"File that vigil backup wrote." placeholder:"FILE" type:"path"`
	Secrets  string `help:"File that vigil secret export wrote." placeholder:"FILE" type:"path"`
	Identity string `help:"age identity file that opens it." placeholder:"FILE" type:"path"`
	Confirm  bool   `help:"End the hold of a restored Vigil: the one that it was copied from is gone for good."`
}

// restored is what `vigil restore --json` prints.
type restored struct {
	DataDir   string       `json:"data_dir"`
	SecretDir string       `json:"secret_dir"`
	Secrets   int          `json:"secrets"`
	Check     admin.Report `json:"check"`
	Hold      string       `json:"hold"`
}

// Run restores into places where nothing is, or confirms what was restored.
func (c *restoreCmd) Run(env *environment) error {
	if c.Confirm {
		if c.Backup != "" || c.Secrets != "" || c.Identity != "" {
			return errors.New("--confirm stands alone: it ends the hold of what was restored before")
		}
		s, err := with(env, c.places, func(p admin.Port) (admin.Status, error) { return p.Release(env.ctx) })
		if err != nil {
			return err
		}
		next := "Next: vigil serve"
		if s.Running != nil {
			next = "The running Vigil has begun."
		}
		return env.print(s, "The hold is ended: %d live delegates are carried out from now on. %s\n", s.Live, next)
	}
	if c.Backup == "" || c.Secrets == "" || c.Identity == "" {
		return errors.New("give --backup, --secrets and --identity, or --confirm")
	}
	var out restored
	err := env.working("restoring into "+c.DataDir, func() (err error) {
		out, err = c.restore(env)
		return err
	})
	if err != nil {
		return err
	}
	return env.print(out, "%sRestored %d secrets and %d records into %s.\n%s\nLook at it with `vigil status` and `vigil delegates list`; `vigil serve` answers, takes nothing and renews nothing until `vigil restore --confirm`.\n",
		reportText(out.Check), out.Secrets, out.Check.Records, out.DataDir, out.Hold)
}

// hold says why a restored Vigil does nothing yet.
func hold(now time.Time) string {
	return "restored from a backup at " + now.UTC().Format(time.RFC3339) +
		": make sure that the Vigil it was copied from is gone for good and that a session of the operator has passed since, then confirm"
}

// restore builds both stores beside their places, checks that they belong
// together, and only then gives them their names.
func (c *restoreCmd) restore(env *environment) (_ restored, err error) {
	for _, dir := range []string{c.kvDir(), c.secretDir()} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return restored{}, fmt.Errorf("%s exists: a restore overwrites nothing; give another --data-dir, or move it away (%w)", dir, errors.Join(err, os.ErrExist))
		}
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return restored{}, err
	}
	half := places{DataDir: c.DataDir, SecretDir: c.secretDir() + ".restoring"}
	kvHalf := c.kvDir() + ".restoring"
	for _, dir := range []string{kvHalf, half.SecretDir} {
		if err := os.RemoveAll(dir); err != nil { // of a restore that was cut short
			return restored{}, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(kvHalf), os.RemoveAll(half.SecretDir))
		}
	}()
	s := &stores{}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.kv, s.ledger, err = restoreRecords(env.ctx, c.Backup, kvHalf); err != nil {
		return restored{}, err
	}
	n := 0
	if s.secrets, n, err = c.restoreSecrets(env, half.SecretDir, s.kv.Generation()); err != nil {
		return restored{}, err
	}
	if err := s.missingKeys(env.ctx); err != nil {
		return restored{}, err
	}
	out := restored{DataDir: c.DataDir, SecretDir: c.secretDir(), Secrets: n, Hold: hold(time.Now())}
	if err := s.ledger.SetHold(env.ctx, out.Hold); err != nil {
		return restored{}, err
	}
	if out.Check, err = admin.New(s.local(c.places, nil)).Check(env.ctx); err != nil {
		return restored{}, err
	}
	if err := errors.Join(s.Close(), os.Rename(half.SecretDir, c.secretDir()), os.Rename(kvHalf, c.kvDir())); err != nil {
		return restored{}, err
	}
	*s = stores{}
	return out, errors.Join(syncDir(c.DataDir), syncDir(filepath.Dir(c.secretDir())))
}

// restoreRecords copies a backup into a directory of its own and opens it.
func restoreRecords(ctx context.Context, backup, dir string) (_ *sqlite.Store, _ *ledger.Ledger, err error) {
	from, err := os.Open(backup)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	err = writeNew(filepath.Join(dir, "kv.db"), func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlite.Open(ctx, dir, sqlite.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("%s is no backup of a key-value store: %w", backup, err)
	}
	if err := store.Check(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the backup %s: %w", backup, err), store.Close())
	}
	// The file is a copy: there is nothing to copy before a migration.
	l, err := ledger.Open(ctx, store, ledger.Options{BeforeMigration: func(context.Context, uint32) error { return nil }})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the backup %s: %w", backup, err), store.Close())
	}
	return store, l, nil
}

// restoreSecrets fills a new secret store from an export of the same generation.
func (c *restoreCmd) restoreSecrets(env *environment, dir string, generation [16]byte) (_ *sealed.Store, _ int, err error) {
	identity, err := os.Open(c.Identity)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, identity.Close()) }()
	file, err := os.Open(c.Secrets)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	in, err := export.Open(file, identity)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", c.Secrets, err)
	}
	if in.Generation() != generation {
		return nil, 0, fmt.Errorf("%s and %s are of different Vigils; find the export that belongs to the backup", c.Secrets, c.Backup)
	}
	kek, err := c.key(env)
	if err != nil {
		return nil, 0, err
	}
	if c.ownKey() {
		if err := sealed.GenerateKeyFile(c.keyFile()); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, 0, fmt.Errorf("make the key file: %w", err)
		}
	}
	store, err := sealed.Create(env.ctx, dir, kek, sealed.Options{Generation: generation})
	if err != nil {
		return nil, 0, fmt.Errorf("make the secret store: %w", err)
	}
	n, err := in.Into(env.ctx, store)
	if err != nil {
		return nil, n, errors.Join(fmt.Errorf("%s: %w", c.Secrets, err), store.Close())
	}
	return store, n, nil
}

// missingKeys refuses stores of which the one has records whose keys the other
// lacks. It reads the list of keys that intake was opened with, not the records.
func (s *stores) missingKeys(ctx context.Context) error {
	noted, err := s.ledger.ServiceKeys(ctx)
	if err != nil {
		return err
	}
	have, err := signer.New(s.secrets).ServiceKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the service keys: %w", err)
	}
	counts, err := s.ledger.Counts(ctx)
	if err != nil {
		return err
	}
	waiting := uint64(0)
	for state, n := range counts {
		if !state.Ended() {
			waiting += n
		}
	}
	for _, key := range noted {
		if !slices.ContainsFunc(have, func(k signer.ServiceKey) bool { return k.Key == key }) && waiting > 0 {
			return fmt.Errorf("%d delegates are stored here, and the secret store lacks the service key %s that they may name; bring back the secret store that belongs to these records (`vigil restore` from a newer export)", waiting, key)
		}
	}
	return nil
}
