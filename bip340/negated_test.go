package bip340

import (
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

func TestNegated(t *testing.T) {
	k, s, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s.Burn()
	n, err := k.Negated()
	if err != nil {
		t.Fatal(err)
	}
	if n.PubKey().XOnly() != k.PubKey().XOnly() || n.PubKey()[0] == k.PubKey()[0] {
		t.Fatalf("negated %s is %s", k.PubKey(), n.PubKey())
	}
	sig, err := n.Sign([]byte("m"))
	if err != nil || !Verify(k.PubKey().XOnly(), []byte("m"), sig) {
		t.Fatalf("the negated key does not sign for the same x coordinate: %v", err)
	}
	k.Burn()
	if _, err := n.Sign([]byte("m")); err != nil {
		t.Errorf("burning one burned the other: %v", err)
	}
	if _, err := k.Negated(); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("negating a burned key: %v", err)
	}
}
