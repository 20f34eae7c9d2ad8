package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/secret"
)

// poke runs one statement on the store's tables.
func poke(t *testing.T, s *Store, sql string, args ...any) {
	t.Helper()
	err := s.db.Update(t.Context(), func(tx *sqlitedb.Tx) error {
		_, err := tx.Exec(sql, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// classes are the kinds of secret that Vigil seals, with their usual lengths.
func classes() map[string]int {
	return map[string]int{
		"tree-secret.00112233445566778899aabbccddeeff": 32,
		"delegate-secret.0011223344556677":             32,
		"delegate-service.1":                           32,
		"dkg-secret.0011223344556677":                  3000,
	}
}

// TestBitFlip flips every bit of a sealed record of each class, one at a time.
// Only that record is refused, by name.
func TestBitFlip(t *testing.T) {
	s, _, _ := newStore(t)
	for name, size := range classes() {
		mustPut(t, s, name, bytes.Repeat([]byte{0x5a}, size))
	}
	for name := range classes() {
		sealed := stored(t, s, name)
		for bit := range len(sealed) * 8 {
			flipped := bytes.Clone(sealed)
			flipped[bit/8] ^= 1 << (bit % 8)
			if _, err := s.unseal(name, flipped); !errors.Is(err, secret.ErrTampered) {
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			}
		}
		for cut := range len(sealed) {
			if _, err := s.unseal(name, sealed[:cut]); !errors.Is(err, secret.ErrTampered) {
				t.Fatalf("%s cut to %d bytes: %v", name, cut, err)
			}
		}
		if _, err := s.unseal(name, append(bytes.Clone(sealed), 0)); !errors.Is(err, secret.ErrTampered) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

// TestTampered changes one record in the file; the store says which, and
// serves the others.
func TestTampered(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, s *Store){
		"a bit of the value": func(t *testing.T, s *Store) {
			sealed := stored(t, s, "victim")
			data := make([]byte, slotSize)
			copy(data, sealed)
			data[40] ^= 1
			poke(t, s, "UPDATE slots SET data=?1 WHERE id=1", data)
		},
		"the slot emptied": func(t *testing.T, s *Store) {
			poke(t, s, "UPDATE slots SET data=?1 WHERE id=1", make([]byte, slotSize))
		},
		"the slot shortened": func(t *testing.T, s *Store) {
			poke(t, s, "UPDATE slots SET data=?1 WHERE id=1", []byte("x"))
		},
		"the slot removed": func(t *testing.T, s *Store) { poke(t, s, "DELETE FROM slots WHERE id=1") },
		"another secret's place": func(t *testing.T, s *Store) {
			poke(t, s, "UPDATE secrets SET place=(SELECT place FROM secrets WHERE name=?1) WHERE name=?2",
				[]byte("other"), []byte("victim"))
		},
		"an empty place": func(t *testing.T, s *Store) {
			poke(t, s, "UPDATE secrets SET place=?1 WHERE name=?2", []byte(nil), []byte("victim"))
		},
		"a place too long": func(t *testing.T, s *Store) {
			poke(t, s, "UPDATE secrets SET place=?1 WHERE name=?2", bytes.Repeat([]byte{0xff}, 12), []byte("victim"))
		},
		"another name": func(t *testing.T, s *Store) {
			poke(t, s, "DELETE FROM secrets WHERE name=?1", []byte("other"))
			poke(t, s, "UPDATE secrets SET name=?1 WHERE name=?2", []byte("other"), []byte("victim"))
			poke(t, s, "INSERT INTO secrets SELECT ?1, place FROM secrets WHERE name=?2", []byte("victim"), []byte("third"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			s, _, _ := newStore(t)
			for _, name := range []string{"victim", "other", "third"} {
				mustPut(t, s, name, []byte("value of "+name))
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatalf("Check before: %v", err)
			}
			change(t, s)
			if _, err := s.Get(t.Context(), "victim"); !errors.Is(err, secret.ErrTampered) {
				t.Errorf("Get: %v", err)
			}
			if _, err := s.Get(t.Context(), "third"); err != nil {
				t.Errorf("Get of an untouched one: %v", err)
			}
			if err := s.Check(t.Context()); !errors.Is(err, secret.ErrTampered) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// TestStoresApart moves a whole record into another store.
func TestStoresApart(t *testing.T) {
	one, _, _ := newStore(t)
	two, _, _ := newStore(t)
	mustPut(t, one, "a", []byte("value"))
	mustPut(t, two, "a", []byte("other"))
	if _, err := two.unseal("a", stored(t, one, "a")); !errors.Is(err, secret.ErrTampered) {
		t.Errorf("a record of another store: %v", err)
	}
}

// TestFresh puts one value twice: nothing in the two records is the same but
// the format.
func TestFresh(t *testing.T) {
	s, _, _ := newStore(t)
	seen := pieces{}
	for i := range 20 {
		mustPut(t, s, "a", bytes.Repeat([]byte{1}, 64))
		sealed := stored(t, s, "a")
		for from := 1; from+piece <= len(sealed); from++ {
			p := [piece]byte(sealed[from:])
			if _, again := seen[p]; again {
				t.Fatalf("put %d repeats bytes at %d", i, from)
			}
			seen[p] = fmt.Sprint(i)
		}
	}
}
