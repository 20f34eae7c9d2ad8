package rpc

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/docs"
)

// docs/api.md names every path that is served and the limits as they are.
func TestAPIDoc(t *testing.T) {
	raw, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	spec, err := docs.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(spec, &api); err != nil || len(api.Paths) != 36 {
		t.Fatalf("%d paths, %v", len(api.Paths), err)
	}
	for path, methods := range api.Paths {
		for method := range methods {
			if want := "`" + strings.ToUpper(method) + " " + path + "`"; !strings.Contains(page, want) {
				t.Errorf("%s is not in the table", want)
			}
		}
	}
	l := Limits{}.withDefaults()
	for _, want := range []string{
		fmt.Sprintf("| `--max-body` | %d |", l.Body),
		fmt.Sprintf("| `--rate-per-source` | %v |", l.Rate),
		fmt.Sprintf("| `--burst-per-source` | %d |", l.Burst),
		fmt.Sprintf("| `--max-streams` | %d |", l.Streams),
		fmt.Sprintf("may take %v seconds and %d bytes, the whole request %v seconds", l.Head.Seconds(), l.Header, l.Timeout.Seconds()),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/api.md does not say %q", want)
		}
	}
}
