package export_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"filippo.io/age"

	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/export"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

var generation = [16]byte{7, 1, 15: 9}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// fill puts n secrets of growing length into a store.
func fill(t testing.TB, n int) *secrettest.Memory {
	t.Helper()
	store := secrettest.NewMemory()
	for i := range n {
		value := bytes.Repeat([]byte{byte(i)}, i*100+1)
		if err := store.Put(t.Context(), fmt.Sprintf("secret.%d", i), secret.New(value)); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func write(t testing.TB, store secret.Store, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := export.Write(t.Context(), &out, store, generation, to...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 40} {
		first, second := identity(t), identity(t)
		file := write(t, fill(t, n), first.Recipient(), second.Recipient())
		for _, id := range []*age.X25519Identity{first, second} {
			in, err := export.Open(bytes.NewReader(file), bytes.NewBufferString(id.String()+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if in.Generation() != generation {
				t.Fatalf("generation %x", in.Generation())
			}
			got := secrettest.NewMemory()
			if read, err := in.Into(t.Context(), got); err != nil || read != n {
				t.Fatalf("read %d of %d: %v", read, n, err)
			}
			for i := range n {
				value, err := got.Get(t.Context(), fmt.Sprintf("secret.%d", i))
				if err != nil {
					t.Fatal(err)
				}
				if err := value.Use(func(b []byte) error {
					if !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, i*100+1)) {
						return errors.New("another value")
					}
					return nil
				}); err != nil {
					t.Fatalf("secret %d: %v", i, err)
				}
			}
		}
	}
}

// TestDamage holds that a file which is cut or changed anywhere is refused.
func TestDamage(t *testing.T) {
	id := identity(t)
	file := write(t, fill(t, 3), id.Recipient())
	read := func(raw []byte) error {
		in, err := export.Open(bytes.NewReader(raw), bytes.NewBufferString(id.String()))
		if err != nil {
			return err
		}
		_, err = in.Into(t.Context(), secrettest.NewMemory())
		return err
	}
	if err := read(file); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(file); i += 7 {
		flipped := bytes.Clone(file)
		flipped[i] ^= 4
		if err := read(flipped); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
		if err := read(file[:i]); err == nil {
			t.Errorf("cut at %d: accepted", i)
		}
	}
	if err := read(append(bytes.Clone(file), 0)); err == nil {
		t.Error("a byte at the end: accepted")
	}
}

// TestForeignPlaintext encrypts well what no Write wrote.
func TestForeignPlaintext(t *testing.T) {
	id := identity(t)
	head := "vigil-secrets/1\n" + string(generation[:])
	for name, plain := range map[string]string{
		"empty": "", "magic": "vigil-secrets/9\n" + string(generation[:]), "no end": head, "long name": head + "\x00\xff",
		"bad name": head + "\x00\x01 \x00\x00\x00\x00", "long value": head + "\x00\x01a\xff\xff\xff\xff",
		"cut value": head + "\x00\x01a\x00\x00\x00\x05abc", "wrong count": head + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"more": head + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00x",
	} {
		var file bytes.Buffer
		w, err := age.Encrypt(&file, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(plain)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		in, err := export.Open(&file, bytes.NewBufferString(id.String()))
		if err == nil {
			_, err = in.Into(t.Context(), secrettest.NewMemory())
		}
		if !errors.Is(err, export.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongIdentity(t *testing.T) {
	file := write(t, fill(t, 1), identity(t).Recipient())
	for name, keys := range map[string]string{"another": identity(t).String(), "none": "", "no key": "hello"} {
		if _, err := export.Open(bytes.NewReader(file), bytes.NewBufferString(keys)); !errors.Is(err, export.ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range [][]string{nil, {""}, {"age1nonsense"}} {
		if _, err := export.Recipients(bad...); !errors.Is(err, export.ErrRecipient) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := export.Recipients(identity(t).Recipient().String()); err != nil {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	id := identity(f)
	f.Add(write(f, fill(f, 2), id.Recipient()))
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := export.Open(bytes.NewReader(raw), bytes.NewBufferString(id.String()))
		if err == nil {
			_, _ = in.Into(t.Context(), secrettest.NewMemory())
		}
	})
}
