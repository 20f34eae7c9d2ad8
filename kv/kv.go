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
	// ErrUnavailable says that the store could not answer or commit now (disk
	// full, failed fsync, server away); retrying may help. The update is undone
	// for everybody who reads on. If the process ends before the store commits
	// again, it may turn out to be there after all, but only whole: it is then
	// like an update whose answer was lost, so retries read first.
	ErrUnavailable = errors.New("kv: store unavailable")
	// ErrNewer says that the data was written by a newer version of Vigil.
	ErrNewer = errors.New("kv: data written by a newer version")
	// ErrCorrupt says that the store's own integrity check failed.
	ErrCorrupt = errors.New("kv: corrupt")
	// ErrClosed is returned after Close, and by a Reader or Writer that is used
	// after its View or Update has returned.
	ErrClosed = errors.New("kv: closed")
	// ErrTooBig is returned for a tree name, key or value beyond the limits below.
	ErrTooBig = errors.New("kv: tree name, key or value beyond its limit")
	// ErrScanning is returned by Put and Delete inside the callback of Scan.
	ErrScanning = errors.New("kv: write inside a scan")
)

// Limits of every implementation, in bytes.
const (
	// MaxTree bounds a tree's name, which is not empty. The longest of ours has
	// 17 bytes.
	MaxTree = 64
	// MaxKey bounds a key. The longest of ours is a script (34 bytes) with an
	// outpoint (36 bytes); 1 KiB keeps several keys on one page of an index.
	MaxKey = 1 << 10
	// MaxValue bounds a value. The largest of ours is the branch of one VTXO (at
	// most 32 transactions) or a record with 128 forfeits, below 1 MiB.
	MaxValue = 16 << 20
)

// CheckKey returns ErrTooBig unless tree and key keep the limits.
func CheckKey(tree string, key []byte) error {
	if tree == "" || len(tree) > MaxTree || len(key) > MaxKey {
		return ErrTooBig
	}
	return nil
}

// CheckValue returns ErrTooBig unless value keeps the limit.
func CheckValue(value []byte) error {
	if len(value) > MaxValue {
		return ErrTooBig
	}
	return nil
}

// Store is a set of named trees, each an ordered map from bytes to bytes. A
// tree exists as soon as something is put in it.
//
// Every implementation passes kvtest.Run.
type Store interface {
	// View runs f on one consistent snapshot, which holds every update that was
	// acknowledged before View was called. It neither waits for updates nor makes
	// them wait.
	View(ctx context.Context, f func(Reader) error) error
	// Update runs f and commits what it wrote, atomically and durably: when Update
	// returns nil the change has reached the disk. When f returns an error nothing
	// is changed and Update returns that error. Updates are serialised: what f
	// reads is still true when it commits. f must be quick, do no I/O and may be
	// run again from the start, so it must have no effect but its writes; it
	// must not call Update. A context that ends before the commit began undoes
	// the change; after that Update waits for the commit and tells its outcome.
	Update(ctx context.Context, f func(Writer) error) error
	// Close waits for running transactions and releases the store.
	Close() error
}

// Reader reads from one consistent state. Slices it hands out belong to the
// caller; an empty value comes back as an empty slice that is not nil. A Reader
// belongs to the goroutine that runs f.
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
