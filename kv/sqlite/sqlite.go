// Package sqlite owns the embedded kv.Store: one SQLite file for one process,
// every acknowledged update on disk. It knows neither the trees' names nor
// what is in them.
//
// All trees share one table with a unique index over (tree, key), a rowid
// table rather than WITHOUT ROWID: with records of 2 KB a new one costs 33 µs
// and 6.9 KB of log against 74 µs and 15 KB (an index page has no room for
// such rows, so each spills onto a page of its own), and takes 2.1 KB on disk
// against 4.7 KB. Rows of 60 bytes, the indexes' kind, cost the same to write,
// a fifth more disk, and 0.9 µs instead of 0.3 µs each to scan. A table per
// tree brought nothing and would make schema changes part of transactions.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/kv"
)

// Errors of Create and Open, matched with errors.Is, beside kv.ErrNewer,
// kv.ErrCorrupt and kv.ErrUnavailable.
var (
	// ErrMissing says that there is no store to open; only Create makes one.
	ErrMissing = sqlitedb.ErrMissing
	// ErrExists says that Create or Backup would have overwritten something.
	ErrExists = sqlitedb.ErrExists
	// ErrLocked says that another process has the store open.
	ErrLocked = sqlitedb.ErrLocked
	// ErrForeign says that the file is a database of something else.
	ErrForeign = sqlitedb.ErrForeign
	// ErrMode says that others than the owner may get at the store's files.
	ErrMode = sqlitedb.ErrMode
)

// Options are the caller's choices.
type Options struct {
	// Generation marks the store at creation, so that the caller can refuse to
	// start it beside a secret store of another one; all zero: a random one.
	Generation [16]byte
	// OnCommit, if not nil, is told how long each durable commit took, for a
	// metric. It must be quick.
	OnCommit func(time.Duration)
}

// Store is a kv.Store in a directory of its own, which holds the database
// kv.db (with its log kv.db-wal and log index kv.db-shm) and the file lock.
type Store struct{ db *sqlitedb.DB }

var _ kv.Store = (*Store)(nil)

// schema lists every version of the file, oldest first. "VgKv" marks it.
func schema() sqlitedb.Schema {
	return sqlitedb.Schema{Kind: 0x56674b76, Steps: []string{
		"CREATE TABLE kv (tree BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tree, key))",
	}}
}

func options(o Options) sqlitedb.Options {
	return sqlitedb.Options{
		Schema:     schema(),
		File:       "kv.db",
		Generation: o.Generation,
		OnCommit:   o.OnCommit,
	}
}

// Create makes a new store in dir (mode 0700, made if need be) and opens it.
func Create(ctx context.Context, dir string, o Options) (*Store, error) {
	return opened(sqlitedb.Create(ctx, dir, options(o)))
}

// Open opens the store in dir. It never makes one: ErrMissing.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	return opened(sqlitedb.Open(ctx, dir, options(o)))
}

func opened(db *sqlitedb.DB, err error) (*Store, error) {
	if err != nil {
		return nil, translate(err)
	}
	return &Store{db}, nil
}

// Generation returns the mark that the store was created with.
func (s *Store) Generation() [16]byte { return s.db.Generation() }

// View implements kv.Store.
func (s *Store) View(ctx context.Context, f func(kv.Reader) error) error {
	return translate(s.db.View(ctx, func(tx *sqlitedb.Tx) error {
		return f(&txn{tx: tx})
	}))
}

// Update implements kv.Store.
func (s *Store) Update(ctx context.Context, f func(kv.Writer) error) error {
	return translate(s.db.Update(ctx, func(tx *sqlitedb.Tx) error {
		return f(&txn{tx: tx})
	}))
}

// Close implements kv.Store.
func (s *Store) Close() error { return translate(s.db.Close()) }

// Backup writes a copy of one snapshot to the new file path (mode 0600),
// durably, while the store is in use. Named kv.db in a directory of mode 0700
// it is a store of the same generation. It returns ErrExists for a file that
// is there already.
func (s *Store) Backup(ctx context.Context, path string) error {
	return translate(s.db.Backup(ctx, path))
}

// Check reads the whole store and returns kv.ErrCorrupt, with the first
// findings, if it contradicts itself. It takes seconds per gigabyte.
func (s *Store) Check(ctx context.Context) error { return translate(s.db.Check(ctx)) }

// translate puts the port's errors over those of the mechanics, and leaves
// others, the callback's own among them, exactly as they are.
func translate(err error) error {
	for _, pair := range []struct{ from, to error }{
		{sqlitedb.ErrUnavailable, kv.ErrUnavailable},
		{sqlitedb.ErrCorrupt, kv.ErrCorrupt},
		{sqlitedb.ErrNewer, kv.ErrNewer},
		{sqlitedb.ErrClosed, kv.ErrClosed},
	} {
		if errors.Is(err, pair.from) && !errors.Is(err, pair.to) {
			return fmt.Errorf("%w: %w", pair.to, err)
		}
	}
	return err
}
