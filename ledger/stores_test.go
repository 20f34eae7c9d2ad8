package ledger_test

import (
	"path/filepath"
	"testing"

	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/kv/sqlite"
)

// stores opens one of each kind of store.
func stores(t testing.TB) map[string]kv.Store {
	t.Helper()
	disk, err := sqlite.Create(t.Context(), filepath.Join(t.TempDir(), "kv"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return map[string]kv.Store{"memory": kvtest.NewMemory(), "sqlite": disk}
}
