package search

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/vigil-ark/vigil/secret"
)

func key(seed byte) []byte {
	r := rand.New(rand.NewChaCha8([32]byte{seed}))
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func searcher(t *testing.T, b []byte) *Searcher {
	t.Helper()
	s := new(Searcher)
	if err := s.Add("key", secret.New(bytes.Clone(b))); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFindsWhatPrintersWrite leaks a key in the ways in which code does.
func TestFindsWhatPrintersWrite(t *testing.T) {
	b := key(1)
	var reversed []byte
	for i := range b {
		reversed = append(reversed, b[len(b)-1-i])
	}
	asJSON, err := json.Marshal(map[string]any{"k": b, "n": 1})
	if err != nil {
		t.Fatal(err)
	}
	var ints []int
	for _, c := range b {
		ints = append(ints, int(c))
	}
	asInts, err := json.Marshal(ints)
	if err != nil {
		t.Fatal(err)
	}
	leaks := map[string]string{
		"raw":         string(b),
		"little":      string(reversed),
		"hex":         hex.EncodeToString(b),
		"HEX":         strings.ToUpper(hex.EncodeToString(b)),
		"%v":          fmt.Sprintf("%v", b),
		"%+v struct":  fmt.Sprintf("%+v", struct{ a [32]byte }{[32]byte(b)}),
		"%#v":         fmt.Sprintf("%#v", b),
		"% x":         fmt.Sprintf("% x", b),
		"json":        string(asJSON),
		"json ints":   string(asInts),
		"decimal":     new(big.Int).SetBytes(b).String(),
		"base64url":   base64.URLEncoding.EncodeToString(b),
		"base64 in 1": base64.StdEncoding.EncodeToString(append([]byte("x"), b...)),
		"base64 in 2": base64.StdEncoding.EncodeToString(append(append([]byte("xy"), b...), "tail"...)),
	}
	for name, leak := range leaks {
		s := searcher(t, b)
		if found := s.Text(name, []byte("some text before "+leak+" and after")); len(found) == 0 {
			t.Errorf("%s: not found", name)
		}
		if found := s.Text(name, []byte("some text before "+leak[:len(leak)/2]+" and after")); len(found) > 0 {
			t.Errorf("%s: half of it was found as %v", name, found)
		}
	}
}

func TestFindsAcrossReads(t *testing.T) {
	b := key(2)
	for _, at := range []int{0, 1, 1<<20 - 40, 1<<20 - 1, 1 << 20, 3<<20 - 7} {
		text := make([]byte, 4<<20)
		copy(text[at:], b)
		s := searcher(t, b)
		found, err := s.Read("stream", bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Offset != int64(at) || found[0].Encoding != "raw" {
			t.Errorf("planted at %d, found %v", at, found)
		}
		if s.Bytes() != int64(len(text)) {
			t.Errorf("searched %d bytes of %d", s.Bytes(), len(text))
		}
	}
}

func TestFilesAndNames(t *testing.T) {
	b := key(3)
	s := searcher(t, b)
	found, err := s.FS(fstest.MapFS{
		"kv/db":                               {Data: append(make([]byte, 1000), b...)},
		"log":                                 {Data: []byte("all is well")},
		"x/" + hex.EncodeToString(b):          {Data: nil},
		"clean/" + hex.EncodeToString(key(4)): {Data: key(4)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Errorf("found %v", found)
	}
	for _, f := range found {
		if strings.Contains(f.String(), string(b)) {
			t.Error("a finding shows the secret")
		}
	}
}

func TestRefusesShort(t *testing.T) {
	if err := new(Searcher).Add("pin", secret.New([]byte("1234"))); !errors.Is(err, ErrShort) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkRead(b *testing.B) {
	s := new(Searcher)
	for i := range 16 {
		if err := s.Add("key", secret.New(key(byte(i)))); err != nil {
			b.Fatal(err)
		}
	}
	text := make([]byte, 8<<20)
	r := rand.New(rand.NewChaCha8([32]byte{9}))
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := s.Read("x", bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestProve(t *testing.T) {
	dir := t.TempDir()
	if found, err := Prove(dir, filepath.Join(t.TempDir(), "x")); err == nil || found {
		t.Errorf("an empty folder: %v, %v", found, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kv.db"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	scratch := filepath.Join(t.TempDir(), "x")
	if found, err := Prove(dir, scratch); err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := os.Stat(scratch); !os.IsNotExist(err) {
		t.Errorf("the scratch copy stays: %v", err)
	}
}
