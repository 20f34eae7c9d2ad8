package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	sqlite3 "github.com/ncruces/go-sqlite3"
	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/kv/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) func() (kv.Store, error) {
		dir := filepath.Join(t.TempDir(), "kv")
		made := false
		return func() (kv.Store, error) {
			if !made {
				made = true
				return sqlite.Create(t.Context(), dir, sqlite.Options{})
			}
			return sqlite.Open(t.Context(), dir, sqlite.Options{})
		}
	})
}

func set(t *testing.T, s *sqlite.Store, value string) {
	t.Helper()
	err := s.Update(t.Context(), func(w kv.Writer) error { return w.Put("t", []byte("k"), []byte(value)) })
	if err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, s *sqlite.Store) (v string) {
	t.Helper()
	err := s.View(t.Context(), func(r kv.Reader) error {
		b, err := r.Get("t", []byte("k"))
		v = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestErrors meets every error that opening can end with, in the port's terms.
func TestErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kv")
	open := func() error {
		s, err := sqlite.Open(t.Context(), dir, sqlite.Options{})
		if err != nil {
			return err
		}
		return errors.Join(s.Check(t.Context()), s.Close())
	}
	is := func(want error) {
		t.Helper()
		if err := open(); !errors.Is(err, want) {
			t.Errorf("Open: %v, want %v", err, want)
		}
	}
	is(sqlite.ErrMissing)
	s, err := sqlite.Create(t.Context(), dir, sqlite.Options{Generation: [16]byte{5}})
	if err != nil {
		t.Fatal(err)
	}
	is(sqlite.ErrLocked)
	set(t, s, "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Create(t.Context(), dir, sqlite.Options{}); !errors.Is(err, sqlite.ErrExists) {
		t.Errorf("Create: %v", err)
	}
	if err := open(); err != nil {
		t.Errorf("Open: %v", err)
	}

	file := filepath.Join(dir, "kv.db")
	poke := func(sql string) {
		t.Helper()
		c, err := sqlite3.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Exec(sql), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	poke("PRAGMA user_version=99")
	is(kv.ErrNewer)
	poke("PRAGMA user_version=1; PRAGMA application_id=7")
	is(sqlite.ErrForeign)
	if err := os.WriteFile(file, []byte("this is not a database, whatever its name says"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(kv.ErrCorrupt)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	is(sqlite.ErrMissing)
}

// TestBackup restores a backup as a store would be restored.
func TestBackup(t *testing.T) {
	commits := 0
	s, err := sqlite.Create(t.Context(), filepath.Join(t.TempDir(), "kv"), sqlite.Options{
		OnCommit: func(time.Duration) { commits++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	set(t, s, "before")
	dir := filepath.Join(t.TempDir(), "restored")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "kv.db")); err != nil {
		t.Fatal(err)
	}
	set(t, s, "after")
	if commits != 2 {
		t.Errorf("OnCommit was told of %d commits", commits)
	}
	r, err := sqlite.Open(t.Context(), dir, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := r.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if value(t, r) != "before" || value(t, s) != "after" || r.Generation() != s.Generation() {
		t.Error("the backup is not the state and store of its time")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Check with an ended context: %v", err)
	}
}
