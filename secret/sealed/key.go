package sealed

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/vigil-ark/vigil/secret"
)

// The wrapped store key is one record, byte by byte:
//
//	1   format, keyFormat
//	1   kind of key-encryption key: passphrase or raw
//	4   Argon2id passes, big endian        (0 if raw)
//	4   Argon2id memory in KiB, big endian (0 if raw)
//	1   Argon2id lanes                     (0 if raw)
//	16  salt, random
//	12  nonce, random
//	32  AES-256-GCM ciphertext of the store key
//	16  its tag
//
// under Argon2id(passphrase, salt, …) or HKDF-SHA256(raw key, salt, keyLabel).
// Associated data: keyLabel, a zero byte, the generation and the record's
// first 27 bytes, so none of them can be changed.
const (
	keyFormat      = 1
	kindPassphrase = 1
	kindRaw        = 2
	keyLabel       = "vigil/sealed/key"

	headSize   = 1 + 1 + 4 + 4 + 1 + saltSize
	recordSize = headSize + nonceSize + keySize + tagSize
)

// Argon2id for new wrappings: the second recommendation of RFC 9106 (§4), for
// where 2 GiB are too much. Measured at 0.2 s on two 2020s server cores; it is
// paid once a start.
const (
	argonPasses = 3
	argonMemory = 64 << 10 // KiB
	argonLanes  = 4

	// What a record may ask for, since it is read before it is authenticated.
	maxArgonPasses = 16
	maxArgonMemory = 1 << 20 // KiB: 1 GiB
	maxArgonLanes  = 16
)

// maxPassphrase bounds a passphrase file, in bytes.
const maxPassphrase = 1 << 10

// Key says where the key-encryption key comes from. It is read when a store is
// created, opened or rekeyed, and wiped at once.
type Key struct {
	kind byte
	read func() (secret.Bytes, error)
}

// Passphrase is a passphrase that was asked for. It stays the caller's to burn.
func Passphrase(p secret.Bytes) Key {
	return Key{kindPassphrase, func() (secret.Bytes, error) { return copyOf(p) }}
}

// PassphraseFile reads the passphrase from a file that only its owner can
// read; one newline at its end is not part of it.
func PassphraseFile(path string) Key {
	return Key{kindPassphrase, func() (secret.Bytes, error) {
		b, err := readKey(path, maxPassphrase, true)
		if err != nil {
			return secret.Bytes{}, err
		}
		b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
		return secret.New(b), nil
	}}
}

// KeyFile reads the key from a file of exactly 32 random bytes that only its
// owner can read; GenerateKeyFile makes one.
func KeyFile(path string) Key {
	return Key{kindRaw, func() (secret.Bytes, error) { return rawKey(path, true) }}
}

// SystemdCredential reads the key, exactly 32 random bytes, from the
// credential called name that systemd put into $CREDENTIALS_DIRECTORY, which
// systemd itself keeps from others.
func SystemdCredential(name string) Key {
	return Key{kindRaw, func() (secret.Bytes, error) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return secret.Bytes{}, fmt.Errorf("%w: CREDENTIALS_DIRECTORY is not set; is LoadCredential= in the unit?", ErrKey)
		}
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
			return secret.Bytes{}, fmt.Errorf("%w: %q is no credential name", ErrKey, name)
		}
		return rawKey(filepath.Join(dir, name), false)
	}}
}

// GenerateKeyFile writes 32 random bytes to a new file of mode 0600. It
// overwrites nothing.
func GenerateKeyFile(path string) error {
	key := make([]byte, keySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrKey, err), os.Remove(path))
	}
	return nil
}

func rawKey(path string, ownerOnly bool) (secret.Bytes, error) {
	b, err := readKey(path, keySize, ownerOnly)
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(b) != keySize {
		clear(b)
		return secret.Bytes{}, fmt.Errorf("%w: %s has %d bytes, must have %d", ErrKey, path, len(b), keySize)
	}
	return secret.New(b), nil
}

