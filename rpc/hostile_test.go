package rpc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/rpc"
)

// discard is vigil.Delegates that keeps nothing and refuses everything that has
// no message.
type discard struct{}

func (discard) Terms(context.Context) (vigil.Terms, error) { return vigil.Terms{}, nil }

func (discard) Submit(_ context.Context, s vigil.Submission) (vigil.Summary, error) {
	return vigil.Summary{}, some(s.Intent)
}

func (discard) List(_ context.Context, i vigil.Intent) ([]vigil.Summary, error) {
	return nil, some(i)
}

func (discard) Cancel(_ context.Context, i vigil.Intent) (vigil.Summary, error) {
	return vigil.Summary{}, some(i)
}

func some(i vigil.Intent) error {
	if i.Message == "" {
		return vigil.Errorf(vigil.CodeInvalidMessage, "the message is empty")
	}
	return nil
}

// hostile makes the n-th of a stream of bad requests, each from a source of its
// own: the worst for what is remembered of sources.
func hostile(r *rand.Rand, n int, good string) *http.Request {
	path := []string{"/v1/delegate", "/v1/delegates/list", "/v1/delegates/cancel", "/v1/delegator/info", "/nowhere"}[r.IntN(5)]
	body := ""
	switch r.IntN(8) {
	case 0:
		body = strings.Repeat("[", r.IntN(50_000))
	case 1:
		body = good[:r.IntN(len(good))]
	case 2:
		b := []byte(good)
		b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		body = string(b)
	case 3:
		body = `{"intent":{"message":"","proof":"` + strings.Repeat("A", r.IntN(100_000)) + `"}}`
	case 4:
		body = `{"forfeit_txs":["` + strings.Repeat(`","`, r.IntN(20_000)) + `"]}`
	case 5:
		body = strings.Repeat("x", 100_001+r.IntN(100_000)) // beyond the limit
	case 6:
		body = fmt.Sprintf(`{"%x":%d,"message":null}`, r.Uint64(), r.Uint64())
	}
	req := httptest.NewRequest([]string{"POST", "POST", "GET", "PUT", "OPTIONS"}[r.IntN(5)], path, strings.NewReader(body))
	if r.IntN(2) == 0 {
		req.ContentLength = -1
	}
	req.RemoteAddr = fmt.Sprintf("%d.%d.%d.%d:%d", 1+n>>24, n>>16&255, n>>8&255, n&255, 1+r.IntN(60_000))
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("%x", r.Uint64()))
	req.Header.Set("Grpc-Timeout", []string{"1S", "soon", "-1", "99999999H"}[r.IntN(4)])
	return req
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Strangers may ask what they like: 10,000 bad requests of 10,000 sources leave
// no more behind than 1,000 did, and the next good one is served.
func TestHostileRequestsLeaveNothing(t *testing.T) {
	const most = 5 << 20
	c := newClock()
	good := string(captures(t)["delegator-rest-delegate"].Request)
	var count counter
	s := server(t, rpc.Config{Now: c.now, Limits: rpc.Limits{Body: 100_000}, Refused: count.refused}, discard{})
	r := rand.New(rand.NewPCG(1, 2))
	var early int64
	for n := 1; n <= 10_000; n++ {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, hostile(r, n, good))
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Fatalf("request %d: %d %s", n, w.Code, w.Body)
		}
		c.advance(time.Millisecond)
		if n == 1000 {
			early = heap()
		}
	}
	if grown := heap() - early; grown > most || grown < -most {
		t.Errorf("the heap grew by %d bytes between request 1,000 and 10,000", grown)
	} else {
		t.Logf("the heap grew by %d bytes between request 1,000 and 10,000", grown)
	}
	if count.of(vigil.CodeMalformed) < 1000 || count.of(vigil.CodeBodyTooLarge) < 100 {
		t.Errorf("they were not hostile: %v", count.n)
	}
	if w := do(s, "POST", "/v1/delegate", good); w.Code != 200 {
		t.Errorf("a good one afterwards: %d %s", w.Code, w.Body)
	}
}
