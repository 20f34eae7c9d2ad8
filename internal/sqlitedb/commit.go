package sqlitedb

import (
	"context"
	"runtime"
	"time"

	sqlite3 "github.com/ncruces/go-sqlite3"

	"github.com/vigil-ark/vigil/internal/crash"
)

const (
	// maxGroup bounds the updates that share one commit, so that the first of
	// them waits for a bounded number of others. At 64 clients it is not reached.
	maxGroup = 256
	// maxGroupBytes bounds what one commit writes before it takes no more
	// updates: 4 MB, as much as the log holds before it is copied.
	maxGroupBytes = 4 << 20
)

// Update runs f in a group commit and returns after the fsync. Groups form by
// themselves: whoever finds nobody writing leads; it runs its own update and
// all that wait, each in a savepoint of its own, commits once and answers all;
// what arrives during the fsync is the next group. A lone writer never waits.
//
// The error is f's own, the context's if it ended before the commit began, or
// one of this package's. A panic of f reaches the caller.
func (db *DB) Update(ctx context.Context, f func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{ctx: ctx, f: f, done: make(chan struct{})}
	if !db.queue.add(r) {
		return ErrClosed
	}
	for {
		select {
		case <-r.done:
			return r.outcome()
		case db.lead <- struct{}{}:
			if !r.answered() {
				db.commitGroup(ctx)
			}
			<-db.lead
		case <-ctx.Done():
			if db.queue.withdraw(r) {
				return ctx.Err()
			}
			<-r.done
			return r.outcome()
		}
	}
}

// commitGroup runs one group; the caller holds lead.
func (db *DB) commitGroup(ctx context.Context) {
	if err := db.mend(ctx); err != nil {
		for _, r := range db.queue.take(maxGroup) {
			r.answer(err)
		}
		return
	}
	if err := db.writer.run("BEGIN IMMEDIATE"); err != nil {
		db.judge(err)
		for _, r := range db.queue.take(maxGroup) {
			r.answer(wrap(err))
		}
		return
	}
	ran, wrote, erased, err := db.runGroup()
	if err == nil {
		err = db.commit(wrote > 0)
	}
	if err != nil {
		db.rollback()
		for _, r := range ran {
			if r.ctx.Err() == nil || r.err == nil {
				// Also those whose function failed: it may have read what is undone now.
				r.err = err
			}
			r.answer(r.err)
		}
		return
	}
	db.unwipe = db.unwipe || erased && db.opts.Secure
	if err := db.wipe(); err != nil {
		for _, r := range ran {
			if r.erased && r.err == nil {
				r.err = err
			}
		}
	}
	for _, r := range ran {
		r.answer(r.err)
	}
	db.checkpoint()
}

// runGroup runs everything that waits, and what arrives meanwhile. An error is
// one of the database, and the whole group's.
func (db *DB) runGroup() (ran []*request, wrote int, erased bool, err error) {
	for yielded := false; ; {
		next := db.queue.take(maxGroup - len(ran))
		if len(next) == 0 {
			if yielded || len(ran) >= maxGroup {
				return ran, wrote, erased, nil
			}
			// Let those who were answered a moment ago ask again: without it groups
			// of 64 clients fall apart into halves.
			yielded = true
			runtime.Gosched()
			continue
		}
		for i, r := range next {
			tx, err := db.runOne(r, len(ran) == 0)
			ran = append(ran, r)
			wrote += tx.wrote
			r.erased = tx.erased && r.err == nil
			erased = erased || r.erased
			if err != nil || wrote > maxGroupBytes {
				db.queue.putBack(next[i+1:])
				return ran, wrote, erased, err
			}
		}
	}
}

// runOne runs one update in its savepoint. r.err becomes the function's own
// error; the returned one is the database's. The first of a group has none before
// it to be kept, and the transaction itself is its savepoint: a savepoint keeps
// every page that is changed in memory, of which a migration would need as much as
// there is on disk.
func (db *DB) runOne(r *request, first bool) (tx *Tx, err error) {
	tx = &Tx{ctx: r.ctx, conn: db.writer}
	if r.err = r.ctx.Err(); r.err != nil {
		return tx, nil
	}
	begin, undo, end := []string{"SAVEPOINT one"}, []string{"ROLLBACK TO one"}, []string{"RELEASE one"}
	if first {
		begin, undo, end = nil, []string{"ROLLBACK", "BEGIN IMMEDIATE"}, nil
	}
	if err := db.writer.runAll(begin); err != nil {
		return tx, db.judge(err)
	}
	r.call(tx)
	tx.ended = true
	if tx.fault != nil {
		return tx, db.judge(tx.fault)
	}
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err != nil {
		if err := db.writer.runAll(undo); err != nil {
			return tx, db.judge(err)
		}
	}
	return tx, db.judge(db.writer.runAll(end))
}

// commit makes the group durable.
func (db *DB) commit(wrote bool) error {
	if !wrote {
		return db.judge(db.writer.run("COMMIT"))
	}
	crash.Point(db.points.before)
	start := time.Now()
	if err := db.writer.run("COMMIT"); err != nil {
		return db.judge(err)
	}
	if db.opts.OnCommit != nil {
		db.opts.OnCommit(time.Since(start))
	}
	crash.Point(db.points.after)
	return nil
}

// rollback undoes the group. Some errors have done so already.
func (db *DB) rollback() {
	if db.writer == nil || db.writer.GetAutocommit() {
		return
	}
	if err := db.writer.run("ROLLBACK"); err != nil {
		db.broken = true
	}
}

// judge wraps an error of the writer and notes whether it needs a new handle.
func (db *DB) judge(err error) error {
	if suspect(err) {
		db.broken = true
	}
	return wrap(err)
}

// checkpoint copies the log into the file once it is long. The acknowledged
// data is durable in the log already, so a failure concerns the next group.
func (db *DB) checkpoint() {
	if db.pages < db.opts.LogPages {
		return
	}
	_, _, err := db.writer.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	_ = db.judge(err)
}

// wipe empties the log if it may still show something deleted.
func (db *DB) wipe() error {
	if !db.unwipe {
		return nil
	}
	if err := db.truncateLog(); err != nil {
		return db.judge(err)
	}
	db.unwipe = false
	return nil
}

func (db *DB) truncateLog() error {
	_, _, err := db.writer.WALCheckpoint("main", sqlite3.CHECKPOINT_TRUNCATE)
	return wrap(err)
}
