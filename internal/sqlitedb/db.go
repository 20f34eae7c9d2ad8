// Package sqlitedb owns the mechanics that both durable stores share: one
// SQLite file in a directory of its own, opened by one process, written in
// group commits and read from snapshots. It must not know what is stored, nor
// whether it is secret.
//
// Durability: journal_mode=WAL with synchronous=FULL, so a commit is an fsync
// of the log. NORMAL was measured to lose acknowledged writes when the power
// is cut, and costs only a tenth less once commits are grouped.
package sqlitedb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	sqlite3 "github.com/ncruces/go-sqlite3"
)

// checkpointPages is the length of the log, in pages of 4 KiB, at which it is
// copied into the file, by the writer, after it has answered. SQLite's own
// default, 4 MB, keeps one copying under some ten milliseconds.
const checkpointPages = 1000

// idleReaders bounds the read connections kept open while nobody uses them.
// More are opened when more Views run at once, since a View may run inside
// another one; they are closed afterwards.
const idleReaders = 8

// Options say how a store behaves; a kind of store fixes the first group and
// hands on the second.
type Options struct {
	Schema Schema
	// File is the database's name inside the directory, and names the kind of
	// store in crash points.
	File string
	// Secure overwrites what is deleted or replaced, in the file and in its log,
	// before the commit that did so is acknowledged.
	Secure bool
	// VFS names a registered SQLite VFS; the directory is then a path inside it,
	// and neither locks nor permissions are looked at. Empty: the real one.
	VFS string
	// Synchronous replaces FULL; only a test that wants to lose writes sets it.
	Synchronous string
	// LogPages replaces checkpointPages; only a test that wants many sets it.
	LogPages int

	// Generation marks the store at creation; all zero: a random one.
	Generation [16]byte
	// Meta are rows of the kind's own that Create writes with the schema.
	Meta map[string][]byte
	// OnCommit, if not nil, is told how long each durable commit took, from the
	// COMMIT to the end of its fsync. It must be quick.
	OnCommit func(time.Duration)
}

// DB is an open store. It is safe for concurrent use.
type DB struct {
	opts Options
	path string
	lock *fileLock
	gen  [16]byte

	// lead is held by the one goroutine that writes. It guards the fields below.
	lead   chan struct{}
	writer *conn
	broken bool // the writer's last commit failed in a way that needs a new handle
	unwipe bool // something deleted is still readable in the log
	pages  int  // length of the log after the last commit
	points struct{ before, after string }

	queue   queue
	readers chan *conn // idle read connections
	views   turnstile  // counts running Views, Backups and Checks
}

// Create makes a new store in dir, which it makes if need be, and opens it. It
// returns ErrExists where there is one already. A creation that was cut short
// left none.
func Create(ctx context.Context, dir string, opts Options) (*DB, error) {
	return open(ctx, dir, opts, true)
}

// Open opens the store in dir, migrating an older one. It returns ErrMissing,
// ErrLocked, ErrNewer, ErrForeign, ErrMode, ErrCorrupt or ErrUnavailable, and
// never creates.
func Open(ctx context.Context, dir string, opts Options) (*DB, error) {
	return open(ctx, dir, opts, false)
}

func open(ctx context.Context, dir string, opts Options, create bool) (_ *DB, err error) {
	if opts.Generation, err = Generate(opts.Generation); err != nil {
		return nil, err
	}
	if opts.VFS == "" { // a URI has an absolute path
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("sqlitedb: %w", err)
		}
	}
	db := &DB{
		opts:    opts,
		path:    filepath.Join(dir, opts.File),
		lead:    make(chan struct{}, 1),
		readers: make(chan *conn, idleReaders),
	}
	if db.opts.LogPages == 0 {
		db.opts.LogPages = checkpointPages
	}
	db.points.before = opts.File + " before commit"
	db.points.after = opts.File + " after commit"
	defer func() {
		if err != nil {
			err = errors.Join(err, db.closeConns(), db.lock.release())
		}
	}()
	if opts.VFS == "" {
		if db.lock, err = prepare(dir, db.path, create); err != nil {
			return nil, err
		}
	}
	if db.writer, err = db.connectWriter(); err != nil {
		return nil, err
	}
	if create {
		err = db.create(ctx)
	} else {
		err = db.migrate(ctx)
	}
	if err != nil {
		return nil, err
	}
	if db.gen, err = db.readGeneration(ctx, db.writer); err != nil {
		return nil, err
	}
	// A process that was killed may have left something deleted in the log.
	db.unwipe = opts.Secure
	if err := db.wipe(); err != nil {
		return nil, err
	}
	return db, nil
}

