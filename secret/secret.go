// Package secret owns bytes that must never be seen: a type that cannot be
// printed, and the port behind which every secret at rest lives. It knows
// nothing of what a secret is for.
package secret

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// Errors of this package. They are matched with errors.Is and never carry a
// byte of any secret.
var (
	// ErrBurned is returned by Use after Burn, and by the zero Bytes.
	ErrBurned = errors.New("secret: burned or empty")
	// ErrMarshal is returned by every attempt to encode a Bytes.
	ErrMarshal = errors.New("secret: refusing to marshal a secret")
	// ErrNotFound is returned by Store.Get for a name that the store does not hold.
	// A store that cannot be reached returns ErrUnavailable instead: the two must
	// never be confused, since a missing secret quarantines what needs it.
	ErrNotFound = errors.New("secret: not found")
	// ErrUnavailable says that the store could not answer now; retrying may help.
	ErrUnavailable = errors.New("secret: store unavailable")
	// ErrTampered says that a stored value does not authenticate under its name.
	ErrTampered = errors.New("secret: stored value does not authenticate")
	// ErrName is returned for a name that CheckName refuses.
	ErrName = errors.New("secret: name is empty, too long or not printable ASCII")
	// ErrTooBig is returned by Store.Put for a value over MaxValue.
	ErrTooBig = errors.New("secret: value too big")
	// ErrClosed is returned by a Store after Close.
	ErrClosed = errors.New("secret: store closed")
)

// Limits of every Store, in bytes.
const (
	// MaxName bounds a name: a kind, a dot and a 64-digit id fit twice.
	MaxName = 128
	// MaxValue bounds a value. The largest of ours, a cosigner share with its
	// host key and recovery data, has some kilobytes.
	MaxValue = 64 << 10
)

// CheckName returns ErrName unless name has 1 to MaxName bytes, all of them
// printable ASCII without the space: names stand in logs and in lists.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return ErrName
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return ErrName
		}
	}
	return nil
}

// Bytes is a secret byte string. The bytes live in a closure, because a slice
// or an array in a struct leaks through fmt, slog, JSON and go-spew as soon as
// the struct sits in another one's unexported field; a closure does not.
//
// Copies of a Bytes share the same secret: burning one burns all. The zero
// value is burned. Bytes is safe for concurrent use.
type Bytes struct {
	use  func(func([]byte) error) error
	burn func()
}

// New takes the secret out of b: it copies b and wipes it.
func New(b []byte) Bytes {
	held := make([]byte, len(b))
	copy(held, b)
	clear(b)
	var mu sync.RWMutex
	burned := false
	return Bytes{
		use: func(f func([]byte) error) error {
			mu.RLock()
			defer mu.RUnlock()
			if burned {
				return ErrBurned
			}
			return f(held)
		},
		burn: func() {
			mu.Lock()
			defer mu.Unlock()
			clear(held)
			burned = true
		},
	}
}

// Use calls f with the secret. f must not keep, copy or change the slice
// beyond the call. Only the packages that ARCHITECTURE.md names may call Use,
// and a test holds that line.
func (b Bytes) Use(f func([]byte) error) error {
	if b.use == nil {
		return ErrBurned
	}
	return b.use(f)
}

// Burn wipes the secret; every later Use returns ErrBurned. It may be called
// more than once. It waits for a running Use, so Use must not call it.
func (b Bytes) Burn() {
	if b.burn != nil {
		b.burn()
	}
}

// String returns the word "secret", never the secret.
func (Bytes) String() string { return "secret" }

// GoString returns the word "secret", never the secret.
func (Bytes) GoString() string { return "secret" }

// LogValue returns the word "secret", never the secret.
func (Bytes) LogValue() slog.Value { return slog.StringValue("secret") }

// MarshalText refuses with ErrMarshal; it also serves JSON, XML and TOML.
func (Bytes) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses with ErrMarshal; it also serves gob.
func (Bytes) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// Store keeps secrets under names, each sealed by itself. Put and Delete are
// durable when they return. Names are public; values are not.
//
// Every implementation passes secrettest.Run.
type Store interface {
	// Get returns the secret called name, or ErrNotFound, ErrUnavailable or
	// ErrTampered.
	Get(ctx context.Context, name string) (Bytes, error)
	// Put stores value under name, replacing what was there. The old value is
	// overwritten on disk.
	Put(ctx context.Context, name string, value Bytes) error
	// Delete removes name; a name that is not there is no error. The old value is
	// overwritten on disk before Delete returns nil; after an error it may be
	// gone already, and repeating Delete is right.
	Delete(ctx context.Context, name string) error
	// List returns the names that begin with prefix, sorted.
	List(ctx context.Context, prefix string) ([]string, error)
	// Close releases the store. Secrets already handed out stay usable.
	Close() error
}
