package stock

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docs/api.md tells the limits and windows as they are.
func TestAPIDoc(t *testing.T) {
	raw, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{}.withDefaults()
	for _, want := range []string{
		fmt.Sprintf("| `--max-inputs` | %d |", c.Inputs),
		fmt.Sprintf("| `--max-outputs` | %d |", c.Outputs),
		fmt.Sprintf("| `--max-per-script` | %d |", c.PerScript),
		fmt.Sprintf(`{"type":%q,"server":`, ListKind),
		fmt.Sprintf("at most %.0f seconds off", window.Seconds()),
		fmt.Sprintf("open ones first, %d at the most", maxListed),
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("docs/api.md does not say %q", want)
		}
	}
}
