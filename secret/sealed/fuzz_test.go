package sealed

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

// FuzzPlace: whatever stands in the file as a place, parsing it ends with a
// value of bounded size or ErrTampered.
func FuzzPlace(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add(bytes.Repeat([]byte{0xff}, 12))
	f.Add(append([]byte{0, 1, 0, 45}, make([]byte, 513*placeID)...))
	f.Fuzz(func(t *testing.T, place []byte) {
		size, ids, err := parsePlace("n", place)
		if err != nil {
			if !errors.Is(err, secret.ErrTampered) {
				t.Fatal(err)
			}
			return
		}
		if size > maxSealed || size > len(ids)*slotSize || size <= (len(ids)-1)*slotSize {
			t.Fatalf("%d bytes in %d slots", size, len(ids))
		}
	})
}

// FuzzUnseal: nothing opens but what was sealed under that name.
func FuzzUnseal(f *testing.F) {
	key, err := newStoreKey()
	if err != nil {
		f.Fatal(err)
	}
	s := &Store{key: key}
	sealed, err := s.seal("name", secret.New([]byte("value")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("name", sealed)
	f.Add("other", sealed)
	f.Add("name", []byte{valueFormat})
	f.Fuzz(func(t *testing.T, name string, record []byte) {
		_, err := s.unseal(name, record)
		if right := name == "name" && bytes.Equal(record, sealed); right != (err == nil) {
			t.Fatalf("%q, %x: %v", name, record, err)
		}
		if err != nil && !errors.Is(err, secret.ErrTampered) {
			t.Fatal(err)
		}
	})
}

// FuzzKeyRecord: nothing unwraps but the record that was made.
func FuzzKeyRecord(f *testing.F) {
	file := filepath.Join(f.TempDir(), "key")
	if err := GenerateKeyFile(file); err != nil {
		f.Fatal(err)
	}
	key, err := newStoreKey()
	if err != nil {
		f.Fatal(err)
	}
	record, err := wrapKey(KeyFile(file), key, [16]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Add(record[:recordSize-1])
	f.Add(append([]byte{keyFormat, kindPassphrase}, record[2:]...))
	f.Fuzz(func(t *testing.T, r []byte) {
		_, err := unwrapKey(KeyFile(file), r, [16]byte{1})
		if (err == nil) != bytes.Equal(r, record) {
			t.Fatalf("%x: %v", r, err)
		}
	})
}
