package bip340

import (
	"crypto/rand"
	"fmt"
	"sync"

	"github.com/vigil-ark/vigil/secret"
)

// maxKnown bounds what a Known remembers, to some hundred kilobytes.
const maxKnown = 4096

var tagKnown = NewTag("vigil/known key")

// Known remembers the public keys of secrets that it has made keys of, so that one
// that is looked up again costs no multiplication. It keeps no secret: a secret is
// recognised by its hash under a random key that never leaves. The zero Known knows
// nothing yet. It is safe for concurrent use.
type Known struct {
	mu   sync.Mutex
	salt [32]byte
	pubs map[[32]byte]PubKey // nil until there is a salt
}

// NewKey is the function of that name; its error may be ErrRand too.
func (k *Known) NewKey(s secret.Bytes) (key *Key, err error) {
	salt, err := k.draw()
	if err != nil {
		return nil, err
	}
	err = s.Use(func(b []byte) error {
		if len(b) != 32 {
			return fmt.Errorf("%w: a key has 32 bytes", ErrScalar)
		}
		secret.Do(func() { key, err = k.keyOf(&salt, (*[32]byte)(b)) })
		return err
	})
	return key, err
}

// draw returns the salt, and draws it the first time.
func (k *Known) draw() ([32]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pubs == nil {
		if _, err := rand.Read(k.salt[:]); err != nil {
			return k.salt, ErrRand
		}
		k.pubs = map[[32]byte]PubKey{}
	}
	return k.salt, nil
}

// keyOf leaves b as it is.
func (k *Known) keyOf(salt, b *[32]byte) (*Key, error) {
	id := tagKnown.HashSecret(salt[:], b[:])
	k.mu.Lock()
	pub, known := k.pubs[id]
	k.mu.Unlock()
	if known { // and so in range
		own := *b
		return &Key{pub: pub, scalar: secret.New(own[:])}, nil
	}
	key, err := keyOf(b)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pubs) >= maxKnown {
		clear(k.pubs)
	}
	k.pubs[id] = key.pub
	return key, nil
}
