package rpc

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/docs"
	"github.com/vigil-ark/vigil/notify"
)

func pageOf(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// docs/api.md and docs/wallet-api.md name every path that is served and the
// limits as they are, and the example is a vector.
func TestAPIDoc(t *testing.T) {
	page, wallets := pageOf(t, "../docs/api.md"), pageOf(t, "../docs/wallet-api.md")
	spec, err := docs.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(spec, &api); err != nil || len(api.Paths) != 38 {
		t.Fatalf("%d paths, %v", len(api.Paths), err)
	}
	for path, methods := range api.Paths {
		for method := range methods {
			if want := "`" + strings.ToUpper(method) + " " + path + "`"; !strings.Contains(page+wallets, want) {
				t.Errorf("%s is not in a table", want)
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
	for _, want := range []string{
		fmt.Sprintf("| `--rate-per-wallet` | %v |", l.WalletRate),
		fmt.Sprintf("| `--burst-per-wallet` | %d |", l.WalletBurst),
		fmt.Sprintf("| `--max-watches` | %d |", l.Watches),
		fmt.Sprintf("at most %d requests under way; a payload has at most %d fields; an answer above %d bytes", l.WalletAtOnce, maxFields, maxKept),
		fmt.Sprintf("every %v seconds there is a `beat`", beat.Seconds()),
	} {
		if !strings.Contains(wallets, want) {
			t.Errorf("docs/wallet-api.md does not say %q", want)
		}
	}
	for _, kind := range notify.Kinds() {
		if !strings.Contains(wallets, fmt.Sprintf("`%s`", kind)) {
			t.Errorf("docs/wallet-api.md does not name the event %s", kind)
		}
	}
	var vectors struct {
		Requests []map[string]any
	}
	if err := json.Unmarshal([]byte(pageOf(t, "../auth/testdata/vectors.json")), &vectors); err != nil {
		t.Fatal(err)
	}
	v := vectors.Requests[0]
	for _, name := range []string{"server", "network", "method", "wallet", "key", "payload", "nonce", "hash", "signature"} {
		if want, ok := v[name].(string); !ok || !strings.Contains(wallets, want) {
			t.Errorf("the example has another %s than %s", name, want)
		}
	}
	if !strings.Contains(wallets, fmt.Sprintf("%016x ", int64(v["timestamp"].(float64)))) {
		t.Error("the example has another timestamp")
	}
}
