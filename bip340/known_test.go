package bip340

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

// TestKnown gives the same keys as NewKey, the first time and later, and remembers
// no more than it may.
func TestKnown(t *testing.T) {
	var known Known
	for round := range 2 {
		for n := range 5 {
			value := secret.New(bytes.Repeat([]byte{byte(n + 1)}, 32))
			want, err := NewKey(value)
			if err != nil {
				t.Fatal(err)
			}
			key, err := known.NewKey(value)
			if err != nil {
				t.Fatal(err)
			}
			value.Burn() // it took a copy
			sig, err := key.Sign([]byte("message"))
			if err != nil || key.PubKey() != want.PubKey() || !Verify(want.PubKey().XOnly(), []byte("message"), sig) {
				t.Errorf("round %d: %s for %s, %v", round, key.PubKey(), want.PubKey(), err)
			}
			key.Burn()
			if _, err := key.Sign(nil); !errors.Is(err, secret.ErrBurned) {
				t.Errorf("burned: %v", err)
			}
		}
	}
	if len(known.pubs) != 5 {
		t.Errorf("%d are known", len(known.pubs))
	}
	for _, b := range [][]byte{make([]byte, 32), bytes.Repeat([]byte{255}, 32), make([]byte, 31), nil} {
		if _, err := known.NewKey(secret.New(b)); err == nil {
			t.Error("taken for a key")
		}
	}
	for n := range maxKnown {
		b := make([]byte, 32)
		binary.BigEndian.PutUint32(b, uint32(n+1))
		known.pubs[[32]byte(b)] = PubKey{}
	}
	if _, err := known.NewKey(secret.New(bytes.Repeat([]byte{9}, 32))); err != nil || len(known.pubs) != 1 {
		t.Errorf("%d are known beyond the bound: %v", len(known.pubs), err)
	}
}
