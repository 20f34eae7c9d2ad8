package wallet_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
)

// recorded is a store that keeps a copy of everything ever written to it.
type recorded struct {
	*kvtest.Memory
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *recorded) Update(ctx context.Context, f func(kv.Writer) error) error {
	return r.Memory.Update(ctx, func(w kv.Writer) error { return f(recorder{w, r}) })
}

type recorder struct {
	kv.Writer
	into *recorded
}

func (w recorder) Put(tree string, key, value []byte) error {
	w.into.mu.Lock()
	for _, part := range [][]byte{[]byte(tree), key, value} {
		w.into.all.Write(part)
		w.into.all.WriteString("\n--\n")
	}
	w.into.mu.Unlock()
	return w.Writer.Put(tree, key, value)
}

// leaks searches everything that was written to the public store, and the texts
// given, for every secret of the secret store, in every encoding; first it finds a
// canary that was planted there.
func (r *recorded) leaks(t *testing.T, sec *secrettest.Memory, texts ...string) {
	t.Helper()
	var s search.Searcher
	names, err := sec.List(t.Context(), "")
	if err != nil || len(names) < 4 {
		t.Fatalf("%d secrets, %v", len(names), err)
	}
	for _, name := range names {
		value, err := sec.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		err = signer.Parts(name, value, s.Add)
		if err != nil {
			t.Fatal(err)
		}
	}
	canary := []byte("a canary that was planted to be found")
	if err := s.Add("canary", secret.New(bytes.Clone(canary))); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	written := bytes.Clone(r.all.Bytes())
	r.mu.Unlock()
	planted := append(bytes.Clone(written), canary...)
	if found := s.Text("store with a canary", planted); len(found) != 1 || found[0].Secret != "canary" {
		t.Fatalf("of the canary alone, %v is found", found)
	}
	for _, text := range append(texts, string(written)) {
		if found := s.Text("what a run left", []byte(text)); len(found) > 0 {
			t.Errorf("leaked: %v", found)
		}
	}
}
