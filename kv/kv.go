// Package kv owns the port to durable public state: ordered trees of bytes
// with atomic updates. It knows neither the trees' names nor what is in them,
// and never a secret.
package kv

import (
	"context"
	"errors"
)

// Errors of every implementation, matched with errors.Is.
var (
	// ErrNotFound is returned by Get for a key that the tree does not hold.
	ErrNotFound = errors.New("kv: not found")
	// ErrStop ends a Scan early without an error when its callback returns it.
	ErrStop = errors.New("kv: stop")
	// ErrUnavailable says that the store could not commit now (disk full, server
	// away); the update did not happen and retrying may help.
	ErrUnavailable = errors.New("kv: store unavailable")
	// ErrNewer says that the data was written by a newer version of Vigil.
	ErrNewer = errors.New("kv: data written by a newer version")
	// ErrCorrupt says that the store's own integrity check failed.
	ErrCorrupt = errors.New("kv: corrupt")
)

// Store is a set of named trees, each an ordered map from bytes to bytes. A
// tree exists as soon as something is put in it.
//
// Every implementation passes kvtest.Run.
type Store interface {
	// View runs f on one consistent snapshot.
	View(ctx context.Context, f func(Reader) error) error
	// Update runs f and commits what it wrote, atomically and durably: when Update
	// returns nil the change has reached the disk. When f returns an error nothing
	// is changed and Update returns that error. Updates are serialised: what f
	// reads is still true when it commits. f must be quick, do no I/O and may be
	// run again from the start, so it must have no effect but its writes.
	Update(ctx context.Context, f func(Writer) error) error
	// Close waits for running transactions and releases the store.
	Close() error
}

// Reader reads from one consistent state. Slices it hands out belong to the
// caller.
type Reader interface {
	// Get returns the value of key in tree, or ErrNotFound.
	Get(tree string, key []byte) ([]byte, error)
	// Scan calls f for every entry of tree with from <= key < to, in ascending
	// bytewise order of key; a nil to means no upper bound. f returns ErrStop to
	// end early. f must not write.
	Scan(tree string, from, to []byte, f func(key, value []byte) error) error
}

// Writer also changes state.
type Writer interface {
	Reader
	Put(tree string, key, value []byte) error
	// Delete removes key; a key that is not there is no error.
	Delete(tree string, key []byte) error
}
