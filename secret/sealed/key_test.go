package sealed

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/secret"
)

func write(t *testing.T, name string, content []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func phrase(s string) Key { return Passphrase(secret.New([]byte(s))) }

// opens says whether the store in dir opens under kek and still holds "a".
func opens(t *testing.T, dir string, kek Key) error {
	t.Helper()
	s, err := Open(t.Context(), dir, kek, Options{})
	if err != nil {
		return err
	}
	_, err = s.Get(t.Context(), "a")
	return errors.Join(err, s.Close())
}

// TestKeys opens one store under each kind of key and rekeys it to the next.
func TestKeys(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, keySize)
	credentials := filepath.Dir(write(t, "vigil-kek", raw, 0o440))
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	chain := []struct{ key, same, wrong Key }{
		{phrase("correct horse"), PassphraseFile(write(t, "p", []byte("correct horse\n"), 0o600)), phrase("correct hors")},
		{KeyFile(write(t, "k", raw, 0o600)), SystemdCredential("vigil-kek"), KeyFile(write(t, "k", bytes.Repeat([]byte{8}, keySize), 0o600))},
		{SystemdCredential("vigil-kek"), KeyFile(write(t, "k", raw, 0o400)), phrase("correct horse")},
		{PassphraseFile(write(t, "p", []byte("new\r\n"), 0o400)), phrase("new"), SystemdCredential("vigil-kek")},
	}
	dir := filepath.Join(t.TempDir(), "s")
	s, err := Create(t.Context(), dir, chain[0].key, Options{Generation: [16]byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "a", []byte("value"))
	for i, c := range chain {
		if i > 0 {
			record := pieces{}
			record.add("old wrapping", keyRecord(t, s)[headSize:])
			if len(record.search(contents(t, dir))) == 0 {
				t.Fatal("the search does not find the wrapping before the rekey")
			}
			if err := s.Rekey(t.Context(), c.key); err != nil {
				t.Fatalf("Rekey %d: %v", i, err)
			}
			if len(record.search(contents(t, dir))) > 0 {
				t.Error("the old wrapping is still in the files after Rekey")
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := opens(t, dir, c.same); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
		if err := opens(t, dir, c.wrong); !errors.Is(err, ErrWrongKey) || errors.Is(err, secret.ErrUnavailable) {
			t.Errorf("wrong key %d: %v", i, err)
		}
		if i > 0 {
			if err := opens(t, dir, chain[i-1].key); i != 2 && !errors.Is(err, ErrWrongKey) {
				t.Errorf("the key before rekey %d: %v", i, err)
			}
		}
		if s, err = Open(t.Context(), dir, c.key, Options{}); err != nil {
			t.Fatal(err)
		}
		if s.Generation() != [16]byte{3} {
			t.Errorf("generation %x", s.Generation())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func keyRecord(t *testing.T, s *Store) (record []byte) {
	t.Helper()
	err := s.db.View(t.Context(), func(tx *sqlitedb.Tx) (err error) {
		record, err = tx.Meta(keyRow)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// TestUnfitKeys creates under keys that cannot be used: a named error, which
// never shows the key, and no store left behind.
func TestUnfitKeys(t *testing.T) {
	raw := bytes.Repeat([]byte{'K'}, keySize)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(write(t, "short", raw[1:], 0o400)))
	burned := secret.New([]byte("p"))
	burned.Burn()
	for name, key := range map[string]Key{
		"none":                     {},
		"empty passphrase":         phrase(""),
		"burned passphrase":        Passphrase(burned),
		"empty passphrase file":    PassphraseFile(write(t, "p", []byte("\n"), 0o600)),
		"huge passphrase file":     PassphraseFile(write(t, "p", bytes.Repeat([]byte{'K'}, maxPassphrase+1), 0o600)),
		"passphrase for everybody": PassphraseFile(write(t, "p", []byte("KKKKKKKKKK"), 0o644)),
		"key for the group":        KeyFile(write(t, "k", raw, 0o640)),
		"key too short":            KeyFile(write(t, "k", raw[1:], 0o600)),
		"key too long":             KeyFile(write(t, "k", append(raw, 'K'), 0o600)),
		"no key file":              KeyFile(filepath.Join(t.TempDir(), "none")),
		"directory":                KeyFile(t.TempDir()),
		"short credential":         SystemdCredential("short"),
		"no credential":            SystemdCredential("other"),
		"credential elsewhere":     SystemdCredential("../short"),
		"credential parent":        SystemdCredential(".."),
	} {
		dir := filepath.Join(t.TempDir(), "s")
		_, err := Create(t.Context(), dir, key, Options{})
		if !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "KKKK") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: something was made", name)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := SystemdCredential("short").read(); !errors.Is(err, ErrKey) {
		t.Errorf("without systemd: %v", err)
	}
}

// TestKeyRecord damages the wrapped store key and what it stands on.
func TestKeyRecord(t *testing.T) {
	file := write(t, "k", bytes.Repeat([]byte{7}, keySize), 0o600)
	key, err := newStoreKey()
	if err != nil {
		t.Fatal(err)
	}
	gen := [16]byte{1}
	record, err := wrapKey(KeyFile(file), key, gen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unwrapKey(KeyFile(file), record, gen); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	refused := func(what string, record []byte, gen [16]byte) {
		t.Helper()
		_, err := unwrapKey(KeyFile(file), record, gen)
		if !errors.Is(err, ErrWrongKey) && !errors.Is(err, secret.ErrTampered) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for bit := range len(record) * 8 {
		flipped := bytes.Clone(record)
		flipped[bit/8] ^= 1 << (bit % 8)
		refused("a flipped bit", flipped, gen)
	}
	for cut := range len(record) {
		refused("a cut record", record[:cut], gen)
	}
	refused("another generation", record, [16]byte{2})

	// Argon2id parameters beyond the limits are refused before they are used.
	head := make([]byte, headSize)
	head[0], head[1] = keyFormat, kindPassphrase
	for _, p := range [][3]uint32{
		{0, argonMemory, 4}, {17, argonMemory, 4}, {3, maxArgonMemory + 1, 4},
		{3, 1<<32 - 1, 4}, {3, argonMemory, 0}, {3, argonMemory, 17}, {3, 31, 4},
	} {
		head[2], head[3], head[4], head[5] = byte(p[0]>>24), byte(p[0]>>16), byte(p[0]>>8), byte(p[0])
		head[6], head[7], head[8], head[9] = byte(p[1]>>24), byte(p[1]>>16), byte(p[1]>>8), byte(p[1])
		head[10] = byte(p[2])
		err := phrase("p").derive(head, func([]byte) error { return nil })
		if !errors.Is(err, secret.ErrTampered) {
			t.Errorf("Argon2id %v: %v", p, err)
		}
	}
}

func TestGenerateKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	if err := GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != keySize {
		t.Errorf("%v, %v", info, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := GenerateKeyFile(path); !errors.Is(err, ErrKey) {
		t.Errorf("over a file: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("an existing key file changed")
	}
}