// Generate returns g, or a random generation in place of the zero one.
func Generate(g [16]byte) ([16]byte, error) {
	if g != ([16]byte{}) {
		return g, nil
	}
	if _, err := rand.Read(g[:]); err != nil {
		return g, fmt.Errorf("sqlitedb: generation: %w", err)
	}
	return g, nil
}

// Generation returns the mark that the store was created with.
func (db *DB) Generation() [16]byte { return db.gen }

// Path returns where the database file is.
func (db *DB) Path() string { return db.path }

// connect opens one connection with the settings that hold for all of them.
func (db *DB) connect() (*conn, error) {
	uri := url.URL{Scheme: "file", Path: db.path, RawQuery: "vfs=" + db.opts.VFS}
	if db.opts.VFS == "" {
		if err := private(db.path); err != nil {
			return nil, err
		}
		// The log is made with the mode of the database.
		uri.RawQuery = url.Values{"modeof": {db.path}}.Encode()
	}
	c, err := sqlite3.OpenFlags(uri.String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_CREATE|sqlite3.OPEN_URI)
	if err != nil {
		return nil, wrap(err)
	}
	synchronous := "FULL"
	if db.opts.Synchronous != "" {
		synchronous = db.opts.Synchronous
	}
	settings := []string{
		"PRAGMA busy_timeout=1000", // only a stranger's sqlite3 shell can make us wait
		"PRAGMA page_size=4096",
		"PRAGMA journal_mode=WAL",
		"PRAGMA synchronous=" + synchronous,
		"PRAGMA temp_store=MEMORY", // nothing spills into /tmp
		"PRAGMA wal_autocheckpoint=0",
		"PRAGMA journal_size_limit=16777216",
		"PRAGMA cell_size_check=ON",
		"PRAGMA cache_size=-4000",
	}
	if db.opts.Secure {
		settings = append(settings, "PRAGMA secure_delete=ON")
	}
	for _, s := range settings {
		if err := c.Exec(s); err != nil {
			return nil, errors.Join(wrap(err), c.Close())
		}
	}
	return &conn{Conn: c, stmts: map[string][]*sqlite3.Stmt{}}, nil
}

// connectWriter opens the connection that alone writes.
func (db *DB) connectWriter() (*conn, error) {
	c, err := db.connect()
	if err != nil {
		return nil, err
	}
	c.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		db.pages = pages
		return nil
	})
	return c, nil
}

// View runs f on a snapshot that holds everything acknowledged before. It may
// run inside another View.
func (db *DB) View(ctx context.Context, f func(*Tx) error) (err error) {
	if err := db.views.enter(ctx); err != nil {
		return err
	}
	defer db.views.leave()
	var c *conn
	select {
	case c = <-db.readers:
	default:
		if c, err = db.connect(); err != nil {
			return err
		}
	}
	tx := &Tx{ctx: ctx, conn: c}
	defer func() {
		tx.ended = true
		if endErr := c.run("ROLLBACK"); endErr == nil && tx.fault == nil {
			select {
			case db.readers <- c:
				return
			default:
			}
		}
		_ = c.shut() // it only read
	}()
	if err := c.run("BEGIN"); err != nil {
		return tx.fail(err)
	}
	// BEGIN alone takes no snapshot; the first read does.
	if _, err := tx.Meta("generation"); err != nil {
		return err
	}
	return f(tx)
}

// Close waits for running transactions, refuses waiting ones, copies the log
// into the file and lets go of it.
func (db *DB) Close() error {
	idle := db.views.shut()
	if idle == nil {
		return nil
	}
	for _, r := range db.queue.shut() {
		r.answer(ErrClosed)
	}
	db.lead <- struct{}{} // never given back
	<-idle
	err := db.closeConns()
	return errors.Join(wrap(err), db.lock.release())
}

// closeConns closes the writer and the idle readers; the caller holds lead,
// and no View runs. The last to close copies the log and deletes it, which a
// handle that failed must not do (see mend).
func (db *DB) closeConns() error {
	if db.broken {
		return db.dropConns()
	}
	var errs []error
	for {
		select {
		case c := <-db.readers:
			errs = append(errs, c.shut())
			continue
		default:
		}
		break
	}
	if db.writer != nil {
		errs = append(errs, db.writer.shut())
		db.writer = nil
	}
	return errors.Join(errs...)
}