// readKey reads a regular file of at most limit bytes.
func readKey(path string, limit int, ownerOnly bool) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !info.Mode().IsRegular() || info.Size() > int64(limit) {
		return nil, fmt.Errorf("%w: %s is no regular file of at most %d bytes", ErrKey, path, limit)
	}
	if mode := info.Mode().Perm(); ownerOnly && mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %#o and must have 0600", ErrKey, path, mode)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		clear(b)
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	return b, nil
}

func copyOf(p secret.Bytes) (c secret.Bytes, err error) {
	err = p.Use(func(b []byte) error {
		c = secret.New(bytes.Clone(b))
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return c, nil
}

// wrapKey makes the record that holds key under kek, with a fresh salt.
func wrapKey(kek Key, key secret.Bytes, generation [16]byte) ([]byte, error) {
	record := make([]byte, headSize, recordSize)
	record[0], record[1] = keyFormat, kek.kind
	if kek.kind == kindPassphrase {
		binary.BigEndian.PutUint32(record[2:], argonPasses)
		binary.BigEndian.PutUint32(record[6:], argonMemory)
		record[10] = argonLanes
	}
	if _, err := rand.Read(record[headSize-saltSize:]); err != nil {
		return nil, fmt.Errorf("sealed: salt: %w", err)
	}
	err := kek.derive(record, func(wrapping []byte) error {
		a, err := gcm(wrapping)
		if err != nil {
			return err
		}
		return key.Use(func(plain []byte) error {
			record = a.Seal(record, nil, plain, keyData(generation, record))
			return nil
		})
	})
	return record, err
}

// unwrapKey opens a record, or returns ErrWrongKey.
func unwrapKey(kek Key, record []byte, generation [16]byte) (key secret.Bytes, err error) {
	if len(record) != recordSize || record[0] != keyFormat {
		return key, fmt.Errorf("%w: the key record is damaged", secret.ErrTampered)
	}
	err = kek.derive(record, func(wrapping []byte) error {
		a, err := gcm(wrapping)
		if err != nil {
			return err
		}
		plain, err := a.Open(nil, nil, record[headSize:], keyData(generation, record))
		if err != nil {
			return ErrWrongKey
		}
		key = secret.New(plain)
		return nil
	})
	return key, err
}

func keyData(generation [16]byte, record []byte) []byte {
	data := append([]byte(keyLabel+"\x00"), generation[:]...)
	return append(data, record[:headSize]...)
}

// derive computes the wrapping key that a record's head asks for, hands it to
// f and wipes it.
func (k Key) derive(head []byte, f func(wrapping []byte) error) error {
	if k.read == nil {
		return fmt.Errorf("%w: none was given", ErrKey)
	}
	if head[1] != k.kind {
		return fmt.Errorf("%w: the store is sealed under a %s, a %s was given", ErrWrongKey, kindName(head[1]), kindName(k.kind))
	}
	passes, memory, lanes := binary.BigEndian.Uint32(head[2:]), binary.BigEndian.Uint32(head[6:]), head[10]
	if k.kind == kindPassphrase && (passes < 1 || passes > maxArgonPasses || lanes < 1 || lanes > maxArgonLanes ||
		memory < 8*uint32(lanes) || memory > maxArgonMemory) {
		return fmt.Errorf("%w: the key record asks for Argon2id beyond its limits", secret.ErrTampered)
	}
	salt := head[headSize-saltSize : headSize]
	material, err := k.read()
	if err != nil {
		return err
	}
	defer material.Burn()
	return material.Use(func(b []byte) error {
		if len(b) == 0 {
			return fmt.Errorf("%w: it is empty", ErrKey)
		}
		var wrapping []byte
		var err error
		if k.kind == kindPassphrase {
			wrapping = argon2.IDKey(b, salt, passes, memory, lanes, keySize)
		} else {
			wrapping, err = deriveKey(b, salt, keyLabel)
		}
		if err != nil {
			return err
		}
		defer clear(wrapping)
		return f(wrapping)
	})
}

func kindName(kind byte) string {
	switch kind {
	case kindPassphrase:
		return "passphrase"
	case kindRaw:
		return "key file or credential"
	default:
		return "key of unknown kind"
	}
}
