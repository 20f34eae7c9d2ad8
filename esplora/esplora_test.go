package esplora_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
	arkesplora "github.com/vigil-ark/vigil/arktest/esplora"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/renewal"
)

var _ renewal.Chain = (*esplora.Client)(nil)

// TestAgainstAChain follows one transaction from nowhere to the depth of a
// chain and sees its output spent.
func TestAgainstAChain(t *testing.T) {
	c, err := chain.New(chain.Config{})
	if err != nil {
		t.Fatal(err)
	}
	api := arkesplora.New(t.Context(), c, arkesplora.Config{})
	defer api.Close()
	server := httptest.NewServer(api)
	defer server.Close()
	client, err := esplora.New(server.URL+"/api/", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	confirmations := func(id chainhash.Hash, want int64) {
		t.Helper()
		got, err := client.Confirmations(t.Context(), id)
		if err != nil || got != want {
			t.Fatalf("%d confirmations, %v; want %d", got, err, want)
		}
	}
	confirmations(chainhash.Hash{1}, -1)
	anyone := []byte{0x51} // OP_TRUE
	op, err := c.Faucet(anyone, 50_000)
	if err != nil {
		t.Fatal(err)
	}
	confirmations(op.Hash, 0)
	c.Mine(1)
	confirmations(op.Hash, 1)
	c.Mine(5)
	confirmations(op.Hash, 6)

	spend := wire.NewMsgTx(2)
	spend.AddTxIn(wire.NewTxIn(&op, nil, nil))
	spend.AddTxOut(wire.NewTxOut(49_000, anyone))
	spenderIs := func(want chainhash.Hash, wantOK bool) {
		t.Helper()
		got, ok, err := client.Spender(t.Context(), op)
		if err != nil || ok != wantOK || got != want {
			t.Fatalf("spender %s, %t, %v; want %s, %t", got, ok, err, want, wantOK)
		}
	}
	spenderIs(chainhash.Hash{}, false)
	if err := c.Broadcast(spend); err != nil {
		t.Fatal(err)
	}
	spenderIs(chainhash.Hash{}, false) // in the mempool: it may still be replaced
	c.Mine(1)
	spenderIs(spend.TxHash(), true)
	if _, ok, err := client.Spender(t.Context(), wire.OutPoint{Hash: chainhash.Hash{9}}); ok || err != nil {
		t.Fatalf("the spender of an unknown outpoint: %t, %v", ok, err)
	}
}

// TestBadAnswers holds that nothing wrong is taken for an answer.
func TestBadAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   error // nil: a *StatusError
	}{
		"server error":    {status: http.StatusInternalServerError},
		"too many":        {status: http.StatusTooManyRequests},
		"no JSON":         {status: 200, body: "hello", want: esplora.ErrAnswer},
		"endless":         {status: 200, body: strings.Repeat("[", 1<<20), want: esplora.ErrAnswer},
		"negative height": {status: 200, body: `{"confirmed":true,"block_height":-3}`, want: esplora.ErrAnswer},
		"no tip":          {status: 200, body: `{"confirmed":true,"block_height":3}`, want: esplora.ErrAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			}))
			defer server.Close()
			client, err := esplora.New(server.URL, server.Client())
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Confirmations(t.Context(), chainhash.Hash{1})
			var status *esplora.StatusError
			if tc.want != nil && !errors.Is(err, tc.want) || tc.want == nil && !errors.As(err, &status) {
				t.Fatalf("got %v", err)
			}
		})
	}
	t.Run("spender", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"spent":true,"txid":"zz","status":{"confirmed":true}}`))
		}))
		defer server.Close()
		client, err := esplora.New(server.URL, server.Client())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := client.Spender(t.Context(), wire.OutPoint{}); !errors.Is(err, esplora.ErrAnswer) {
			t.Fatalf("got %v", err)
		}
	})
	for _, bad := range []string{"", "ftp://x", "http://", "x:7", "http://h/?q", "://"} {
		if _, err := esplora.New(bad, nil); !errors.Is(err, esplora.ErrConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// body answers every request with itself.
type body string

func (b body) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(b)))}, nil
}

// FuzzAnswers holds that any answer gives a depth that can be, or an error.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{`{"confirmed":true,"block_height":3}`, `{"spent":true,"txid":"00","status":{"confirmed":true}}`, "7", "null", "{}", "[]", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := esplora.New("http://esplora", &http.Client{Transport: body(text)})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Confirmations(t.Context(), chainhash.Hash{1}); err == nil && n < 0 {
			t.Fatalf("%d confirmations of a transaction that is there", n)
		}
		if id, ok, err := c.Spender(t.Context(), wire.OutPoint{}); (err != nil || !ok) && id != (chainhash.Hash{}) {
			t.Fatal("a spender that is none")
		}
		_, _ = c.Tip(t.Context())
	})
}
