package sqlitedb

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/vigil-ark/vigil/internal/crash"
)

// Schema is what a kind of store keeps in its file.
type Schema struct {
	// Kind marks the file as this kind's (SQLite's application_id).
	Kind int32
	// Steps bring a file from version i to version i+1, so the current version is
	// their number. A new file runs all of them. A step that was released is never
	// changed.
	Steps []string
}

// metaTable holds the store's own few rows, one of them the generation; kinds
// may add theirs.
const metaTable = "CREATE TABLE meta (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"

// identity reads what the file says it is. Both are 0 in a new file.
func (db *DB) identity() (kind, version int64, err error) {
	if kind, err = db.writer.number("PRAGMA application_id"); err == nil {
		version, err = db.writer.number("PRAGMA user_version")
	}
	return kind, version, wrap(err)
}

// create writes the schema and the generation in one transaction, so that a
// crash leaves either a whole store or none.
func (db *DB) create(ctx context.Context) error {
	kind, version, err := db.identity()
	if err != nil {
		return err
	}
	if kind != 0 || version != 0 {
		return fmt.Errorf("%w: %s", ErrExists, db.path)
	}
	err = db.once(func() error {
		if err := db.writer.Exec(metaTable); err != nil {
			return err
		}
		tx := &Tx{ctx: ctx, conn: db.writer}
		if err := tx.SetMeta("generation", db.opts.Generation[:]); err != nil {
			return err
		}
		for name, value := range db.opts.Meta {
			if err := tx.SetMeta(name, value); err != nil {
				return err
			}
		}
		return db.steps(0)
	})
	if err != nil {
		return err
	}
	if db.opts.VFS == "" {
		if err := syncDir(filepath.Dir(db.path)); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return nil
}

// migrate brings an older file to the current version, after a copy of it was
// made beside it.
func (db *DB) migrate(ctx context.Context) error {
	kind, version, err := db.identity()
	current := int64(len(db.opts.Schema.Steps))
	switch {
	case err != nil:
		return err
	case kind == 0 && version == 0:
		return fmt.Errorf("%w: %s is empty, its creation was cut short", ErrMissing, db.path)
	case kind != int64(db.opts.Schema.Kind):
		return fmt.Errorf("%w: %s", ErrForeign, db.path)
	case version > current:
		return fmt.Errorf("%w: %s has schema %d, this version knows %d", ErrNewer, db.path, version, current)
	case version == current:
		return nil
	}
	if db.opts.VFS == "" {
		if err := db.copyTo(ctx, fmt.Sprintf("%s.schema%d", db.path, version), true); err != nil {
			return fmt.Errorf("sqlitedb: copy before migration: %w", err)
		}
	}
	return db.once(func() error { return db.steps(int(version)) })
}

// steps runs the steps that version lacks and marks the file.
func (db *DB) steps(version int) error {
	for _, s := range db.opts.Schema.Steps[version:] {
		if err := db.writer.Exec(s); err != nil {
			return err
		}
	}
	return db.writer.Exec(fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d",
		db.opts.Schema.Kind, len(db.opts.Schema.Steps)))
}

// once runs f in a durable transaction of its own.
func (db *DB) once(f func() error) error {
	if err := db.writer.Exec("BEGIN EXCLUSIVE"); err != nil {
		return wrap(err)
	}
	if err := f(); err != nil {
		db.rollback()
		return wrap(err)
	}
	crash.Point(db.points.before)
	if err := db.writer.Exec("COMMIT"); err != nil {
		db.rollback()
		return wrap(err)
	}
	crash.Point(db.points.after)
	return nil
}

// Meta returns a row of the store's own, or ErrNoRow.
func (tx *Tx) Meta(name string) ([]byte, error) {
	return tx.Get("SELECT value FROM meta WHERE name=?1", []byte(name))
}

// SetMeta writes a row of the store's own.
func (tx *Tx) SetMeta(name string, value []byte) error {
	_, err := tx.Exec("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value=excluded.value",
		[]byte(name), value)
	return err
}

func (db *DB) readGeneration(ctx context.Context, c *conn) (gen [16]byte, err error) {
	b, err := (&Tx{ctx: ctx, conn: c}).Meta("generation")
	if err != nil || len(b) != len(gen) {
		return gen, fmt.Errorf("%w: no generation in %s (%w)", ErrCorrupt, db.path, err)
	}
	return [16]byte(b), nil
}
