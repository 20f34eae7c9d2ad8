package notify

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// host signs as Vigil's host key does.
type host struct {
	key  *bip340.Key
	down atomic.Bool
}

func newHost(t *testing.T) *host {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &host{key: k}
}

func (h *host) HostKey() bip340.PubKey { return h.key.PubKey() }

func (h *host) SignWebhook(_ context.Context, at int64, body []byte) ([64]byte, error) {
	if h.down.Load() {
		return [64]byte{}, errors.New("the secret store is down")
	}
	msg := message(at, body)
	return h.key.Sign(msg[:])
}

func message(at int64, body []byte) [32]byte {
	return bip340.TaggedHash("test", strconv.AppendInt(nil, at, 10), body)
}

// receiver answers with what it is told, in order, and then with 204.
type receiver struct {
	mu      sync.Mutex
	answers []any // int or error
	at      []time.Time
	bodies  [][]byte
	heads   []http.Header
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.bodies, r.heads = append(r.at, time.Now()), append(r.bodies, b), append(r.heads, req.Header)
	status := http.StatusNoContent
	if len(r.answers) > 0 {
		switch a := r.answers[0].(type) {
		case int:
			status = a
		case error:
			err = a
		}
		r.answers = r.answers[1:]
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Body: io.NopCloser(strings.NewReader("ok")), Header: http.Header{"Location": {"https://elsewhere.example/"}}, Request: req,
	}, nil
}

// hook runs a webhook in a bubble.
func hook(t *testing.T, r http.RoundTripper, change func(c *WebhookConfig)) (w *Webhook, drops func() []Drop) {
	t.Helper()
	var mu sync.Mutex
	var list []Drop
	cfg := WebhookConfig{
		URL: "https://bank.example/vigil", Signer: newHost(t), Transport: r, Workers: 1,
		OnDrop: func(d Drop) { mu.Lock(); defer mu.Unlock(); list = append(list, d) },
	}
	if change != nil {
		change(&cfg)
	}
	w, err := NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return w, func() []Drop { mu.Lock(); defer mu.Unlock(); return slices.Clone(list) }
}

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		w, drops := hook(t, r, nil)
		w.Offer(alice, Event{
			Kind: Uncovered, At: 77, Outpoints: []string{"ab:1"}, Delegate: vigil.DelegateID{5}, Text: "Sign a delegate.", Code: "X", TimeLeft: 3600,
		})
		w.Offer(bob, Event{Kind: Renewed, At: 78})
		synctest.Wait()
		if len(r.bodies) != 2 || len(drops()) != 0 {
			t.Fatalf("%d deliveries, %v", len(r.bodies), drops())
		}
		var got map[string]any
		if err := json.Unmarshal(r.bodies[0], &got); err != nil {
			t.Fatal(err)
		}
		id, _ := got["id"].(string)
		delete(got, "id")
		want := map[string]any{
			"wallet": alice.String(), "kind": "uncovered", "at": 77.0, "outpoints": []any{"ab:1"},
			"delegate_id": vigil.DelegateID{5}.String(), "text": "Sign a delegate.", "code": "X", "time_left": 3600.0,
		}
		if g, w := mustJSON(t, got), mustJSON(t, want); g != w || len(id) != 32 {
			t.Errorf("body %s, want %s, id %q", g, w, id)
		}
		if !strings.Contains(string(r.bodies[1]), `"outpoints":[]`) || strings.Contains(string(r.bodies[1]), "delegate_id") {
			t.Errorf("%s", r.bodies[1])
		}
		// The receiver can verify what it got.
		head := r.heads[0]
		sig, err := hex.DecodeString(head.Get(HeaderSignature))
		if err != nil || len(sig) != 64 {
			t.Fatalf("signature %q", head.Get(HeaderSignature))
		}
		at, err := strconv.ParseInt(head.Get(HeaderTimestamp), 10, 64)
		if err != nil || at != time.Now().Unix() {
			t.Errorf("time %q", head.Get(HeaderTimestamp))
		}
		key, err := bip340.ParsePubKeyHex(head.Get(HeaderKey))
		msg := message(at, r.bodies[0])
		if err != nil || !bip340.Verify(key.XOnly(), msg[:], [64]byte(sig)) || head.Get("Content-Type") != "application/json" {
			t.Errorf("key %v, %v", key, err)
		}
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRetries: what may pass later is tried again, ever more slowly, with the
// same body; what may not is given up at once.
func TestRetries(t *testing.T) {
	down := errors.New("no route")
	for name, tt := range map[string]struct {
		answers []any
		gaps    []time.Duration // between attempts
		drop    string          // "": delivered
	}{
		"at once":            {nil, nil, ""},
		"after errors":       {[]any{down, 500, 503, 429, 408}, []time.Duration{2, 4, 8, 16, 32}, ""},
		"never":              {[]any{500, 500, 500, 500, 500, down}, []time.Duration{2, 4, 8, 16, 32}, "no route"},
		"refused":            {[]any{400}, nil, "status 400"},
		"gone":               {[]any{500, 410}, []time.Duration{2}, "status 410"},
		"a redirect":         {[]any{302}, nil, "redirects"},
		"a permanent one":    {[]any{308}, nil, "redirects"},
		"informational only": {[]any{199}, nil, "status 199"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &receiver{answers: tt.answers}
			w, drops := hook(t, r, nil)
			w.Offer(alice, Event{Kind: Failed})
			time.Sleep(10 * time.Minute) // of the bubble
			synctest.Wait()
			var gaps []time.Duration
			for i := 1; i < len(r.at); i++ {
				gaps = append(gaps, r.at[i].Sub(r.at[i-1])/time.Second)
				if !bytes.Equal(r.bodies[i], r.bodies[0]) {
					t.Errorf("%s: attempt %d has another body", name, i)
				}
			}
			if !slices.Equal(gaps, tt.gaps) {
				t.Errorf("%s: waited %v, want %v", name, gaps, tt.gaps)
			}
			d := drops()
			switch {
			case tt.drop == "" && len(d) != 0, tt.drop != "" && len(d) != 1:
				t.Errorf("%s: %v", name, d)
			case tt.drop != "" && (!errors.Is(d[0].Err, ErrGaveUp) || !strings.Contains(d[0].Err.Error(), tt.drop) || d[0].Kind != Failed):
				t.Errorf("%s: %v", name, d[0])
			}
		})
	}
}

