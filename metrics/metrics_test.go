package metrics_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/metrics"
	"github.com/vigil-ark/vigil/renewal"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

var (
	_ renewal.Observer = (*metrics.Metrics)(nil)
	_ metrics.Ledger   = (*ledger.Ledger)(nil)
)

type fakeLedger struct {
	counts     map[delegate.State]uint64
	at         time.Time
	unreadable int
	err        error
}

func (f *fakeLedger) UnreadableRows(context.Context) (int, error) { return f.unreadable, f.err }

func (f *fakeLedger) Counts(context.Context) (map[delegate.State]uint64, error) {
	return f.counts, f.err
}

func (f *fakeLedger) NearestExpiry(context.Context, time.Time) (time.Time, bool, error) {
	return f.at, !f.at.IsZero(), f.err
}

var now = time.Unix(1_800_000_000, 0)

// everything registers all there is, with something in every family.
func everything(t *testing.T) (*prometheus.Registry, *metrics.Metrics, *fakeLedger) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	led := &fakeLedger{counts: map[delegate.State]uint64{delegate.Armed: 7}, at: now.Add(90 * time.Second), unreadable: 2}
	if err := metrics.Watch(reg, led, func() time.Time { return now }); err != nil {
		t.Fatal(err)
	}
	if err := metrics.WatchWallets(reg, func() (active, quarantined int) { return 5, 1 }); err != nil {
		t.Fatal(err)
	}
	return reg, m, led
}

func TestHooks(t *testing.T) {
	reg, m, _ := everything(t)
	m.StreamUp(true)
	m.Batch(now, 3)
	m.Batch(now.Add(time.Minute), 2)
	m.Renewal("settled")
	m.Violation("leaf-missing")
	m.Refused(vigil.CodeInputSpent)
	m.Refused("SOMETHING_ELSE")
	m.Committed(3 * time.Millisecond)
	m.Dropped(true)
	values := scrape(t, reg)
	for line, want := range map[string]string{
		"vigil_stream_up":                                "1",
		"vigil_last_batch_timestamp_seconds":             "1.80000006e+09",
		"vigil_batches_total":                            "2",
		"vigil_batch_delegates_total":                    "5",
		`vigil_renewals_total{result="settled"}`:         "1",
		`vigil_renewals_total{result="failed"}`:          "0",
		`vigil_webhook_drops_total{reason="queue_full"}`: "1",
		`vigil_webhook_drops_total{reason="gave_up"}`:    "0",
		"vigil_wallets_active":                           "5",
		"vigil_wallets_quarantined":                      "1",
		`vigil_violations_total{rule="leaf-missing"}`:    "1",
		`vigil_refusals_total{code="INPUT_SPENT"}`:       "1",
		`vigil_refusals_total{code="DISK_LOW"}`:          "0",
		`vigil_commit_seconds_bucket{le="0.005"}`:        "1",
		`vigil_commit_seconds_bucket{le="0.002"}`:        "0",
		`vigil_delegates{state="armed"}`:                 "7",
		`vigil_delegates{state="quarantined"}`:           "0",
		"vigil_nearest_expiry_seconds":                   "90",
		"vigil_unreadable_rows":                          "2",
		"vigil_ledger_up":                                "1",
		`vigil_refusals_total{code="SOMETHING_ELSE"}`:    "",
		`vigil_refusals_total{code="INTERNAL"}`:          "1",
	} {
		if values[line] != want {
			t.Errorf("%s is %q, want %q", line, values[line], want)
		}
	}
	m.StreamUp(false)
	if got := scrape(t, reg)["vigil_stream_up"]; got != "0" {
		t.Errorf("stream down: %q", got)
	}
}

func TestLedgerThatCannotBeRead(t *testing.T) {
	reg, _, led := everything(t)
	led.err = errors.New("no disk")
	values := scrape(t, reg)
	if values["vigil_ledger_up"] != "0" || values["vigil_stream_up"] != "0" {
		t.Errorf("the rest is no longer scraped: %v", values)
	}
	if _, ok := values[`vigil_delegates{state="armed"}`]; ok {
		t.Error("counts that nobody read")
	}
	led.err, led.at = nil, time.Time{}
	if _, ok := scrape(t, reg)["vigil_nearest_expiry_seconds"]; ok {
		t.Error("an expiry without a delegate")
	}
}

func TestRegisteredOnce(t *testing.T) {
	reg, _, led := everything(t)
	if _, err := metrics.New(reg); err == nil {
		t.Error("a second set on one registry")
	}
	if err := metrics.Watch(reg, led, nil); err == nil {
		t.Error("a second ledger on one registry")
	}
}

// TestLint holds the names to what Prometheus's own tools expect.
func TestLint(t *testing.T) {
	reg, m, _ := everything(t)
	m.Violation("x")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// scrape reads the handler's answer as lines.
func scrape(t *testing.T, reg *prometheus.Registry) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Handler(reg).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d: %v", w.Code, err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			values[name] = value
		}
	}
	return values
}

// table is the list of families as the documentation has it.
func table(t *testing.T) string {
	t.Helper()
	reg, m, _ := everything(t)
	m.Violation("x")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| name | type | labels | what it is |\n|---|---|---|---|\n")
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}

const (
	doc    = "../docs/metrics.md"
	alerts = "../docs/alerts.yml"
	begin  = "<!-- begin: generated by go test ./metrics -update -->\n"
	end    = "<!-- end -->\n"
)

func TestDocIsCurrent(t *testing.T) {
	raw, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has lost its marks", doc)
	}
	want := head + begin + table(t) + end + tail
	if *update {
		if err := os.WriteFile(doc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(raw) != want {
		t.Errorf("%s is not current; run go test ./metrics -update", doc)
	}
}

// TestAlerts: seven rules, each complete, over metrics, states and codes that
// exist.
func TestAlerts(t *testing.T) {
	raw, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	rules := strings.Split(text, "- alert: ")[1:]
	if len(rules) != 7 {
		t.Errorf("%d rules", len(rules))
	}
	for _, rule := range rules {
		for _, field := range []string{"expr:", "for:", "severity:", "summary:", "description:"} {
			if strings.Count(rule, field) != 1 {
				t.Errorf("%s: lacks %s", rule[:strings.IndexByte(rule, '\n')], field)
			}
		}
	}
	known := table(t)
	names := regexp.MustCompile(`vigil_[a-z_]+`).FindAllString(text, -1)
	if len(names) < 5 {
		t.Errorf("only %v", names)
	}
	for _, name := range names {
		if !strings.Contains(known, "`"+strings.TrimSuffix(name, "_bucket")+"`") {
			t.Errorf("%s is no metric", name)
		}
	}
	for _, m := range regexp.MustCompile(`state="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if _, err := delegate.ParseState(m[1]); err != nil {
			t.Error(err)
		}
	}
	reg, _, _ := everything(t)
	told := scrape(t, reg)
	for _, m := range regexp.MustCompile(`vigil_[a-z_]+\{result="[^"]*"\}`).FindAllString(text, -1) {
		if _, is := told[m]; !is {
			t.Errorf("%s is not there before it happens", m)
		}
	}
	for _, m := range regexp.MustCompile(`code=~"([^"]*)"`).FindAllStringSubmatch(text, -1) {
		for _, code := range strings.Split(m[1], "|") {
			if !slices.ContainsFunc(vigil.Table, func(e vigil.Entry) bool { return string(e.Code) == code }) {
				t.Errorf("%s is no code", code)
			}
		}
	}
}
