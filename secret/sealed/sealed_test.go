package sealed_test

import (
	"path/filepath"
	"testing"

	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// place is one empty place for a store, with a key file beside it.
type place struct {
	dir string
	key sealed.Key
}

func newPlace(t *testing.T) place {
	t.Helper()
	root := t.TempDir()
	file := filepath.Join(root, "key")
	if err := sealed.GenerateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	return place{filepath.Join(root, "secrets"), sealed.KeyFile(file)}
}

func TestStore(t *testing.T) {
	secrettest.Run(t, func(t *testing.T) func() (secret.Store, error) {
		p := newPlace(t)
		made := false
		return func() (secret.Store, error) {
			if !made {
				made = true
				return sealed.Create(t.Context(), p.dir, p.key, sealed.Options{})
			}
			return sealed.Open(t.Context(), p.dir, p.key, sealed.Options{})
		}
	})
}
