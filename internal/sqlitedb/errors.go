package sqlitedb

import (
	"context"
	"errors"
	"fmt"

	sqlite3 "github.com/ncruces/go-sqlite3"
)

// Errors of this package, matched with errors.Is.
var (
	// ErrUnavailable says that the disk refused: full, failed write or fsync. What
	// was not acknowledged is undone; after a machine crash it may be there, whole.
	ErrUnavailable = errors.New("sqlitedb: store unavailable")
	// ErrCorrupt says that the file is damaged or is no database.
	ErrCorrupt = errors.New("sqlitedb: file is damaged")
	// ErrNewer says that the file was written by a newer schema.
	ErrNewer = errors.New("sqlitedb: written by a newer version")
	// ErrForeign says that the file is a database of something else.
	ErrForeign = errors.New("sqlitedb: database of another kind")
	// ErrMissing says that there is no store where one was to be opened.
	ErrMissing = errors.New("sqlitedb: no store here")
	// ErrExists says that there is a store where one was to be created.
	ErrExists = errors.New("sqlitedb: a store exists here")
	// ErrLocked says that another process has the store open.
	ErrLocked = errors.New("sqlitedb: store is open elsewhere")
	// ErrMode says that others than the owner may get at the store's files.
	ErrMode = errors.New("sqlitedb: file permissions are too wide")
	// ErrClosed is returned after Close, and by a Tx that has ended.
	ErrClosed = errors.New("sqlitedb: closed")
	// ErrNoRow is returned by Tx.Get when nothing matches.
	ErrNoRow = errors.New("sqlitedb: no row")

	// errPanicked undoes an update whose function panicked; the caller sees the
	// panic itself.
	errPanicked = errors.New("sqlitedb: update panicked")
)

// wrap puts an SQLite error under the error of this package that says what it
// means for the caller.
func wrap(err error) error {
	var code sqlite3.ErrorCode
	if err == nil || !errors.As(err, &code) {
		return err
	}
	switch code {
	case sqlite3.FULL, sqlite3.IOERR:
		// A write that found no room is one like any other to SQLite over our VFS.
		return fmt.Errorf("%w: %w: is the disk full, or failing?", ErrUnavailable, err)
	case sqlite3.BUSY, sqlite3.LOCKED, sqlite3.READONLY,
		sqlite3.CANTOPEN, sqlite3.NOMEM, sqlite3.PROTOCOL, sqlite3.PERM:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case sqlite3.CORRUPT, sqlite3.NOTADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case sqlite3.INTERRUPT:
		return fmt.Errorf("sqlitedb: interrupted: %w", context.Canceled)
	default:
		return fmt.Errorf("sqlitedb: %w", err)
	}
}

// suspect says whether the connection may be worse than before after err. A
// full disk or a busy file leaves nothing behind but a rolled-back transaction;
// after a failed write or fsync nobody knows what the kernel still holds.
func suspect(err error) bool {
	var code sqlite3.ErrorCode
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case sqlite3.IOERR, sqlite3.CORRUPT, sqlite3.NOTADB, sqlite3.NOMEM,
		sqlite3.CANTOPEN, sqlite3.READONLY, sqlite3.PROTOCOL:
		return true
	default:
		return false
	}
}
