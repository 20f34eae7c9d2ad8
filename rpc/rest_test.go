package rpc_test

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/docs"
	"github.com/vigil-ark/vigil/rpc"
)

type exchange struct {
	Method, Path string
	Request      json.RawMessage
	Status       int
	Response     map[string]any
}

func captures(t testing.TB) map[string]exchange {
	t.Helper()
	raw, err := os.ReadFile("testdata/fulmine.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]exchange
	if err := json.Unmarshal(raw, &all); err != nil || len(all) != 2 {
		t.Fatalf("%d captures, %v", len(all), err)
	}
	return all
}

func fulmineTerms(t testing.TB) vigil.Terms {
	t.Helper()
	info := captures(t)["delegator-rest-info"].Response
	return vigil.Terms{Key: info["pubkey"].(string), Fee: 400, Address: info["delegateAddress"].(string)}
}

// Where Fulmine stood, the stock SDK must not notice a difference: every field
// of its answers, and no other, with the same values.
func TestAnswersAreFulmines(t *testing.T) {
	f := &fake{terms: fulmineTerms(t)}
	s := server(t, rpc.Config{}, f)
	for name, c := range captures(t) {
		w := do(s, c.Method, c.Path, string(c.Request), "Content-Type", "application/json")
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if w.Code != c.Status || !reflect.DeepEqual(got, c.Response) {
			t.Errorf("%s: %d %s, Fulmine answers %d %v", name, w.Code, w.Body, c.Status, c.Response)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: content type %q", name, got)
		}
	}
	if w := do(s, "GET", "/v1/delegate/info", ""); w.Code != 200 || !strings.Contains(w.Body.String(), f.terms.Key) {
		t.Errorf("the other path of the info: %d %s", w.Code, w.Body)
	}
}

// What arrives at the port is what the wallet sent.
func TestSubmissionArrives(t *testing.T) {
	f := &fake{}
	s := server(t, rpc.Config{}, f)
	c := captures(t)["delegator-rest-delegate"]
	var sent struct {
		Intent struct{ Message, Proof string }
		Fs     []string `json:"forfeit_txs"`
	}
	if err := json.Unmarshal(c.Request, &sent); err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(string(c.Request), `"reject_replace": false`, `"reject_replace": true, "unknown": [{}]`, 1)
	if w := do(s, "POST", c.Path, body); w.Code != 200 || w.Body.String() != "{}" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := vigil.Submission{
		Intent: vigil.Intent{Message: sent.Intent.Message, Proof: sent.Intent.Proof}, Forfeits: sent.Fs, RejectReplace: true,
	}
	if len(f.submitted) != 1 || !reflect.DeepEqual(f.submitted[0], want) || len(sent.Fs) != 1 || sent.Intent.Proof == "" {
		t.Errorf("arrived: %+v", f.submitted)
	}
}

func TestListAndCancel(t *testing.T) {
	f := &fake{
		one: vigil.Summary{ID: vigil.DelegateID{1}, State: "cancelled"},
		list: []vigil.Summary{{
			ID: vigil.DelegateID{2}, State: "due", ValidAt: 10, NextAttempt: 20, Inputs: []string{"aa:0"}, Amount: 1234, ExpiresAt: 30,
			Attempts: 4, ErrorCode: "BANNED", ErrorText: "wait", CommitmentTx: "cc",
		}},
	}
	s := server(t, rpc.Config{}, f)
	w := do(s, "POST", "/v1/delegates/list", `{"message":"m","proof":"p"}`)
	var got, want any
	const text = `{"delegates":[{"id":"02000000000000000000000000000000","state":"due","validAt":"10","nextAttempt":"20","inputs":["aa:0"],
		"amount":"1234","expiresAt":"30","attempts":4,"lastError":{"code":"BANNED","message":"wait"},"commitmentTxid":"cc"}]}`
	if json.Unmarshal(w.Body.Bytes(), &got) != nil || json.Unmarshal([]byte(text), &want) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("list: %d %s", w.Code, w.Body)
	}
	w = do(s, "POST", "/v1/delegates/cancel", `{"message":"m","proof":"p"}`)
	if json.Unmarshal(w.Body.Bytes(), &got) != nil || !reflect.DeepEqual(got, map[string]any{"id": "01000000000000000000000000000000", "state": "cancelled"}) {
		t.Errorf("cancel: %d %s", w.Code, w.Body)
	}
	f.list = nil
	if w := do(s, "POST", "/v1/delegates/list", `{}`); w.Body.String() != `{"delegates":[]}` {
		t.Errorf("an empty list: %s", w.Body)
	}
	if in := (vigil.Intent{Message: "m", Proof: "p"}); len(f.intents) != 3 || f.intents[0] != in || f.intents[1] != in {
		t.Errorf("arrived: %v", f.intents)
	}
}

