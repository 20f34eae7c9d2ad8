package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	sqlite3 "github.com/ncruces/go-sqlite3"
)

// checkLines bounds how many findings of an integrity check are told.
const checkLines = 10

// Backup writes a copy of one snapshot to path, durably and readable by its
// owner alone, while the store is in use. It refuses an existing file.
func (db *DB) Backup(ctx context.Context, path string) error {
	return db.alone(ctx, func() error { return db.copyTo(ctx, path, false) })
}

// alone keeps the store open while f uses a connection of its own.
func (db *DB) alone(ctx context.Context, f func() error) error {
	if err := db.views.enter(ctx); err != nil {
		return err
	}
	defer db.views.leave()
	return f()
}

// copyTo writes the copy under a temporary name first, so that path never
// holds half of one.
func (db *DB) copyTo(ctx context.Context, path string, replace bool) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("sqlitedb: backup: %w", err)
	}
	if _, err := os.Lstat(path); !replace && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() {
		closeErr := f.Close()
		if err != nil {
			_ = os.Remove(part)
		} else if closeErr != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, closeErr)
		}
	}()
	if err := db.vacuumInto(ctx, part); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// vacuumInto copies the rows of one snapshot. Unlike a copy of the pages it
// leaves out what was deleted, and never starts over because of a writer.
func (db *DB) vacuumInto(ctx context.Context, path string) (err error) {
	c, err := db.connect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.shut()) }()
	c.SetInterrupt(ctx)
	s, _, err := c.Prepare("VACUUM INTO ?1")
	if err != nil {
		return db.interrupted(ctx, err)
	}
	if err := s.BindText(1, path); err != nil {
		return wrap(err)
	}
	return db.interrupted(ctx, s.Exec())
}

func (db *DB) interrupted(ctx context.Context, err error) error {
	if errors.Is(err, sqlite3.INTERRUPT) && ctx.Err() != nil {
		return ctx.Err()
	}
	return wrap(err)
}

// Check reads the whole file and its log and returns ErrCorrupt, with the
// first findings, if they contradict themselves.
func (db *DB) Check(ctx context.Context) error {
	return db.alone(ctx, func() (err error) {
		c, err := db.connect()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.shut()) }()
		c.SetInterrupt(ctx)
		s, err := c.take(fmt.Sprintf("PRAGMA integrity_check(%d)", checkLines))
		if err != nil {
			return db.interrupted(ctx, err)
		}
		var found []string
		for s.Step() {
			found = append(found, s.ColumnText(0))
		}
		if err := c.give(s); err != nil {
			return db.interrupted(ctx, err)
		}
		if len(found) != 1 || found[0] != "ok" {
			return fmt.Errorf("%w: %s", ErrCorrupt, strings.Join(found, "; "))
		}
		return nil
	})
}
