package export

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/vigil-ark/vigil/secret"
)

// ErrPassphrase says that the passphrase does not open the file.
var ErrPassphrase = errors.New("export: another passphrase")

const (
	// lockWork is scrypt's N as a power of two: 64 MiB, as much as a store's own
	// passphrase costs. maxLockWork is what a file may ask for, 1 GiB.
	lockWork    = 16
	maxLockWork = 20
)

// Lock writes one secret under a passphrase, as an age file: age -d opens it, too.
func Lock(w io.Writer, value, passphrase secret.Bytes) error {
	return lock(w, value, passphrase, lockWork)
}

func lock(w io.Writer, value, passphrase secret.Bytes, work int) error {
	var to *age.ScryptRecipient
	err := passphrase.Use(func(b []byte) (err error) {
		to, err = age.NewScryptRecipient(string(b))
		return err
	})
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	to.SetWorkFactor(work)
	enc, err := age.Encrypt(w, to)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	err = value.Use(func(b []byte) error {
		_, err := enc.Write(b)
		return err
	})
	if err := errors.Join(err, enc.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// Unlock reads what Lock wrote, of at most so many bytes. Errors are ErrPassphrase
// and ErrFormat.
func Unlock(r io.Reader, passphrase secret.Bytes, most int) (secret.Bytes, error) {
	var by *age.ScryptIdentity
	err := passphrase.Use(func(b []byte) (err error) {
		by, err = age.NewScryptIdentity(string(b))
		return err
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("export: %w", err)
	}
	by.SetMaxWorkFactor(maxLockWork)
	dec, err := age.Decrypt(r, by)
	if wrong := (*age.NoIdentityMatchError)(nil); errors.As(err, &wrong) {
		return secret.Bytes{}, ErrPassphrase
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	raw, err := io.ReadAll(io.LimitReader(dec, int64(most)+1))
	if err == nil && len(raw) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		clear(raw)
		return secret.Bytes{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return secret.New(raw), nil
}
