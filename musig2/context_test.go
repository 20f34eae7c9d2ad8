package musig2

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
)

func TestContextSorts(t *testing.T) {
	_, pubs := testKeys(t, 5)
	root := make([]byte, 32)
	want, err := NewTaprootContext(pubs, root)
	if err != nil {
		t.Fatal(err)
	}
	given := slices.Clone(pubs)
	slices.Reverse(given)
	before := slices.Clone(given)
	got, err := NewTaprootContext(given, root)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(given, before) {
		t.Error("the caller's slice was changed")
	}
	if got.OutputPubKey() != want.OutputPubKey() || got.InternalKey() != want.InternalKey() {
		t.Error("order matters")
	}
	if keys := got.Keys(); !slices.Equal(keys, sorted(pubs)) {
		t.Error("keys are not sorted")
	} else {
		keys[0] = bip340.PubKey{}
		if got.Keys()[0] == keys[0] {
			t.Error("the context's keys can be changed from outside")
		}
	}
	bare, err := NewContext(pubs)
	if err != nil || bare.OutputPubKey() != want.InternalKey() || bare.InternalKey() != want.InternalKey() {
		t.Errorf("untweaked: %v", err)
	}
	none, err := NewTaprootContext(pubs, nil)
	if err != nil || none.OutputKey() == bare.OutputKey() || none.OutputKey() == want.OutputKey() {
		t.Errorf("a tree without scripts is a tweak of its own: %v", err)
	}
}

// TestSingleKey: with one distinct key there is no coefficient, and signing
// works all the same (protocol section 5.4).
func TestSingleKey(t *testing.T) {
	keys, pubs := testKeys(t, 1)
	root := bip340.TaggedHash("TapLeaf", []byte("sweep"))
	msg := bip340.TaggedHash("vigil/test/msg")
	wantTweaked, _, err := bip340.OutputKey(pubs[0].XOnly(), root[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range [][]bip340.PubKey{{pubs[0]}, {pubs[0], pubs[0]}} {
		bare, err := NewContext(set)
		if err != nil || bare.OutputPubKey() != pubs[0] {
			t.Fatalf("untweaked: %v", err)
		}
		tweaked, err := NewTaprootContext(set, root[:])
		if err != nil || tweaked.OutputKey() != wantTweaked || tweaked.InternalKey() != pubs[0] {
			t.Fatalf("tweaked: %v", err)
		}
		for _, ctx := range []*Context{bare, tweaked} {
			n, pub, err := NewNonce(keys[0], ctx, &msg, nil)
			if err != nil {
				t.Fatal(err)
			}
			agg, err := AggregateNonces([]PubNonce{pub})
			if err != nil {
				t.Fatal(err)
			}
			part, err := ctx.Sign(keys[0], n, agg, msg)
			if err != nil {
				t.Fatal(err)
			}
			if err := ctx.VerifyPartial(part, pubs[0], pub, agg, msg); err != nil {
				t.Error(err)
			}
			sig, err := ctx.Combine(agg, msg, []PartialSig{part})
			if err != nil || !bip340.Verify(ctx.OutputKey(), msg[:], sig) {
				t.Errorf("does not verify (%v)", err)
			}
		}
	}
}

func TestContextErrors(t *testing.T) {
	_, pubs := testKeys(t, 3)
	if _, err := NewContext(nil); !errors.Is(err, ErrNoKeys) {
		t.Errorf("no keys: %v", err)
	}
	for at := range 3 {
		bad := slices.Clone(pubs)
		bad[at] = bip340.PubKey{0: 2, 32: 7}
		var c *ContributionError
		if _, err := NewTaprootContext(bad, nil); !errors.As(err, &c) || c.Signer != at || c.Contrib != "pubkey" || !errors.Is(err, bip340.ErrPoint) {
			t.Errorf("bad key %d: %v", at, err)
		}
	}
	// A key and its negation are two keys to KeyAgg, whose coefficients keep the
	// sum off infinity.
	p, err := pubs[0].Point()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewContext([]bip340.PubKey{pubs[0], p.Negate().PubKey()}); err != nil {
		t.Errorf("negated pair: %v", err)
	}
}

func TestCache(t *testing.T) {
	_, pubs := testKeys(t, 4)
	root, other := make([]byte, 32), append(make([]byte, 31), 1)
	c := NewCache(2)
	get := func(keys []bip340.PubKey, root []byte) *Context {
		t.Helper()
		ctx, err := c.Context(keys, root)
		if err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	first := get(pubs[:2], root)
	if first != get([]bip340.PubKey{pubs[1], pubs[0]}, root) {
		t.Error("another order is computed anew")
	}
	second := get(pubs[:2], other)
	if second == first || second.OutputKey() == first.OutputKey() {
		t.Error("another root gets the same context")
	}
	get(pubs[:2], root) // used last
	get(pubs[:3], root) // evicts the other root
	if get(pubs[:2], root) != first {
		t.Error("what was used last was evicted")
	}
	if get(pubs[:2], other) == second {
		t.Error("the bound does not hold")
	}
	if len(c.byKey) != 2 || c.recent.Len() != 2 {
		t.Errorf("%d and %d entries, want 2", len(c.byKey), c.recent.Len())
	}
	want, err := NewTaprootContext(pubs[:3], root)
	if err != nil || get(pubs[:3], root).OutputKey() != want.OutputKey() {
		t.Errorf("cached key differs (%v)", err)
	}
	if _, err := c.Context(nil, root); !errors.Is(err, ErrNoKeys) {
		t.Errorf("no keys: %v", err)
	}
}

func TestCacheConcurrently(t *testing.T) {
	_, pubs := testKeys(t, 6)
	c := NewCache(2)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 6 {
				n := 1 + (g+i)%6
				got, err := c.Context(pubs[:n], nil)
				if err != nil || len(got.Keys()) != n {
					t.Errorf("%d keys: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
}
