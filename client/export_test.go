package client

import (
	"context"
	"testing"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/secret"
)

// RecoveryScalars are the keys that a seed has for the way out, on test networks:
// what must never be on a device.
func RecoveryScalars(t testing.TB, s Seed) map[string]secret.Bytes {
	t.Helper()
	out := map[string]secret.Bytes{}
	for role, name := range []string{"recovery key", "fee key"} {
		scalar, err := s.scalar(ark.Regtest, purposeRecovery, uint32(role), 0)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = scalar
	}
	return out
}

// Touch writes the state as it is, as every call may that brings something to
// remember.
func (w *Wallet) Touch(ctx context.Context) error {
	return w.update(ctx, func(*state) error { return nil })
}
