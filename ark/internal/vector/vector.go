// Package vector reads the test vectors that the packages under ark share. It
// knows their container, not what is in them; only tests import it.
package vector

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Case is one vector with the projects whose files have it.
type Case struct {
	Src  []string        `json:"src"`
	Case json.RawMessage `json:"case"`
}

// File is a vector file: its cases by their path in the original.
type File map[string][]Case

// Load decodes a file of ark/testdata, gzipped when its name says so.
func Load(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		b, err = os.ReadFile(filepath.Join("..", "testdata", name))
	}
	if err == nil && strings.HasSuffix(name, ".gz") {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(z)
		}
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		tb.Fatalf("vectors %s: %v", name, err)
	}
}

// Open loads a File.
func Open(tb testing.TB, name string) File {
	tb.Helper()
	var f File
	Load(tb, name, &f)
	return f
}

// Each decodes the cases of a path and calls do for each.
func Each[T any](tb testing.TB, f File, path string, do func(c T)) {
	tb.Helper()
	if len(f[path]) == 0 {
		tb.Fatalf("no vectors %s", path)
	}
	for i, c := range f[path] {
		var v T
		if err := json.Unmarshal(c.Case, &v); err != nil {
			tb.Fatalf("vector %s %d: %v", path, i, err)
		}
		do(v)
	}
}

// Count fails unless the file has exactly these numbers of cases, by path and
// by project.
func Count(tb testing.TB, f File, want map[string]map[string]int) {
	tb.Helper()
	for path := range f {
		if want[path] == nil {
			tb.Errorf("vectors %s are not counted", path)
		}
	}
	for path, srcs := range want {
		for src, n := range srcs {
			got := 0
			for _, c := range f[path] {
				if slices.Contains(c.Src, src) {
					got++
				}
			}
			if got != n {
				tb.Errorf("vectors %s of %s: %d, want %d", path, src, got, n)
			}
		}
	}
}

// Hex decodes hex.
func Hex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
