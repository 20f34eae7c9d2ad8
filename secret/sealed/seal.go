package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/secret"
)

// A sealed value is, byte by byte:
//
//	1   format, valueFormat
//	16  salt, random
//	12  nonce, random
//	n   AES-256-GCM ciphertext of the value
//	16  its tag
//
// under HKDF-SHA256(store key, salt, valueLabel), with valueLabel, a zero
// byte, the format byte and the name as associated data. Salt and nonce make
// 224 random bits, so no number of values that a disk can hold comes near a
// repeated pair of key and nonce (the bound for random nonces under one key,
// 2^32, does not apply: one key seals one value).
const (
	valueFormat = 1
	valueLabel  = "vigil/sealed/value"

	saltSize  = 16
	nonceSize = 12
	tagSize   = 16
	keySize   = 32

	overhead  = 1 + saltSize + nonceSize + tagSize
	maxSealed = overhead + secret.MaxValue
)

// newStoreKey makes the random key that everything in the store hangs on.
func newStoreKey() (secret.Bytes, error) {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return secret.Bytes{}, fmt.Errorf("sealed: store key: %w", err)
	}
	return secret.New(key), nil
}

// aead returns AES-256-GCM with random nonces under a key derived from key.
// The derived bytes are wiped; the cipher's expanded key lives until collected.
func aead(key, salt []byte, label string) (cipher.AEAD, error) {
	derived, err := deriveKey(key, salt, label)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	return gcm(derived)
}

func deriveKey(key, salt []byte, label string) ([]byte, error) {
	derived, err := hkdf.Key(sha256.New, key, salt, label, keySize)
	if err != nil {
		return nil, fmt.Errorf("sealed: derive: %w", err)
	}
	return derived, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sealed: cipher: %w", err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealed: cipher: %w", err)
	}
	return a, nil
}

func valueData(name string) []byte {
	return append([]byte(valueLabel+"\x00\x01"), name...)
}

// seal returns the sealed form of value under name.
func (s *Store) seal(name string, value secret.Bytes) ([]byte, error) {
	out := make([]byte, 1+saltSize, overhead+keySize)
	out[0] = valueFormat
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("sealed: salt: %w", err)
	}
	err := value.Use(func(plain []byte) error {
		if len(plain) > secret.MaxValue {
			return secret.ErrTooBig
		}
		return s.withKey(func(key []byte) error {
			a, err := aead(key, out[1:], valueLabel)
			if err == nil {
				out = a.Seal(out, nil, plain, valueData(name))
			}
			return err
		})
	})
	return out, err
}

// unseal opens what seal made, or returns secret.ErrTampered with the name.
func (s *Store) unseal(name string, sealed []byte) (value secret.Bytes, err error) {
	tampered := fmt.Errorf("%w: %s", secret.ErrTampered, name)
	if len(sealed) < overhead || sealed[0] != valueFormat {
		return secret.Bytes{}, tampered
	}
	err = s.withKey(func(key []byte) error {
		a, err := aead(key, sealed[1:1+saltSize], valueLabel)
		if err != nil {
			return err
		}
		plain, err := a.Open(nil, nil, sealed[1+saltSize:], valueData(name))
		if err != nil {
			return tampered
		}
		value = secret.New(plain)
		return nil
	})
	return value, err
}

// withKey uses the store key, which Close burns.
func (s *Store) withKey(f func([]byte) error) error {
	err := s.key.Use(f)
	if errors.Is(err, secret.ErrBurned) {
		return secret.ErrClosed
	}
	return err
}