func TestBrowsersAreLetIn(t *testing.T) {
	f := &fake{err: vigil.Errorf(vigil.CodeInputSpent, "spent")}
	s := server(t, rpc.Config{Limits: rpc.Limits{Burst: 3, Rate: .001}}, f)
	for range 10 { // preflights are not counted
		w := do(s, "OPTIONS", "/v1/delegate", "", "Origin", "https://wallet.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		h := w.Header()
		if w.Code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Content-Type") {
			t.Fatalf("preflight: %d %v", w.Code, h)
		}
	}
	for i, w := range []*http.Response{
		do(s, "GET", "/v1/delegator/info", "").Result(),
		do(s, "POST", "/v1/delegate", `{"intent":{}}`).Result(),
		do(s, "GET", "/nowhere", "").Result(),
		do(s, "GET", "/v1/delegator/info", "").Result(), // over the limit
	} {
		if w.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("answer %d, a %d, cannot be read by a browser", i, w.StatusCode)
		}
	}
}

func TestMalformedBodies(t *testing.T) {
	var count counter
	f := &fake{}
	s := server(t, rpc.Config{Refused: count.refused, Limits: roomy()}, f)
	bodies := map[string]string{
		"no JSON":         "register me",
		"a list":          "[]",
		"a string":        `"x"`,
		"cut":             `{"intent":{"message":"`,
		"wrong type":      `{"intent":[1]}`,
		"number as text":  `{"intent":{"message":7}}`,
		"forfeits object": `{"intent":{},"forfeit_txs":{}}`,
		"forfeits number": `{"intent":{},"forfeit_txs":[1]}`,
		"bool as text":    `{"intent":{},"reject_replace":"yes"}`,
		"key twice":       `{"intent":{},"intent":{}}`,
		"not UTF-8":       "{\"intent\":{\"message\":\"\xff\xfe\"}}",
		"deep":            `{"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		"a form":          "intent=1&forfeit_txs=2",
		"empty":           "",
		"no intent":       `{"forfeit_txs":[]}`,
		"null intent":     `{"intent":null}`,
	}
	for name, body := range bodies {
		w := do(s, "POST", "/v1/delegate", body, "Content-Type", "application/json")
		wantCode(t, w, http.StatusBadRequest, vigil.CodeMalformed)
		if len(w.Body.Bytes()) > 2000 {
			t.Errorf("%s: an answer of %d bytes", name, w.Body.Len())
		}
	}
	if len(f.submitted) > 0 {
		t.Errorf("arrived: %d", len(f.submitted))
	}
	if n := count.of(vigil.CodeMalformed); n != len(bodies) {
		t.Errorf("%d of %d were counted", n, len(bodies))
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	s := server(t, rpc.Config{Limits: roomy()}, &fake{})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 404},
		{"GET", "/v1/delegate", 405},
		{"PUT", "/v1/delegate", 405},
		{"POST", "/v1/delegator/info", 405},
		{"GET", "/v1/delegates/list", 405},
		{"POST", "/v1/delegates/../delegate/", 307},
		{"GET", "/metrics", 404},
		{"GET", "/openapi.json", 404},
		{"POST", "/fulmine.v1.DelegateService/Delegate", 404}, // gRPC's path without gRPC
	} {
		if w := do(s, c.method, c.path, ""); w.Code != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
	// A form cannot reach what GET serves by overriding its method.
	w := do(s, "POST", "/v1/delegator/info", "", "Content-Type", "application/x-www-form-urlencoded", "X-HTTP-Method-Override", "GET")
	if w.Code/100 != 4 {
		t.Errorf("an overridden method: %d", w.Code)
	}
}

func TestOpenAPI(t *testing.T) {
	spec, err := docs.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	s := server(t, rpc.Config{
		OpenAPI: spec, Limits: roomy(),
		Wallets: &rpc.WalletService{Wallets: &wallets{}, Replay: &memory{}, Signer: host{newKey(t)}, Network: network},
	}, &fake{})
	w := do(s, "GET", "/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 {
		t.Fatalf("%d: %v", w.Code, err)
	}
	paths := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			paths++
			body, want := `{"intent":{}}`, 200
			if strings.HasPrefix(path, "/v1/wallet/") {
				body, want = `{}`, 400 // not signed: served, and refused
			}
			if w := do(s, strings.ToUpper(method), path, body); w.Code != want {
				t.Errorf("documented %s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
	if paths != 5+len(everyMethod(t)) {
		t.Errorf("%d paths are documented", paths)
	}
}

func FuzzREST(f *testing.F) {
	for _, c := range captures(f) {
		f.Add("/v1/delegate", []byte(c.Request))
	}
	f.Add("/v1/delegates/list", []byte(`{"message":"m","proof":"p"}`))
	f.Add("/v1/delegates/cancel", []byte("{}"))
	s := server(f, rpc.Config{Limits: roomy()}, &discard{})
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		switch path {
		case "/v1/delegate", "/v1/delegates/list", "/v1/delegates/cancel":
		default:
			t.Skip()
		}
		if w := do(s, "POST", path, string(body)); w.Code != 200 && w.Code != 400 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
