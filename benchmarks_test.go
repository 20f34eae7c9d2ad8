package vigil_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBenchmarksDoc: every benchmark that docs/benchmarks.md has people run is where
// it says.
func TestBenchmarksDoc(t *testing.T) {
	doc, err := os.ReadFile("docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile("`(?:[A-Z_]+=\\d+ )*go test (\\S+) -run '\\^\\$' -bench '(\\w+)\\$'[^`]*`").FindAllStringSubmatch(string(doc), -1)
	if n := strings.Count(string(doc), "go test "); len(commands) != n || n < 10 {
		t.Fatalf("%d of %d commands are of the form that is looked for", len(commands), n)
	}
	for _, c := range commands {
		files, err := filepath.Glob(filepath.Join(c[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found += strings.Count(string(b), "\nfunc Benchmark"+c[2]+"(b *testing.B) {")
		}
		if found != 1 {
			t.Errorf("%s has %d benchmarks %s", c[1], found, c[2])
		}
	}
}
