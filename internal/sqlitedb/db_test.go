package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	sqlite3 "github.com/ncruces/go-sqlite3"
)

func testOptions() Options {
	return Options{
		File:   "test.db",
		Schema: Schema{Kind: 0x1234, Steps: []string{"CREATE TABLE t (k BLOB PRIMARY KEY, v BLOB NOT NULL)"}},
	}
}

func create1(t *testing.T, dir string, o Options) *DB {
	t.Helper()
	db, err := Create(t.Context(), dir, o)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func put(tx *Tx, k, v string) error {
	_, err := tx.Exec("INSERT INTO t VALUES (?1, ?2) ON CONFLICT DO UPDATE SET v=excluded.v", []byte(k), []byte(v))
	return err
}

func get(t *testing.T, db *DB, k string) string {
	t.Helper()
	var v []byte
	err := db.View(t.Context(), func(tx *Tx) (err error) {
		v, err = tx.Get("SELECT v FROM t WHERE k=?1", []byte(k))
		return err
	})
	if errors.Is(err, ErrNoRow) {
		return "-"
	}
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	return string(v)
}

func TestCreateAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	o := testOptions()
	if _, err := Open(t.Context(), dir, o); !errors.Is(err, ErrMissing) {
		t.Errorf("Open of nothing: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("Open made a directory")
	}
	o.Generation = [16]byte{1, 2, 3}
	db := create1(t, dir, o)
	if db.Generation() != o.Generation {
		t.Errorf("Generation %x", db.Generation())
	}
	if _, err := Open(t.Context(), dir, o); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second Open: %v, want ErrLocked and the process's number", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), dir, o); !errors.Is(err, ErrExists) {
		t.Errorf("Create over a store: %v", err)
	}
	o.Generation = [16]byte{9}
	db, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if db.Generation() != [16]byte{1, 2, 3} {
		t.Errorf("Open changed the generation to %x", db.Generation())
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	one, two := create1(t, t.TempDir(), testOptions()), create1(t, t.TempDir(), testOptions())
	if one.Generation() == two.Generation() || one.Generation() == [16]byte{} {
		t.Errorf("random generations %x and %x", one.Generation(), two.Generation())
	}
}

// TestModes looks at every file while the store is open and after, and lets
// others read one.
func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	db := create1(t, dir, testOptions())
	update := func() {
		if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "v") }); err != nil {
			t.Fatal(err)
		}
	}
	update()
	if get(t, db, "k") != "v" {
		t.Error("lost")
	}
	seen := map[string]bool{}
	look := func() {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("directory: %v, %v", info.Mode(), err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			seen[e.Name()] = true
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
			}
		}
	}
	look()
	for _, name := range []string{"test.db", "test.db-wal", "test.db-shm", "lock"} {
		if !seen[name] {
			t.Errorf("no file %s while the store is open: %v", name, seen)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	look()
	for _, p := range []string{dir, filepath.Join(dir, "test.db")} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, info.Mode().Perm()|0o044); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), dir, testOptions()); !errors.Is(err, ErrMode) {
			t.Errorf("Open with %s readable by others: %v", p, err)
		}
		if err := os.Chmod(p, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(t.Context(), dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSchema(t *testing.T) {
	dir := t.TempDir()
	db := create1(t, dir, testOptions())
	if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "v") }); err != nil {
		t.Fatal(err)
	}
	gen := db.Generation()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	foreign := testOptions()
	foreign.Schema.Kind++
	if _, err := Open(t.Context(), dir, foreign); !errors.Is(err, ErrForeign) {
		t.Errorf("Open as another kind: %v", err)
	}

	// A migration that fails changes nothing.
	broken := testOptions()
	broken.Schema.Steps = append(broken.Schema.Steps, "UPDATE t SET v='half'", "no SQL")
	if _, err := Open(t.Context(), dir, broken); err == nil {
		t.Fatal("a broken migration passed")
	}
	newer := testOptions()
	newer.Schema.Steps = append(newer.Schema.Steps, "UPDATE t SET v = v || 'w'", "CREATE TABLE u (x)")
	db, err := Open(t.Context(), dir, newer)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, db, "k"); got != "vw" || db.Generation() != gen {
		t.Errorf("after the migration: %q, generation %x", got, db.Generation())
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, testOptions()); !errors.Is(err, ErrNewer) {
		t.Errorf("Open of a newer file: %v", err)
	}

	// The copy is the older store.
	old := filepath.Join(t.TempDir(), "old")
	if err := os.Mkdir(old, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "test.db.schema1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "test.db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err = Open(t.Context(), old, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, db, "k"); got != "v" {
		t.Errorf("the copy before the migration holds %q", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	db := create1(t, dir, testOptions())
	for i := range 300 {
		err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, fmt.Sprint(i), strings.Repeat("v", 500)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check of a sound store: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "test.db")
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The head of every fourth page but the first.
	hurt := append([]byte{}, sound...)
	for i := 4096 * 4; i < len(hurt); i += 4096 * 4 {
		copy(hurt[i:], "damage!!")
	}
	if err := os.WriteFile(path, hurt, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err = Open(t.Context(), dir, testOptions())
	if err == nil {
		err = errors.Join(db.Check(t.Context()), db.Close())
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged pages: %v", err)
	}
	for name, content := range map[string][]byte{
		"text":      []byte(strings.Repeat("no database ", 1000)),
		"truncated": sound[:len(sound)/2],
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), dir, testOptions())
		if err == nil {
			err = errors.Join(db.Check(t.Context()), db.Close())
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// waitFor returns once n updates stand in the queue: their goroutines run, and
// nothing can take them out while another update holds the lead.
func waitFor(db *DB, n int) {
	for {
		db.queue.mu.Lock()
		length := len(db.queue.list)
		db.queue.mu.Unlock()
		if length >= n {
			return
		}
		runtime.Gosched()
	}
}

// TestGroups proves that updates which wait share a commit, and that a lone
// one has its own.
func TestGroups(t *testing.T) {
	commits := 0
	o := testOptions()
	o.OnCommit = func(d time.Duration) {
		commits++ // only ever called by the one who leads
		if d <= 0 {
			t.Errorf("a commit took %v", d)
		}
	}
	db := create1(t, t.TempDir(), o)
	running, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := db.Update(t.Context(), func(tx *Tx) error {
			close(running)
			<-release
			return put(tx, "first", "v")
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-running
	const waiting = 50
	own := errors.New("own")
	for i := range waiting {
		wg.Go(func() {
			err := db.Update(t.Context(), func(tx *Tx) error {
				if err := put(tx, fmt.Sprint(i), "v"); err != nil || i%5 != 0 {
					return err
				}
				return own
			})
			if i%5 == 0 && err != own || i%5 != 0 && err != nil {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	waitFor(db, waiting)
	close(release)
	wg.Wait()
	if commits != 1 {
		t.Errorf("%d commits for %d updates that waited together", commits, waiting+1)
	}
	for i := range waiting {
		if got := get(t, db, fmt.Sprint(i)); (got == "v") != (i%5 != 0) {
			t.Errorf("key %d: %q", i, got)
		}
	}
	commits = 0
	for range 3 {
		if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "v") }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(t.Context(), func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if commits != 3 {
		t.Errorf("%d commits of 3 lone updates and an empty one", commits)
	}
}

// TestWithdraw ends the context of an update that waits behind a slow one: it
// returns at once, and never runs.
func TestWithdraw(t *testing.T) {
	db := create1(t, t.TempDir(), testOptions())
	running, release := make(chan struct{}), make(chan struct{})
	slow := make(chan error, 1)
	go func() {
		slow <- db.Update(t.Context(), func(*Tx) error {
			close(running)
			<-release
			return nil
		})
	}()
	<-running
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		waiting <- db.Update(ctx, func(*Tx) error {
			t.Error("a withdrawn update ran")
			return nil
		})
	}()
	waitFor(db, 1)
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("the waiting update: %v", err)
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the slow update: %v", err)
	}
}

// TestSwallowedFault has a function ignore an error of the database: the
// update fails all the same.
func TestSwallowedFault(t *testing.T) {
	db := create1(t, t.TempDir(), testOptions())
	err := db.Update(t.Context(), func(tx *Tx) error {
		if err := put(tx, "k", "v"); err != nil {
			return err
		}
		_, _ = tx.Exec("INSERT INTO no_such_table VALUES (1)")
		return nil
	})
	if err == nil || get(t, db, "k") != "-" {
		t.Errorf("Update: %v, k is %q", err, get(t, db, "k"))
	}
	if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "v") }); err != nil {
		t.Errorf("the next update: %v", err)
	}
}

func TestBackup(t *testing.T) {
	db := create1(t, t.TempDir(), testOptions())
	secretText := "deleted before the backup"
	for i := range 500 {
		err := db.Update(t.Context(), func(tx *Tx) error {
			return put(tx, fmt.Sprint(i), secretText)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := db.Update(t.Context(), func(tx *Tx) error {
		if _, err := tx.Exec("DELETE FROM t"); err != nil {
			return err
		}
		return put(tx, "k", "0")
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // the store is in use meanwhile
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", fmt.Sprint(i)) }); err != nil {
				t.Error(err)
				return
			}
		}
	})
	to := filepath.Join(t.TempDir(), "new")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(to, "test.db")
	err = db.Backup(t.Context(), path)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatalf("Backup: %v", err)
	}
	if err := db.Backup(t.Context(), path); !errors.Is(err, ErrExists) {
		t.Errorf("Backup over a file: %v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(b), secretText) {
		t.Errorf("the backup shows what was deleted (%v)", err)
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the backup lies %v (%v)", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info.Mode(), err)
	}
	restored, err := Open(t.Context(), to, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if restored.Generation() != db.Generation() || get(t, restored, "k") == "-" {
		t.Error("the backup is another store")
	}
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Backup(ctx, path+"2"); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup with an ended context: %v", err)
	}
}

// TestMendInsideView has the handle fail while Views run, one inside the
// other, and an update between them: nobody waits for anybody. As long as the
// log is read from, updates are refused; afterwards they run.
func TestMendInsideView(t *testing.T) {
	db := create1(t, t.TempDir(), testOptions())
	update := func() error {
		return db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "new") })
	}
	if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, "k", "old") }); err != nil {
		t.Fatal(err)
	}
	err := db.View(t.Context(), func(*Tx) error {
		_ = db.judge(sqlite3.IOERR_FSYNC)
		if err := update(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("update while the log is read from: %v", err)
		}
		if got := get(t, db, "k"); got != "old" {
			t.Errorf("a View inside the View sees %q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := update(); err != nil {
		t.Fatal(err)
	}
	if got := get(t, db, "k"); got != "new" || db.broken {
		t.Errorf("afterwards: %q", got)
	}
}

// TestCloseWaits closes the store while a View runs: a View inside it and an
// update are refused, and Close returns after it.
func TestCloseWaits(t *testing.T) {
	db := create1(t, t.TempDir(), testOptions())
	closed := make(chan error, 1)
	err := db.View(t.Context(), func(tx *Tx) error {
		go func() { closed <- db.Close() }()
		for db.Update(t.Context(), func(*Tx) error { return nil }) == nil {
			runtime.Gosched()
		}
		if err := db.View(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
			t.Errorf("a View during Close: %v", err)
		}
		select {
		case err := <-closed:
			t.Errorf("Close did not wait: %v", err)
		default:
		}
		_, err := tx.Meta("generation")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
