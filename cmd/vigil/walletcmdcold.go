package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/export"
)

// maxColdFile bounds what a cold file holds, in bytes.
const maxColdFile = 256 << 10

// coldPassphrase says where the passphrase of cold files comes from.
type coldPassphrase struct {
	ColdPassphraseFile string `help:"File with the passphrase of the cold files; asked for when there is none." placeholder:"FILE" type:"path" env:"-"`
}

// coldFiles are cold shares, each in an encrypted file where its owner keeps it.
type coldFiles struct {
	ColdFile []string `help:"A cold share's file, encrypted with a passphrase; once for each." placeholder:"FILE" type:"path" env:"-"`
	coldPassphrase
}

// ask reads a cold file's passphrase; twice when it is a new one.
func (c coldPassphrase) ask(env *environment, path string, fresh bool) (secret.Bytes, error) {
	if c.ColdPassphraseFile == "" {
		ask := func(prompt string) (secret.Bytes, error) { return env.ask(prompt + ": ") }
		if fresh {
			ask = env.askNew
		}
		typed, err := ask("Passphrase of " + path)
		if errors.Is(err, errNoTerminal) {
			err = errors.New("there is no terminal to ask for the cold file's passphrase on; use --cold-passphrase-file")
		}
		return typed, err
	}
	info, err := os.Stat(c.ColdPassphraseFile)
	if err != nil {
		return secret.Bytes{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Bytes{}, fmt.Errorf("others may read %s; chmod 600 it", c.ColdPassphraseFile)
	}
	raw, err := os.ReadFile(c.ColdPassphraseFile)
	if err != nil {
		return secret.Bytes{}, err
	}
	trimmed := bytes.TrimRight(raw, "\r\n")
	if len(trimmed) == 0 {
		return secret.Bytes{}, fmt.Errorf("%s is empty", c.ColdPassphraseFile)
	}
	return secret.New(trimmed), nil
}

// openAll reads the cold shares of the files. What becomes of them is written back
// before anybody hears of it.
func (c coldFiles) openAll(env *environment, place walletPlace) (shares []*client.ColdShare, err error) {
	for _, path := range c.ColdFile {
		place.warn(env, path)
		share, err := openCold(env, c.coldPassphrase, path)
		if err != nil {
			burnAll(shares)
			return nil, err
		}
		shares = append(shares, share)
	}
	return shares, nil
}

func burnAll(shares []*client.ColdShare) {
	for _, s := range shares {
		s.Burn()
	}
}

func openCold(env *environment, by coldPassphrase, path string) (*client.ColdShare, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the cold file: %w", err)
	}
	passphrase, err := by.ask(env, path, false)
	if err != nil {
		return nil, err
	}
	plain, err := export.Unlock(bytes.NewReader(raw), passphrase, maxColdFile)
	if err != nil {
		passphrase.Burn()
		return nil, fmt.Errorf("the cold file %s: %w", path, err)
	}
	defer plain.Burn()
	share, err := client.ParseColdShare(plain)
	if err != nil {
		passphrase.Burn()
		return nil, fmt.Errorf("the cold file %s: %w", path, err)
	}
	share.Save = func(v secret.Bytes) error { return writeCold(path, v, passphrase) }
	return share, nil
}

