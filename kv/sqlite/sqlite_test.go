package sqlite_test

import (
	"testing"

	"path/filepath"

	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/kv/sqlite"
)

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
