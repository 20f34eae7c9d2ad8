package ledger_test

import (
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// TestServiceKeys holds that keys are remembered over a restart, each once, and
// apart from those that were retired.
func TestServiceKeys(t *testing.T) {
	ctx := t.Context()
	store := kvtest.NewMemory()
	if err := ledger.Create(ctx, store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ctx, store, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var keys []bip340.PubKey
	for range 3 {
		key, scalar, err := bip340.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		scalar.Burn()
		keys = append(keys, key.PubKey())
	}
	for range 2 {
		if err := l.NoteServiceKeys(ctx, keys...); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Retire(ctx, keys[1]); err != nil {
		t.Fatal(err)
	}
	if l, err = ledger.Open(ctx, store, ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	noted, err := l.ServiceKeys(ctx)
	if err != nil || len(noted) != len(keys) {
		t.Fatalf("%d keys noted, %v", len(noted), err)
	}
	for _, k := range keys {
		if !slices.Contains(noted, k) {
			t.Errorf("%s is missing", k)
		}
	}
	if retired, err := l.Retired(ctx); err != nil || !slices.Equal(retired, keys[1:2]) {
		t.Fatalf("retired: %v, %v", retired, err)
	}
}
