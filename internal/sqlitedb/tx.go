package sqlitedb

import (
	"context"
	"fmt"
	"slices"

	sqlite3 "github.com/ncruces/go-sqlite3"
)

// conn is one connection with its prepared statements.
type conn struct {
	*sqlite3.Conn
	stmts map[string][]*sqlite3.Stmt // those not in use, by their SQL
}

// take returns a prepared statement that nobody uses; a scan inside a scan
// gets a second one for the same SQL.
func (c *conn) take(sql string) (*sqlite3.Stmt, error) {
	if free := c.stmts[sql]; len(free) > 0 {
		s := free[len(free)-1]
		c.stmts[sql] = free[:len(free)-1]
		return s, nil
	}
	s, _, err := c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	return s, err
}

// give returns a statement and the error that its run ended with.
func (c *conn) give(s *sqlite3.Stmt) error {
	err := s.Reset()
	c.stmts[s.SQL()] = append(c.stmts[s.SQL()], s)
	return err
}

// run executes a statement without arguments.
func (c *conn) run(sql string) error {
	s, err := c.take(sql)
	if err != nil {
		return err
	}
	err = s.Exec()
	c.stmts[sql] = append(c.stmts[sql], s)
	return err
}

// runAll executes statements until one fails.
func (c *conn) runAll(sql []string) error {
	for _, s := range sql {
		if err := c.run(s); err != nil {
			return err
		}
	}
	return nil
}

// number reads the one integer that sql yields.
func (c *conn) number(sql string) (int64, error) {
	s, err := c.take(sql)
	if err != nil {
		return 0, err
	}
	var n int64
	if s.Step() {
		n = s.ColumnInt64(0)
	}
	return n, c.give(s)
}

// shut finalises the statements and closes the connection.
func (c *conn) shut() error {
	for _, s := range slices.Collect(c.Stmts()) { // Close changes what Stmts walks
		_ = s.Close() // reports again what the statement's run already did
	}
	c.stmts = nil
	return c.Close()
}

// Tx is a running View or Update. It belongs to the goroutine that runs its
// function. Arguments are []byte, nil being an empty one, or int64; columns
// come as bytes, an integer's being its decimal digits.
type Tx struct {
	ctx   context.Context
	conn  *conn
	ended bool
	// fault is the first error of the database itself. It decides the outcome
	// whatever the function makes of it: some of them roll everything back.
	fault error
	// wrote counts the bytes bound to statements that changed something.
	wrote int
	// erased says that a Put or Delete left an older value behind.
	erased bool
}

func (tx *Tx) start(sql string, args []any) (*sqlite3.Stmt, error) {
	if tx.ended {
		return nil, ErrClosed
	}
	if tx.fault != nil {
		return nil, tx.fault
	}
	s, err := tx.conn.take(sql)
	if err != nil {
		return nil, tx.fail(err)
	}
	for i, a := range args {
		if err := bind(s, i+1, a); err != nil {
			_ = tx.conn.give(s)
			return nil, tx.fail(err)
		}
	}
	return s, nil
}

func bind(s *sqlite3.Stmt, i int, arg any) error {
	switch a := arg.(type) {
	case []byte:
		if a == nil {
			a = []byte{}
		}
		return s.BindBlob(i, a)
	case int64:
		return s.BindInt64(i, a)
	default:
		return fmt.Errorf("sqlitedb: argument of type %T", arg)
	}
}

func (tx *Tx) fail(err error) error {
	err = wrap(err)
	if tx.fault == nil {
		tx.fault = err
	}
	return err
}

// Exec runs a statement that changes rows and returns how many it changed.
func (tx *Tx) Exec(sql string, args ...any) (int64, error) {
	s, err := tx.start(sql, args)
	if err != nil {
		return 0, err
	}
	err = s.Exec()
	tx.conn.stmts[sql] = append(tx.conn.stmts[sql], s)
	if err != nil {
		return 0, tx.fail(err)
	}
	n := tx.conn.Changes()
	if n > 0 {
		tx.wrote++
		for _, a := range args {
			if b, ok := a.([]byte); ok {
				tx.wrote += len(b)
			}
		}
	}
	return n, nil
}

// LastID returns the rowid that the last insertion was given.
func (tx *Tx) LastID() int64 { return tx.conn.LastInsertRowID() }

// Erased notes that the transaction deleted or replaced something that must
// not stay readable; see Options.Secure.
func (tx *Tx) Erased() { tx.erased = true }

// Get returns the first column of the first row, or ErrNoRow. An empty value
// is not nil.
func (tx *Tx) Get(sql string, args ...any) ([]byte, error) {
	s, err := tx.start(sql, args)
	if err != nil {
		return nil, err
	}
	var value []byte
	found := s.Step()
	if found {
		value = s.ColumnBlob(0, []byte{})
	}
	if err := tx.conn.give(s); err != nil {
		return nil, tx.fail(err)
	}
	if !found {
		return nil, ErrNoRow
	}
	return value, nil
}

// Scan calls f for every row with copies of its first two columns (one column:
// the second is nil) until f returns an error, which Scan returns as it is.
// It ends with the context's error when the context ends.
func (tx *Tx) Scan(f func(a, b []byte) error, sql string, args ...any) (err error) {
	s, err := tx.start(sql, args)
	if err != nil {
		return err
	}
	defer func() { // also when f panics: an open statement would pin the transaction
		if resetErr := tx.conn.give(s); resetErr != nil {
			err = tx.fail(resetErr)
		}
	}()
	two := s.ColumnCount() > 1
	for {
		if err := tx.ctx.Err(); err != nil {
			return err
		}
		if !s.Step() {
			return nil // an error of Step comes again from the reset
		}
		var b []byte
		a := s.ColumnBlob(0, []byte{})
		if two {
			b = s.ColumnBlob(1, []byte{})
		}
		if err := f(a, b); err != nil {
			return err
		}
	}
}
