package sealed

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/internal/sqlitedb/powercut"
	"github.com/vigil-ark/vigil/secret"
)

// newStore creates a store under a new key file.
func newStore(t testing.TB) (s *Store, dir string, kek Key) {
	t.Helper()
	root := t.TempDir()
	file := filepath.Join(root, "key")
	if err := GenerateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	dir, kek = filepath.Join(root, "secrets"), KeyFile(file)
	s, err := Create(t.Context(), dir, kek, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, dir, kek
}

func mustPut(t testing.TB, s *Store, name string, value []byte) {
	t.Helper()
	v := secret.New(bytes.Clone(value))
	defer v.Burn()
	if err := s.Put(t.Context(), name, v); err != nil {
		t.Fatalf("Put(%s): %v", name, err)
	}
}

// stored returns the sealed bytes of name.
func stored(t testing.TB, s *Store, name string) (sealed []byte) {
	t.Helper()
	err := s.db.View(t.Context(), func(tx *sqlitedb.Tx) (err error) {
		sealed, err = load(tx, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// piece is how much of a sealed value a search recognises.
const piece = 16

// pieces is a set of byte strings to be found nowhere.
type pieces map[[piece]byte]string

func (p pieces) add(name string, b []byte) {
	for ; len(b) >= piece; b = b[piece:] {
		p[[piece]byte(b)] = name
	}
}

// search looks at every offset of every file and returns the names whose
// pieces it found.
func (p pieces) search(files map[string][]byte) map[string]int {
	found := map[string]int{}
	for _, b := range files {
		for ; len(b) >= piece; b = b[1:] {
			if name, ok := p[[piece]byte(b)]; ok {
				found[name]++
			}
		}
	}
	return found
}

// contents reads every file of dir.
func contents(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestOverwritten deletes and replaces values among others that come and go,
// and searches the files for what was sealed under them: at once, while the
// store is open. Before the delete the same search finds it.
func TestOverwritten(t *testing.T) {
	for seed := range powercut.Seeds(t, 5) {
		testOverwritten(t, seed)
	}
}

func testOverwritten(t *testing.T, seed uint64) {
	disk := powercut.New(t.TempDir(), seed) // the files in memory; the power stays on
	s := newRig(t, rig{}).open(t, t.Context(), disk, create)
	rnd := mathrand.New(mathrand.NewPCG(seed, 2))
	live, gone := pieces{}, pieces{}
	var names []string
	put := func(name string) {
		value := make([]byte, 32+rnd.IntN(200))
		if rnd.IntN(10) == 0 {
			value = make([]byte, 1+rnd.IntN(20000))
		}
		if _, err := rand.Read(value); err != nil {
			t.Fatal(err)
		}
		mustPut(t, s, name, value)
		live.add(name, stored(t, s, name))
	}
	forget := func(name string) {
		sealed := stored(t, s, name)
		gone.add(name, sealed)
		for ; len(sealed) >= piece; sealed = sealed[piece:] {
			delete(live, [piece]byte(sealed))
		}
	}
	for round := range 8 {
		for i := range 60 {
			names = append(names, fmt.Sprintf("%08x.%d.%d", rnd.Uint32(), round, i))
			put(names[len(names)-1])
		}
		if found := live.search(disk.Contents()); len(found) != len(names) {
			t.Fatalf("seed %d, round %d: the search finds %d of %d stored values", seed, round, len(found), len(names))
		}
		for range 55 {
			i := rnd.IntN(len(names))
			forget(names[i])
			if rnd.IntN(3) == 0 {
				put(names[i])
				continue
			}
			if err := s.Delete(t.Context(), names[i]); err != nil {
				t.Fatal(err)
			}
			names = append(names[:i], names[i+1:]...)
		}
		if found := gone.search(disk.Contents()); len(found) > 0 {
			t.Fatalf("seed %d, round %d: traces of %d values that are gone: %v", seed, round, len(found), found)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found := gone.search(disk.Contents()); len(found) > 0 {
		t.Errorf("seed %d, after Close: %v", seed, found)
	}
}

// TestKilledBeforeOverwriting leaves a delete in the log, as a crash between
// its commit and the emptying of the log does: Open makes up for it.
func TestKilledBeforeOverwriting(t *testing.T) {
	s, dir, kek := newStore(t)
	mustPut(t, s, "a", bytes.Repeat([]byte("value"), 20))
	gone := pieces{}
	gone.add("a", stored(t, s, "a"))
	err := s.db.Update(t.Context(), func(tx *sqlitedb.Tx) error { // without Erased
		_, err := tx.Exec("UPDATE slots SET data=zeroblob(128)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(gone.search(contents(t, dir))) == 0 {
		t.Fatal("nothing was left in the log: the test shows nothing")
	}
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := os.Mkdir(crashed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secrets.db", "secrets.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(crashed, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(t.Context(), crashed, kek, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if found := gone.search(contents(t, crashed)); len(found) > 0 {
		t.Error("the deleted value is still in the files of the opened store")
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNoPlaintext searches the files for values, the store key and the
// key-encryption key, raw and encoded.
func TestNoPlaintext(t *testing.T) {
	s, dir, _ := newStore(t)
	hidden := map[string][]byte{}
	for i := range 50 {
		value := make([]byte, 32)
		if _, err := rand.Read(value); err != nil {
			t.Fatal(err)
		}
		hidden[fmt.Sprint("value ", i)] = value
		mustPut(t, s, fmt.Sprint("n", i), value)
	}
	kek, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "key"))
	if err != nil {
		t.Fatal(err)
	}
	hidden["key-encryption key"] = kek
	_ = s.key.Use(func(b []byte) error {
		hidden["store key"] = bytes.Clone(b)
		return nil
	})
	files := contents(t, dir)
	if len(files) < 4 {
		t.Fatalf("%d files", len(files))
	}
	names := 0
	for file, content := range files {
		names += bytes.Count(content, []byte("n49"))
		for what, h := range hidden {
			for _, form := range [][]byte{
				h, h[:16], []byte(hex.EncodeToString(h)), []byte(base64.StdEncoding.EncodeToString(h)[:40]),
			} {
				if bytes.Contains(content, form) {
					t.Errorf("%s holds %s", file, what)
				}
			}
		}
	}
	if names == 0 {
		t.Error("not even a name was found: the search looks in the wrong place")
	}
}