// TestSignerDown: an event that cannot be signed now is tried again.
func TestSignerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.down.Store(true)
		r := &receiver{}
		w, drops := hook(t, r, func(c *WebhookConfig) { c.Signer = h })
		w.Offer(alice, Event{Kind: Banned})
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		h.down.Store(false)
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		if len(r.bodies) != 1 || len(drops()) != 0 {
			t.Errorf("%d, %v", len(r.bodies), drops())
		}
	})
}

// TestBounded: a receiver that hangs costs no more than the queue, and stopping
// does not wait for it.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, drops := hook(t, hanging{}, func(c *WebhookConfig) { c.Queue = 2 })
		w.Offer(alice, Event{Kind: Received})
		synctest.Wait() // it is with the worker now
		for range 5 {
			w.Offer(alice, Event{Kind: Received})
		}
		if d := drops(); len(d) != 3 || !errors.Is(d[0].Err, ErrQueueFull) {
			t.Errorf("%v", d)
		}
		time.Sleep(time.Hour) // of the bubble: attempts time out and the queue empties
		synctest.Wait()
		if d := drops(); len(d) != 6 || !errors.Is(d[5].Err, ErrGaveUp) {
			t.Errorf("%v", d)
		}
		w.Offer(alice, Event{Kind: Received})
		synctest.Wait()
	})
}

// hanging never answers.
type hanging struct{}

func (hanging) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, context.Cause(req.Context())
}

// TestRealServer delivers over a socket and follows no redirect.
func TestRealServer(t *testing.T) {
	hits := make(chan string, 4)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits <- "elsewhere" }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(_ http.ResponseWriter, r *http.Request) { hits <- r.Method + " ok" })
	mux.Handle("/away", http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, path := range []string{"/ok", "/away"} {
		w, drops := hook(t, nil, func(c *WebhookConfig) {
			c.URL, c.OnDrop = server.URL+path, func(d Drop) { hits <- d.Err.Error() }
		})
		w.Offer(alice, Event{Kind: Sent})
		got := <-hits
		if want := map[string]string{"/ok": "POST ok", "/away": "redirects (307)"}[path]; !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v", path, got, drops())
		}
	}
	if len(hits) != 0 {
		t.Errorf("then %q", <-hits)
	}
}

// TestURLStaysSecret: what comes out of errors ends in logs, and a path may be
// what lets one in.
func TestURLStaysSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, drops := hook(t, &receiver{answers: []any{errors.New("no route")}}, func(c *WebhookConfig) { c.URL, c.Attempts = "https://bank.example/s3cret", 1 })
		w.Offer(alice, Event{Kind: Failed})
		synctest.Wait()
		if d := drops(); len(d) != 1 || strings.Contains(d[0].Err.Error(), "s3cret") || !strings.Contains(d[0].Err.Error(), "no route") {
			t.Errorf("%v", d)
		}
	})
	if _, err := NewWebhook(WebhookConfig{URL: "https://bank.example/%s3cret", Signer: newHost(t)}); err == nil || strings.Contains(err.Error(), "bank") {
		t.Error(err)
	}
}

func TestWebhookURL(t *testing.T) {
	for _, u := range []string{"", "bank.example", "http://bank.example/", "ftp://127.0.0.1/", "https://", "https://me@bank.example/", "https://bank.example/#x", "http://127.0.0.1.bank.example/", ":"} {
		if _, err := NewWebhook(WebhookConfig{URL: u, Signer: newHost(t)}); !errors.Is(err, ErrWebhook) {
			t.Errorf("%q: %v", u, err)
		}
	}
	for _, u := range []string{"https://bank.example", "https://bank.example:8443/a?b=c", "http://localhost:9/x", "http://127.0.0.1:9/", "http://[::1]:9/"} {
		if _, err := NewWebhook(WebhookConfig{URL: u, Signer: newHost(t)}); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
	// What is not set has a default: a transport of its own, which asks no proxy of
	// the environment, and nobody who is told of drops.
	w, err := NewWebhook(WebhookConfig{URL: "https://bank.example", Signer: newHost(t), Queue: 1})
	if err != nil || w.client.Transport == nil || w.client.Transport == http.DefaultTransport {
		t.Fatal(err)
	}
	w.Offer(alice, Event{})
	w.Offer(alice, Event{})
	if _, err := NewWebhook(WebhookConfig{URL: "https://bank.example"}); !errors.Is(err, ErrWebhook) {
		t.Error("without a signer:", err)
	}
}
