package admin_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/admin"
)

func TestSettingsReachTheOperator(t *testing.T) {
	op, err := arktest.Start(arktest.Config{NoEsplora: true})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	server := httptest.NewServer(admin.New(op))
	defer server.Close()
	do := func(path, body string) (int, string) {
		t.Helper()
		resp, err := http.Post(server.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for _, c := range []struct {
		name, path, body string
		code             int
		holds            func(arktest.Settings) bool
	}{
		{"strings, as protobuf's JSON", "/v1/admin/settings", `{"settings":{"sessionDuration":"7","vtxoTreeExpiry":"1048576"}}`, 200,
			func(s arktest.Settings) bool {
				return s.SessionDuration == 7*time.Second && s.TreeExpiry == 1048576
			}},
		{"numbers", "/v1/admin/settings", `{"settings":{"vtxoTreeExpiry":2097152,"roundMinParticipantsCount":2}}`, 200,
			func(s arktest.Settings) bool { return s.TreeExpiry == 2097152 && s.MinParticipants == 2 }},
		{"zero convictions never ban", "/v1/admin/settings", `{"settings":{"banThreshold":"0","banDuration":"60"}}`, 200,
			func(s arktest.Settings) bool { return s.BanThreshold < 0 && s.BanDuration == time.Minute }},
		{"unknown", "/v1/admin/settings", `{"settings":{"colour":"7"}}`, 400, nil},
		{"no number", "/v1/admin/settings", `{"settings":{"banThreshold":"1.5"}}`, 400, nil},
		{"contradiction", "/v1/admin/settings", `{"settings":{"roundMaxParticipantsCount":"1"}}`, 400,
			func(s arktest.Settings) bool { return s.MaxParticipants == 128 }},
		{"fees", "/v1/admin/intentFees", `{"fees":{"offchainInputFee":"2.0"}}`, 200,
			func(s arktest.Settings) bool { return s.Fees.OffchainInput == "2.0" }},
		{"no fee program", "/v1/admin/intentFees", `{"fees":{"offchainInputFee":"2.0 +"}}`, 400,
			func(s arktest.Settings) bool { return s.Fees.OffchainInput == "2.0" }},
		{"fees cleared, no body", "/v1/admin/intentFees/clear", ``, 200,
			func(s arktest.Settings) bool { return s.Fees == arktest.Fees{} }},
		{"no outpoint", "/v1/dev/expire", `{"outpoints":["x"]}`, 400, nil},
		{"no JSON", "/v1/dev/sweep", `{`, 400, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, text := do(c.path, c.body); code != c.code {
				t.Fatalf("answer %d: %s", code, text)
			}
			if c.holds != nil && !c.holds(op.Settings()) {
				t.Errorf("settings are %+v", op.Settings())
			}
		})
	}
	resp, err := http.Get(server.URL + "/v1/admin/intents")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); strings.TrimSpace(string(text)) != `{"intents":[]}` {
		t.Errorf("intents: %s", text)
	}
}
