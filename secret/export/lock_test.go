package export

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

// TestLock opens what was locked with the passphrase alone, and nothing that was
// changed.
func TestLock(t *testing.T) {
	pass := secret.New([]byte("correct horse"))
	var file bytes.Buffer
	const work = 4 // the detector makes the real one last for seconds
	if err := lock(&file, secret.New([]byte("the share")), pass, work); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file.Bytes(), []byte("share")) {
		t.Fatal("in the clear")
	}
	got, err := Unlock(bytes.NewReader(file.Bytes()), pass, 9)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Use(func(b []byte) error {
		if string(b) != "the share" {
			t.Errorf("%q", b)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := Unlock(bytes.NewReader(file.Bytes()), secret.New([]byte("another")), 9); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	if _, err := Unlock(bytes.NewReader(file.Bytes()), pass, 8); !errors.Is(err, ErrFormat) {
		t.Errorf("too long: %v", err)
	}
	spoiled := bytes.Clone(file.Bytes())
	spoiled[len(spoiled)-1] ^= 1
	if _, err := Unlock(bytes.NewReader(spoiled), pass, 9); !errors.Is(err, ErrFormat) {
		t.Errorf("spoiled: %v", err)
	}
	if _, err := Unlock(bytes.NewReader(nil), pass, 9); !errors.Is(err, ErrFormat) {
		t.Errorf("nothing: %v", err)
	}
}
