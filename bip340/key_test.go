package bip340

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/vigil-ark/vigil/secret"
)

func TestNewKeyRange(t *testing.T) {
	order := unhex(t, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
	last := bytes.Clone(order)
	last[31]--
	for _, c := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"one", append(make([]byte, 31), 1), true},
		{"n-1", last, true},
		{"zero", make([]byte, 32), false},
		{"n", order, false},
		{"all ones", bytes.Repeat([]byte{255}, 32), false},
		{"short", make([]byte, 31), false},
		{"long", append(make([]byte, 32), 1), false},
	} {
		text := hex.EncodeToString(c.b)
		k, err := NewKey(secret.New(c.b))
		if (err == nil) != c.ok || (err != nil && (!errors.Is(err, ErrScalar) || strings.Contains(err.Error(), text))) {
			t.Errorf("%s: %v", c.name, err)
		}
		if (k != nil) != c.ok {
			t.Errorf("%s: key %v", c.name, k)
		}
	}
	if _, err := NewKey(secret.Bytes{}); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("burned: %v", err)
	}
}

func TestGenerateKey(t *testing.T) {
	k, kept, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewKey(kept)
	if err != nil || again.PubKey() != k.PubKey() {
		t.Fatalf("the bytes are another key: %v", err)
	}
	other, _, err := GenerateKey()
	if err != nil || other.PubKey() == k.PubKey() {
		t.Fatal("the same key twice")
	}
	kept.Burn()
	sig, err := k.Sign([]byte("m"))
	if err != nil || !Verify(k.PubKey().XOnly(), []byte("m"), sig) {
		t.Fatalf("the key died with the bytes: %v", err)
	}
	k.Burn()
	if _, err := k.Sign([]byte("m")); !errors.Is(err, secret.ErrBurned) {
		t.Fatalf("signed with a burned key: %v", err)
	}
	if _, err := again.Sign([]byte("m")); err != nil {
		t.Fatalf("burning one key burned another: %v", err)
	}
}

func TestSignFreshness(t *testing.T) {
	k, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range [][]byte{nil, []byte("m"), make([]byte, 32), make([]byte, 10_000)} {
		a, err := k.Sign(msg)
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.Sign(msg)
		if err != nil {
			t.Fatal(err)
		}
		if a == b {
			t.Error("auxiliary randomness is not fresh")
		}
		if !Verify(k.PubKey().XOnly(), msg, a) || !Verify(k.PubKey().XOnly(), msg, b) {
			t.Errorf("message of %d bytes does not verify", len(msg))
		}
		a[63] ^= 1
		if Verify(k.PubKey().XOnly(), msg, a) {
			t.Error("a changed signature verifies")
		}
	}
	if _, err := k.sign(iotest.ErrReader(errors.New("dry")), nil); !errors.Is(err, ErrRand) {
		t.Errorf("without randomness: %v", err)
	}
}

// TestUnprintable prints, logs and encodes a key and a nonce in every way that
// the standard library offers, also from within other values.
func TestUnprintable(t *testing.T) {
	raw := bytes.Repeat([]byte{0xA7, 0x31}, 32)
	k := mustKey(t, raw[:32])
	n, err := ImportSecNonce(k.PubKey(), secret.New(bytes.Clone(raw)))
	if err != nil {
		t.Fatal(err)
	}
	type inner struct {
		k *Key
		n *SecNonce
		v Key
		w SecNonce
	}
	values := []any{k, n, *k, *n, inner{k, n, *k, *n}, &inner{k, n, *k, *n}, []any{k, n}, map[string]any{"k": k, "n": n}}
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%T", "%p"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		b, _ := json.Marshal(v) // fails or shows nothing
		out.Write(b)
		_ = gob.NewEncoder(&out).Encode(v)
	}
	text := out.String()
	for _, form := range []string{string(raw[:8]), "a731a731", "A731A731", "167 49 167 49", "0xa7, 0x31", "pzGnMac", "10100111 110001"} {
		if strings.Contains(text, form) {
			t.Errorf("shows the secret as %q", form)
		}
	}
	if !strings.Contains(text, k.PubKey().String()) {
		t.Error("the search would not find anything")
	}
	for _, v := range []any{k, n} {
		if _, err := json.Marshal(v); err == nil {
			t.Errorf("%T marshals to JSON", v)
		}
		if err := gob.NewEncoder(&out).Encode(v); err == nil {
			t.Errorf("%T marshals to gob", v)
		}
	}
}
