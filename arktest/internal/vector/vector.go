// Package vector reads the protocol's published test vectors for the test
// operator's own tests. They are the same files that Vigil's ark packages are
// held to: data may be shared, code may not.
package vector

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Cases decodes the cases of one path of a vector file.
func Cases[T any](tb testing.TB, file, path string) []T {
	tb.Helper()
	var all map[string][]struct{ Case json.RawMessage }
	load(tb, file, &all)
	if len(all[path]) == 0 {
		tb.Fatalf("no vectors %s in %s", path, file)
	}
	out := make([]T, len(all[path]))
	for i, c := range all[path] {
		if err := json.Unmarshal(c.Case, &out[i]); err != nil {
			tb.Fatalf("%s %s %d: %v", file, path, i, err)
		}
	}
	return out
}

func load(tb testing.TB, file string, into any) {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "ark", "testdata", file))
	if err == nil && strings.HasSuffix(file, ".gz") {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(raw)); err == nil {
			raw, err = io.ReadAll(z)
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		tb.Fatalf("vectors %s: %v", file, err)
	}
}
