package sqlitedb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	sqlite3 "github.com/ncruces/go-sqlite3"
)

// patience bounds how long a store that mends itself waits for Views that run.
const patience = time.Second

// mend gives the store new handles after a failed write or fsync. Until it
// succeeds, every update is refused. Three things must not be trusted:
//
//   - The log may end in the frames of a commit that was never acknowledged,
//     which opening it anew would bring back. So the old handle, which knows
//     where the good part ends, first commits a small row of its own over them:
//     the checksums of what follows then no longer fit.
//   - A failed fsync may have dropped pages that the kernel now believes to be
//     on disk, among them some that an earlier, partial checkpoint had copied
//     and that SQLite counts as done (nBackfill in the log's index). A test
//     that forgets pages so damaged one store in 350. So the index is thrown
//     away: all connections close without a checkpoint, and the next one reads
//     the log from its beginning and copies all of it again.
//   - That copying may fail as well; then the log is whole and it starts over.
func (db *DB) mend(ctx context.Context) error {
	if db.writer != nil && !db.broken {
		return nil
	}
	if db.writer != nil {
		if err := db.overwriteTail(ctx); err != nil {
			return err
		}
	}
	if !db.views.hold(patience) {
		return fmt.Errorf("%w: a failed write is being mended and a View does not end", ErrUnavailable)
	}
	defer db.views.release()
	if err := db.dropConns(); err != nil {
		return err
	}
	c, err := db.connectWriter()
	if err != nil {
		return err
	}
	gen, err := db.readGeneration(ctx, c)
	if err == nil && gen != db.gen {
		err = fmt.Errorf("%w: the file was exchanged while it was open", ErrForeign)
	}
	if err != nil {
		return errors.Join(err, c.shut())
	}
	db.writer, db.broken = c, true
	if err := db.truncateLog(); err != nil {
		return err
	}
	db.broken = false
	return nil
}

// overwriteTail commits a row through the handle that failed.
func (db *DB) overwriteTail(ctx context.Context) error {
	mark := make([]byte, 16) // a new value: an old one would write nothing
	if _, err := rand.Read(mark); err != nil {
		return fmt.Errorf("sqlitedb: mend: %w", err)
	}
	if err := db.writer.run("BEGIN IMMEDIATE"); err != nil {
		return wrap(err)
	}
	err := (&Tx{ctx: ctx, conn: db.writer}).SetMeta("mended", mark)
	if err == nil {
		err = wrap(db.writer.run("COMMIT"))
	}
	if err != nil {
		db.rollback()
	}
	return err
}

// dropConns closes all connections and leaves the log as it is.
func (db *DB) dropConns() error {
	keep := func(c *conn) error {
		_, err := c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true)
		return err
	}
	for range len(db.readers) {
		c := <-db.readers
		if err := errors.Join(keep(c), c.shut()); err != nil {
			return wrap(err)
		}
	}
	if db.writer == nil {
		return nil
	}
	err := errors.Join(keep(db.writer), db.writer.shut())
	db.writer = nil
	return wrap(err)
}

// turnstile counts those inside and can keep others out.
type turnstile struct {
	mu     sync.Mutex
	inside int
	held   bool
	closed bool
	idle   []chan struct{} // closed when nobody is inside
}

// enter returns ErrClosed after shut and ErrUnavailable while it is held:
// waiting could wait for oneself, since a View may run inside a View.
func (t *turnstile) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if t.held {
		return fmt.Errorf("%w: a failed write is being mended", ErrUnavailable)
	}
	t.inside++
	return nil
}

func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside--
	t.tell()
}

func (t *turnstile) tell() {
	if t.inside > 0 {
		return
	}
	for _, c := range t.idle {
		close(c)
	}
	t.idle = nil
}

// hold keeps others out and waits until nobody is inside, or gives up.
func (t *turnstile) hold(patience time.Duration) bool {
	idle := make(chan struct{})
	t.mu.Lock()
	t.held, t.idle = true, append(t.idle, idle)
	t.tell()
	t.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		t.release()
		return false
	}
}

func (t *turnstile) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = false
}

// shut keeps others out for good and returns what is closed once nobody is
// inside; nil if it was called before.
func (t *turnstile) shut() <-chan struct{} {
	idle := make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed, t.idle = true, append(t.idle, idle)
	t.tell()
	return idle
}
