package secrettest_test

import (
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

func TestMemory(t *testing.T) {
	secrettest.Run(t, func(*testing.T) func() (secret.Store, error) {
		disk := secrettest.NewMemory()
		return func() (secret.Store, error) { return disk.Reopen(), nil }
	})
}

func TestMemoryFail(t *testing.T) {
	m := secrettest.NewMemory()
	m.Fail(secret.ErrUnavailable)
	if _, err := m.Get(t.Context(), "a"); !errors.Is(err, secret.ErrUnavailable) {
		t.Errorf("Get from a failing store: %v", err)
	}
	m.Fail(nil)
	if _, err := m.Get(t.Context(), "a"); !errors.Is(err, secret.ErrNotFound) {
		t.Errorf("Get from a mended store: %v", err)
	}
}
