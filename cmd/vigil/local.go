package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/secret/export"
	"github.com/vigil-ark/vigil/signer"
)

// local is the operator's port over stores that this process has open. Whoever
// serves adds what it knows.
func (s *stores) local(p places, params func(context.Context) (ark.Params, error)) admin.Local {
	return admin.Local{
		Ledger: s.ledger, Keys: signer.New(s.secrets), Version: version, Settles: settlesUnknown, Params: params,
		Backup: func(ctx context.Context, path string) (admin.Copied, error) {
			done, err := s.backup(ctx, path)
			return done, p.mark(markBackup, err)
		},
		Export: func(ctx context.Context, path string, recipients []string) (admin.Copied, error) {
			done, err := s.export(ctx, path, recipients)
			return done, p.mark(markExport, err)
		},
		Check: s.check, CheckWallet: s.checkWallet,
		Disk: func() (uint64, bool) { return p.disk().state() },
		Host: s.hostKey,
	}
}

// Files whose age is that of the last copy that this Vigil made of itself.
const (
	markBackup = "last-backup"
	markExport = "last-export"
)

// mark notes that a copy was made just now, unless it failed with err, which it
// returns. That it cannot note it does not spoil the copy.
func (p places) mark(name string, err error) error {
	if err == nil {
		_ = os.WriteFile(filepath.Join(p.DataDir, name), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o600)
	}
	return err
}

// marked is when the last copy was made.
func (p places) marked(name string) (time.Time, error) {
	about, err := os.Stat(filepath.Join(p.DataDir, name))
	if err != nil {
		return time.Time{}, err
	}
	return about.ModTime(), nil
}

// hostKey is what devices pin; "" in a Vigil that serves no wallets.
func (s *stores) hostKey(ctx context.Context) (string, error) {
	host, err := signer.New(s.secrets).Host(ctx)
	if errors.Is(err, delegate.ErrSecretMissing) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer host.Burn()
	return host.PubKey().String(), nil
}

// settlesUnknown is told when nobody serves.
const settlesUnknown = "as `vigil serve` is told with --esplora-url"

// backup copies the key-value store. The destination must not exist.
func (s *stores) backup(ctx context.Context, path string) (admin.Copied, error) {
	began := time.Now()
	if !filepath.IsAbs(path) {
		return admin.Copied{}, fmt.Errorf("%w: the path must be absolute", admin.ErrRefused)
	}
	if err := s.kv.Backup(ctx, path); err != nil {
		return admin.Copied{}, fmt.Errorf("back up to %s: %w", path, err)
	}
	return copied(path, 0, began)
}

func copied(path string, secrets int, began time.Time) (admin.Copied, error) {
	about, err := os.Stat(path)
	if err != nil {
		return admin.Copied{}, err
	}
	return admin.Copied{Path: path, Bytes: about.Size(), Secrets: secrets, Took: time.Since(began).Round(time.Millisecond).String()}, nil
}

// export writes every secret, encrypted, to a new file.
func (s *stores) export(ctx context.Context, path string, recipients []string) (_ admin.Copied, err error) {
	began := time.Now()
	if !filepath.IsAbs(path) {
		return admin.Copied{}, fmt.Errorf("%w: the path must be absolute", admin.ErrRefused)
	}
	to, err := export.Recipients(recipients...)
	if err != nil {
		return admin.Copied{}, fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	n := 0
	err = writeNew(path, func(w io.Writer) (err error) {
		n, err = export.Write(ctx, w, s.secrets, s.secrets.Generation(), to...)
		return err
	})
	if err != nil {
		return admin.Copied{}, fmt.Errorf("export to %s: %w", path, err)
	}
	return copied(path, n, began)
}

// writeNew writes a new file of mode 0600, durably; a failed one is removed.
func writeNew(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a name in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkWallet looks for what is left of a deleted wallet.
func (s *stores) checkWallet(ctx context.Context, id vigil.WalletID, marks [][]byte) (*fsck.Report, error) {
	names, err := s.secrets.List(ctx, "")
	if err != nil {
		return nil, err
	}
	return fsck.Wallet(ctx, s.kv, &fsck.Secrets{Names: names}, id, marks...)
}

// check reads both stores whole and holds them to each other.
func (s *stores) check(ctx context.Context) (*fsck.Report, int, error) {
	names, err := s.secrets.List(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	keys, err := signer.New(s.secrets).ServiceKeys(ctx)
	if err != nil {
		return nil, 0, err
	}
	secrets := &fsck.Secrets{
		Names: names, Service: map[bip340.PubKey]string{},
		Again: func(ctx context.Context) ([]string, error) { return s.secrets.List(ctx, "") },
	}
	for _, k := range keys {
		secrets.Service[k.Key] = signer.ServiceName(k.Number)
	}
	report, err := fsck.Check(ctx, s.kv, secrets)
	if err != nil {
		return nil, 0, err
	}
	for subject, err := range map[string]error{"key-value store": s.kv.Check(ctx), "secret store": s.secrets.Check(ctx)} {
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		if err != nil {
			report.Findings = append(report.Findings, fsck.Finding{
				Severity: fsck.Fault, Code: "STORE_DAMAGED", Subject: subject, Text: err.Error(),
				Fix: "stop Vigil, keep the files, look at the disk, and restore (docs/operations.md)",
			})
		}
	}
	return report, len(names), nil
}

// port reaches the Vigil of these places: the one that runs, else its stores.
// close releases it.
func (p places) port(env *environment) (_ admin.Port, close func() error, err error) {
	client, err := admin.Dial(env.ctx, p.socket())
	if err == nil {
		return client, func() error { return nil }, nil
	}
	if !errors.Is(err, admin.ErrNoServer) {
		return nil, nil, err
	}
	s, err := p.open(env, nil)
	if err != nil {
		return nil, nil, err
	}
	params := func(ctx context.Context) (_ ark.Params, err error) {
		pinned, err := s.ledger.Operator(ctx)
		if err != nil {
			return ark.Params{}, err
		}
		client, err := upstream{OperatorURL: pinned.URL}.dial(env)
		if err != nil {
			return ark.Params{}, err
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		return askOperator(ctx, client, pinned.URL)
	}
	return admin.New(s.local(p, params)), s.Close, nil
}

// with reaches the Vigil of these places for one call.
func with[T any](env *environment, p places, call func(admin.Port) (T, error)) (out T, err error) {
	port, closePort, err := p.port(env)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, closePort()) }()
	return call(port)
}
