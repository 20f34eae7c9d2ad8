package sqlite

import (
	"errors"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/kv"
)

const (
	sqlGet    = "SELECT value FROM kv WHERE tree=?1 AND key=?2"
	sqlPut    = "INSERT INTO kv VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value=excluded.value"
	sqlDelete = "DELETE FROM kv WHERE tree=?1 AND key=?2"
	sqlFrom   = "SELECT key, value FROM kv WHERE tree=?1 AND key>=?2 ORDER BY key"
	sqlRange  = "SELECT key, value FROM kv WHERE tree=?1 AND key>=?2 AND key<?3 ORDER BY key"
)

// txn is the port's face of one running View or Update.
type txn struct {
	tx    *sqlitedb.Tx
	scans int
}

var _ kv.Writer = (*txn)(nil)

// Get implements kv.Reader.
func (t *txn) Get(tree string, key []byte) ([]byte, error) {
	if err := kv.CheckKey(tree, key); err != nil {
		return nil, err
	}
	value, err := t.tx.Get(sqlGet, []byte(tree), key)
	if errors.Is(err, sqlitedb.ErrNoRow) {
		return nil, kv.ErrNotFound
	}
	return value, translate(err)
}

// Scan implements kv.Reader.
func (t *txn) Scan(tree string, from, to []byte, f func(key, value []byte) error) error {
	if err := kv.CheckKey(tree, from); err != nil {
		return err
	}
	t.scans++
	defer func() { t.scans-- }()
	var err error
	if to == nil {
		err = t.tx.Scan(f, sqlFrom, []byte(tree), from)
	} else {
		err = t.tx.Scan(f, sqlRange, []byte(tree), from, to)
	}
	if err == kv.ErrStop {
		return nil
	}
	return translate(err)
}

// Put implements kv.Writer.
func (t *txn) Put(tree string, key, value []byte) error {
	if err := errors.Join(kv.CheckKey(tree, key), kv.CheckValue(value)); err != nil {
		return err
	}
	return t.change(sqlPut, []byte(tree), key, value)
}

// Delete implements kv.Writer.
func (t *txn) Delete(tree string, key []byte) error {
	if err := kv.CheckKey(tree, key); err != nil {
		return err
	}
	return t.change(sqlDelete, []byte(tree), key)
}

func (t *txn) change(sql string, args ...any) error {
	if t.scans > 0 {
		return kv.ErrScanning
	}
	_, err := t.tx.Exec(sql, args...)
	return translate(err)
}
