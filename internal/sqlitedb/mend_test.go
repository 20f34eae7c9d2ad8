package sqlitedb

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	sqlite3 "github.com/ncruces/go-sqlite3"

	"github.com/vigil-ark/vigil/internal/sqlitedb/powercut"
)

// TestMend has the handle fail: the next update runs on a new one.
func TestMend(t *testing.T) {
	db := create1(t, t.TempDir(), testOptions())
	if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "v") }); err != nil {
		t.Fatal(err)
	}
	first := db.writer
	_ = db.judge(sqlite3.IOERR_FSYNC)
	if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "l", "w") }); err != nil {
		t.Fatal(err)
	}
	if db.writer == first || db.broken {
		t.Error("the failed handle is still in use")
	}
	if get(t, db, "k") != "v" || get(t, db, "l") != "w" {
		t.Error("lost")
	}
}

// TestForgottenPages plays the one sequence in which SQLite alone loses
// acknowledged pages: a checkpoint stops at a reader and counts what it copied
// as done, without a sync; the sync of the next one fails and the kernel
// forgets what both had copied.
func TestForgottenPages(t *testing.T) {
	for seed := range powercut.Seeds(t, 20) {
		disk := powercut.New(t.TempDir(), seed)
		o := testOptions()
		var done func()
		o.VFS, done = disk.Use()
		db := create1(t, "/", o)
		fill := func(from int) {
			t.Helper()
			err := db.Update(t.Context(), func(tx *Tx) error {
				for i := range 20 {
					if err := put(tx, fmt.Sprint(from+i), strings.Repeat("v", 1000)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		passive := func() error {
			_, _, err := db.writer.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
			return err
		}
		fill(0)
		err := db.View(t.Context(), func(*Tx) error {
			fill(100)
			return passive()
		})
		if err != nil {
			t.Fatal(err)
		}
		disk.Inject(powercut.Faults{Sync: 1, File: db.Path()})
		if err := db.judge(passive()); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("seed %d: the checkpoint's sync: %v", seed, err)
		}
		disk.Inject(powercut.Faults{})
		fill(200)

		var doneAfter func()
		o.VFS, doneAfter = disk.Survivor(t.TempDir(), seed).Use()
		after, err := Open(t.Context(), "/", o)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := after.Check(t.Context()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		for _, k := range []string{"0", "19", "100", "119", "200", "219"} {
			if get(t, after, k) == "-" {
				t.Errorf("seed %d: %s was acknowledged and is gone", seed, k)
			}
		}
		if err := after.Close(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		_ = db.Close() // its disk is dead
		done()
		doneAfter()
	}
}
