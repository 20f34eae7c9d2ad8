package wallet_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/arktest/wallet"
)

const (
	serviceKey  = "023c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b1"
	serviceAddr = "tark1qprx6l72u437tjcf5rgcwza4sq6ysprp0pu6zj2feu3zshcm4clj03u5awjmd8t6j3hc7jgcs72c4rexh5pwjheddq7t6skhe64e6mgrhxcej9"
)

func TestServiceInfo(t *testing.T) {
	good := `{"pubkey":"` + serviceKey + `","fee":"12","delegatorAddress":"` + serviceAddr + `","delegateAddress":"` + serviceAddr + `","more":1}`
	tests := []struct {
		name, body string
		status     int
		ok         bool
	}{
		{"stock", good, 200, true},
		{"only the old name", strings.Replace(good, `"delegateAddress"`, `"x"`, 1), 200, true},
		{"no address", strings.NewReplacer(`"delegateAddress"`, `"x"`, `"delegatorAddress"`, `"y"`).Replace(good), 200, false},
		{"empty fee", strings.Replace(good, `"12"`, `""`, 1), 200, false},
		{"fee as a number", strings.Replace(good, `"12"`, `12`, 1), 200, false},
		{"x-only key", strings.Replace(good, `"02`, `"`, 1), 200, false},
		{"no JSON", "hello", 200, false},
		{"error", good, 503, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/delegator/info" || r.Method != http.MethodGet {
					t.Errorf("%s %s", r.Method, r.URL.Path)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			info, err := wallet.Service{URL: srv.URL + "/"}.Info(t.Context())
			if (err == nil) != tt.ok {
				t.Fatalf("%v", err)
			}
			if tt.ok && (info.Key.String() != serviceKey || info.Fee != 12 || info.Address.String() != serviceAddr) {
				t.Fatalf("%+v", info)
			}
		})
	}
}

func TestServiceDelegate(t *testing.T) {
	var got map[string]any
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/delegate" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s", r.Method, r.URL.Path, r.Header)
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "no room")
	}))
	defer srv.Close()
	s := wallet.Service{URL: srv.URL}
	req := wallet.DelegateRequest{Intent: wallet.Intent{Message: "m", Proof: "p"}, ForfeitTxs: []string{}}
	if err := s.Delegate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if b, _ := json.Marshal(got); string(b) != `{"forfeit_txs":[],"intent":{"message":"m","proof":"p"},"reject_replace":false}` {
		t.Fatalf("body %s", b)
	}
	status = http.StatusTooManyRequests
	var refused *wallet.ServiceError
	if err := s.Delegate(t.Context(), req); !errors.As(err, &refused) || refused.Status != status || refused.Body != "no room" {
		t.Fatalf("%v", err)
	}
}