// writeCold puts a cold share's file into the place of the one before, whole or not
// at all.
func writeCold(path string, value, passphrase secret.Bytes) (err error) {
	var b bytes.Buffer
	if err := export.Lock(&b, value, passphrase); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if _, err := file.Write(b.Bytes()); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// makeAll makes the cold shares of a wallet that is to be made, each in its file before
// anything is made of it; a file that is there is of an attempt before.
func (c coldFiles) makeAll(env *environment, place walletPlace, network ark.Network) (shares []*client.ColdShare, err error) {
	for _, path := range c.ColdFile {
		place.warn(env, path)
		share, err := c.makeOne(env, path, network)
		if err != nil {
			burnAll(shares)
			return nil, err
		}
		shares = append(shares, share)
	}
	return shares, nil
}

func (c coldFiles) makeOne(env *environment, path string, network ark.Network) (*client.ColdShare, error) {
	if _, err := os.Stat(path); err == nil {
		return openCold(env, c.coldPassphrase, path)
	}
	seed, err := client.NewSeed()
	if err != nil {
		return nil, err
	}
	defer seed.Burn()
	share, err := client.NewColdShare(seed, network)
	if err != nil {
		return nil, err
	}
	passphrase, err := c.ask(env, path, true)
	if err != nil {
		share.Burn()
		return nil, err
	}
	share.Save = func(v secret.Bytes) error { return writeCold(path, v, passphrase) }
	raw, err := share.Encode()
	if err == nil {
		err = share.Save(raw)
		raw.Burn()
	}
	if err != nil {
		share.Burn()
		return nil, fmt.Errorf("the cold file %s: %w", path, err)
	}
	return share, nil
}

// network asks the operator which one it is on.
func (p peers) network(env *environment) (ark.Network, error) {
	op, err := operator.Dial(operator.Config{URL: p.Operator, Log: env.log})
	if err != nil {
		return "", err
	}
	params, err := op.Info(env.ctx)
	return params.Network, errors.Join(err, op.Close())
}

// warn says so when a cold file lies beside the device's own share: whoever takes the
// one takes the other.
func (p walletPlace) warn(env *environment, path string) {
	dir := filepath.Clean(p.WalletDir)
	at := filepath.Dir(filepath.Clean(path))
	if at == dir || at == filepath.Dir(dir) || strings.HasPrefix(at, dir+string(filepath.Separator)) {
		fmt.Fprintf(env.stderr, "%s lies beside the device's store in %s. Two shares in one place are as good as none apart: move it to where only you get at it, and keep no copy here.\n", path, dir)
	}
}

// coldSigning has a cold share sign in Vigil's place.
type coldSigning struct {
	WithCold string `help:"Sign with the cold share in this file in Vigil's place, when Vigil is gone." placeholder:"FILE" type:"path" env:"-"`
	coldPassphrase
}

// device opens the wallet for one act that signs.
func (c coldSigning) device(env *environment, place walletPlace, act func(*client.Wallet) error) error {
	return place.device(env, func(w *client.Wallet) error {
		if c.WithCold == "" {
			return act(w)
		}
		place.warn(env, c.WithCold)
		share, err := openCold(env, c.coldPassphrase, c.WithCold)
		if err != nil {
			return err
		}
		defer share.Burn()
		if err := w.UseCold(env.ctx, share); err != nil {
			return err
		}
		return act(w)
	})
}

// covered is covered, but without Vigil, which would have to keep the delegates.
func (c coldSigning) covered(env *environment, w *client.Wallet) client.Kept {
	if c.WithCold != "" {
		fmt.Fprintln(env.stderr, "No delegate covers the coins: signed without Vigil. Renew them before they expire, or leave (`vigil wallet exit`).")
		return client.Kept{}
	}
	return covered(env, w)
}

type walletColdCmd struct {
	File string `arg:"" help:"The cold share's file." type:"path"`
	coldPassphrase
}

// Run tells of what a cold file is, and that its passphrase opens it.
func (c *walletColdCmd) Run(env *environment) error {
	share, err := openCold(env, c.coldPassphrase, c.File)
	if err != nil {
		return err
	}
	defer share.Burn()
	out := struct {
		Wallet      string `json:"wallet,omitempty"`
		Participant int    `json:"participant,omitempty"`
		Epoch       uint32 `json:"epoch"`
	}{Epoch: share.Epoch()}
	id, participant, ok := share.Wallet()
	if !ok {
		return env.print(out, "The share of a wallet whose making was not ended: `vigil wallet create` with this file goes on.\n")
	}
	out.Wallet, out.Participant = id.String(), participant
	return env.print(out, "Participant %d of wallet %s, at epoch %d.\n", participant, id, out.Epoch)
}
