package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/secret/sealed"
)

type secretCmd struct {
	Export secretExportCmd `cmd:"" help:"Write all secrets, encrypted to age recipients, to a file."`
	Rekey  secretRekeyCmd  `cmd:"" help:"Seal the secret store under another key."`
}

type secretExportCmd struct {
	places
	Recipient []string `help:"age recipient (age1…); may be given more than once, and any one can open the file." placeholder:"AGE" required:""`
	File      string   `arg:"" type:"path" help:"The file to write; it must not exist."`
}

// Run exports; a running Vigil goes on meanwhile and encrypts by itself.
func (c *secretExportCmd) Run(env *environment) error {
	path, err := filepath.Abs(c.File)
	if err != nil {
		return err
	}
	var done admin.Copied
	err = env.working("exporting the secrets", func() (err error) {
		done, err = with(env, c.places, func(p admin.Port) (admin.Copied, error) { return p.Export(env.ctx, path, c.Recipient) })
		return err
	})
	if err != nil {
		return err
	}
	return env.print(done, "%s: %d secrets, encrypted. Keep it apart from backups of the key-value store: only together with the age identity and such a backup does it make a Vigil.\n", done.Path, done.Secrets)
}

type secretRekeyCmd struct {
	places
	ToKeyFile        string `help:"File with the new key; made when it does not exist." placeholder:"FILE" type:"path"`
	ToPassphraseFile string `help:"File with the new passphrase." placeholder:"FILE" type:"path"`
	ToCredential     string `help:"Name of a systemd credential with the new key." placeholder:"NAME"`
	ToAskPassphrase  bool   `help:"Ask for the new passphrase on the terminal."`
}

// Run seals the store's key under another one. It needs the stores for itself.
func (c *secretRekeyCmd) Run(env *environment) (err error) {
	given := 0
	for _, is := range []bool{c.ToKeyFile != "", c.ToPassphraseFile != "", c.ToCredential != "", c.ToAskPassphrase} {
		if is {
			given++
		}
	}
	if given != 1 {
		return errors.New("give one of --to-key-file, --to-passphrase-file, --to-ask-passphrase and --to-credential")
	}
	if _, err := admin.Dial(env.ctx, c.socket()); err == nil {
		return errors.New("a Vigil is running over these stores; stop it before its secrets are sealed under another key")
	}
	s, err := c.open(env, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if c.ToKeyFile != "" {
		if err := sealed.GenerateKeyFile(c.ToKeyFile); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the key file: %w", err)
		}
	}
	to := places{DataDir: c.DataDir, KeyFile: c.ToKeyFile, PassphraseFile: c.ToPassphraseFile, Credential: c.ToCredential, AskPassphrase: c.ToAskPassphrase}
	key, err := to.key(env)
	if err != nil {
		return err
	}
	if err := s.secrets.Rekey(env.ctx, key); err != nil {
		return fmt.Errorf("seal under another key: %w", err)
	}
	flag := "--ask-passphrase"
	switch {
	case c.ToKeyFile != "":
		flag = "--key-file " + c.ToKeyFile
	case c.ToPassphraseFile != "":
		flag = "--passphrase-file " + c.ToPassphraseFile
	case c.ToCredential != "":
		flag = "--credential " + c.ToCredential
	}
	return env.print(map[string]string{"secret_dir": c.secretDir(), "open_with": flag},
		"The secrets in %s are sealed under the new key. From now on: %s\nCopies of that directory made before still open with the old key: destroy them, or it.\n", c.secretDir(), flag)
}
