package wallet

import (
	"encoding/binary"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/frost"
)

// TestNonceMemory: what was used lately is refused, whichever half it is in, a refused
// request uses nothing up, and both halves are bounded.
func TestNonceMemory(t *testing.T) {
	var m nonceMemory
	next := uint64(0)
	fresh := func() (n frost.PubNonce) {
		next++
		binary.BigEndian.PutUint64(n[:], next)
		return n
	}
	use := func(n ...frost.PubNonce) error { return m.use([][]frost.PubNonce{n}) }
	fill := func() {
		list := make([]frost.PubNonce, noncesKept)
		for i := range list {
			list[i] = fresh()
		}
		if err := use(list...); err != nil {
			t.Fatal(err)
		}
	}
	first := fresh()
	if err := use(first); err != nil {
		t.Fatal(err)
	}
	spared := fresh()
	if err := use(spared, first); vigil.CodeOf(err) != vigil.CodeNonceReused {
		t.Errorf("used before: %v", err)
	}
	if err := use(spared); err != nil {
		t.Errorf("of a request that was refused: %v", err)
	}
	fill()
	if err := use(first); vigil.CodeOf(err) != vigil.CodeNonceReused || len(m.young) >= noncesKept {
		t.Errorf("in the older half: %v, %d in the younger", err, len(m.young))
	}
	fill()
	if err := use(first); err != nil {
		t.Errorf("long ago: %v", err)
	}
	if len(m.old) > noncesKept || len(m.young) > noncesKept {
		t.Errorf("%d and %d are kept", len(m.old), len(m.young))
	}
}
