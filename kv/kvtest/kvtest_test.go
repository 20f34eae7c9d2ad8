package kvtest_test

import (
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
)

func TestMemory(t *testing.T) {
	kvtest.Run(t, func(*testing.T) func() (kv.Store, error) {
		disk := kvtest.NewMemory()
		return func() (kv.Store, error) { return disk.Reopen(), nil }
	})
}

func TestMemoryFail(t *testing.T) {
	m := kvtest.NewMemory()
	m.Fail(kv.ErrUnavailable)
	if err := m.View(t.Context(), func(kv.Reader) error { return nil }); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("View of a failing store: %v", err)
	}
	m.Fail(nil)
	if err := m.Update(t.Context(), func(kv.Writer) error { return nil }); err != nil {
		t.Errorf("Update of a mended store: %v", err)
	}
}
