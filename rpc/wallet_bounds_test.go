package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/vigilpb"
)

const addDevice = vigilpb.WalletService_AddDevice_FullMethodName

// A source's limits are told in the caller's own protocol, before its request
// is read.
func TestSourceLimitsOnEveryTransport(t *testing.T) {
	for name, c := range map[string]struct {
		limits rpc.Limits
		code   vigil.Code
	}{
		"rate": {rpc.Limits{Rate: .001, Burst: 1, WalletRate: 1e6, WalletBurst: 1e6}, vigil.CodeRateLimited},
		"body": {rpc.Limits{Rate: 1e6, Burst: 1e6, Body: 400, WalletRate: 1e6, WalletBurst: 1e6}, vigil.CodeBodyTooLarge},
	} {
		for i := range transports(t, "127.0.0.1:1") {
			r := newRig(t, &wallets{}, c.limits)
			tr := transports(t, r.addr)[i]
			first, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
			if _, err := tr.call(t.Context(), addDevice, first); err != nil {
				t.Errorf("%s: %s: the first: %v", tr.name, name, err)
			}
			second, hash := r.request(t, addDevice, &vigilpb.AddDeviceRequest{Name: strings.Repeat("x", 1000)})
			if _, err := tr.call(t.Context(), addDevice, second); codeIn(err) != c.code {
				t.Errorf("%s: %s: %v", tr.name, name, err)
			}
			if name == "rate" {
				if _, err := r.openWith(t.Context(), t, tr, second, hash); codeIn(err) != c.code {
					t.Errorf("%s: %s: a watch: %v", tr.name, name, err)
				}
			}
		}
	}
}

// One wallet's requests are bounded, whatever sources they come from, and
// another's are not touched; a stranger spends nothing of a wallet's.
func TestWalletLimits(t *testing.T) {
	limits := roomy()
	limits.WalletRate, limits.WalletBurst = 1, 3
	r := newRig(t, &wallets{permit: func(c auth.Call) error {
		if c.Epoch == 66 {
			return vigil.Errorf(vigil.CodeNotPermitted, "a stranger")
		}
		return nil
	}}, limits)
	tr := transports(t, r.addr)[0]
	call := func(edit ...func(*auth.Request)) error {
		q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{}, edit...)
		_, err := tr.call(t.Context(), addDevice, q)
		return err
	}
	for range 10 {
		if err := call(func(q *auth.Request) { q.Epoch = 66 }); codeIn(err) != vigil.CodeNotPermitted {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		if err := call(); err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	if err := call(); codeIn(err) != vigil.CodeWalletRate {
		t.Errorf("the fourth: %v", err)
	}
	if err := call(func(q *auth.Request) { q.Wallet[0] = 8 }); err != nil {
		t.Errorf("another wallet: %v", err)
	}
	q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
	b, err := protojson.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	if w := do(r.rpc, "POST", pathOf(addDevice), string(b)); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d, to be retried after %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	r.clock.advance(time.Second)
	// It was refused before it was taken: the same request passes now.
	if _, err := tr.call(t.Context(), addDevice, q); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestWalletRequestsAtOnceAreBounded(t *testing.T) {
	limits := roomy()
	limits.WalletAtOnce = 2
	port := &wallets{hold: make(chan struct{}), enter: make(chan struct{}, 8)}
	r := newRig(t, port, limits)
	tr := transports(t, r.addr)[1]
	var held sync.WaitGroup
	for range 2 {
		q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
		held.Go(func() {
			if _, err := tr.call(t.Context(), addDevice, q); err != nil {
				t.Error(err)
			}
		})
		<-port.enter
	}
	q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
	if _, err := tr.call(t.Context(), addDevice, q); codeIn(err) != vigil.CodeWalletBusy {
		t.Errorf("the third: %v", err)
	}
	close(port.hold)
	held.Wait()
	if _, err := tr.call(t.Context(), addDevice, q); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// What goes wrong in the house is told as that, and never carried out twice.
func TestFailuresInside(t *testing.T) {
	down := vigil.Errorf(vigil.CodeStoreDown, "the store is down")
	for name, c := range map[string]struct {
		set   func(*rig)
		first vigil.Code
		again vigil.Code
	}{
		"a panic":            {func(r *rig) { r.port.fail = func(auth.Call) error { panic("secret") } }, vigil.CodeInternal, vigil.CodeRetryNonce},
		"an unknown error":   {func(r *rig) { r.port.fail = func(auth.Call) error { return fmt.Errorf("secret") } }, vigil.CodeInternal, vigil.CodeInternal},
		"no memory to begin": {func(r *rig) { r.replay.down = down }, vigil.CodeStoreDown, ""},
		"no memory to finish": {func(r *rig) {
			r.port.fail = func(auth.Call) error {
				r.replay.mu.Lock()
				defer r.replay.mu.Unlock()
				r.replay.down = down
				return nil
			}
		}, vigil.CodeStoreDown, vigil.CodeRetryNonce},
		"no time": {func(r *rig) { r.port.fail = func(auth.Call) error { return context.DeadlineExceeded } }, vigil.CodeRetryNonce, vigil.CodeRetryNonce},
		"a damaged answer": {func(r *rig) {
			r.port.permit = func(c auth.Call) error {
				r.replay.mu.Lock()
				defer r.replay.mu.Unlock()
				r.replay.seen = map[string]*remembered{string(c.Key[:]) + string(c.Nonce[:]): {hash: c.Hash, answer: []byte{9}}}
				return nil
			}
		}, vigil.CodeInternal, vigil.CodeInternal},
	} {
		r := newRig(t, &wallets{}, roomy())
		c.set(r)
		tr := transports(t, r.addr)[2]
		q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
		_, err := tr.call(t.Context(), addDevice, q)
		if codeIn(err) != c.first || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %s", name, err, c.first)
		}
		r.replay.mu.Lock()
		r.replay.down = nil
		r.replay.mu.Unlock()
		if _, err := tr.call(t.Context(), addDevice, q); codeIn(err) != c.again {
			t.Errorf("%s: again: %v, want %s", name, err, c.again)
		}
		if n := len(r.port.all()); n > 1 {
			t.Errorf("%s: carried out %d times", name, n)
		}
	}
}

// An answer too large to keep is given once.
func TestLargeAnswersAreNotKept(t *testing.T) {
	r := newRig(t, &wallets{large: 300 << 10}, roomy())
	tr := transports(t, r.addr)[0]
	q, hash := r.request(t, vigilpb.WalletService_Recover_FullMethodName, &vigilpb.RecoverRequest{})
	a, err := tr.call(t.Context(), vigilpb.WalletService_Recover_FullMethodName, q)
	if err != nil || auth.VerifyAnswer(r.server, hash, 0, a) != nil || len(a.GetPayload()) < 300<<10 {
		t.Fatalf("%d bytes, %v", len(a.GetPayload()), err)
	}
	if _, err := tr.call(t.Context(), vigilpb.WalletService_Recover_FullMethodName, q); codeIn(err) != vigil.CodeRetryNonce {
		t.Errorf("again: %v", err)
	}
}

// GetServer is for strangers: it takes nothing but a nonce, and is remembered by
// nobody.
func TestGetServer(t *testing.T) {
	const get = vigilpb.WalletService_GetServer_FullMethodName
	r := newRig(t, &wallets{}, roomy())
	for _, tr := range transports(t, r.addr) {
		q, hash := r.request(t, get, &vigilpb.GetServerRequest{})
		for range 2 {
			a, err := tr.call(t.Context(), get, q)
			info := &vigilpb.ServerInfo{}
			if err != nil || auth.VerifyAnswer(r.server, hash, 0, a) != nil || proto.Unmarshal(a.GetPayload(), info) != nil || info.GetNetwork() != network {
				t.Errorf("%s: %v, %v", tr.name, info, err)
			}
		}
		for _, bad := range []*vigilpb.SignedRequest{
			{}, {Nonce: make([]byte, 15)}, {Nonce: make([]byte, 16), Epoch: 1}, {Nonce: make([]byte, 16), Timestamp: 1},
			{Nonce: make([]byte, 16), Key: make([]byte, 33)}, {Nonce: make([]byte, 16), Payload: []byte{8, 1}},
		} {
			if _, err := tr.call(t.Context(), get, bad); codeIn(err) != vigil.CodeMalformed {
				t.Errorf("%s: %v: %v", tr.name, bad, err)
			}
		}
	}
	if r.replay.len() != 0 {
		t.Errorf("%d are remembered", r.replay.len())
	}
}

// hostileCall makes the n-th of a stream of bad calls, each bad in its own way,
// over every protocol, each from a source of its own.
func hostileCall(t testing.TB, r *rig, rnd *rand.Rand, n int) *http.Request {
	full := everyNames[rnd.IntN(len(everyNames))]
	how := rnd.IntN(10)
	q, _ := r.request(t, full, &vigilpb.AddDeviceRequest{}, func(q *auth.Request) {
		switch how {
		case 0:
			q.Timestamp += int64(rnd.IntN(1000)) - 500
		case 1:
			q.Payload = bytes.Repeat([]byte{0x12, 0}, rnd.IntN(30_000)) // as many empty fields
		case 2:
			q.Wallet = bytes.Repeat([]byte{byte(n)}, rnd.IntN(40))
		}
	})
	switch how {
	case 3:
		q.Signature = append(bytes.Repeat([]byte{1}, 63), byte(n))
	case 4:
		q.Nonce = q.Nonce[:rnd.IntN(17)]
	case 5:
		q.Payload = append(q.Payload, byte(n))
	}
	body, err := proto.Marshal(q)
	kind, path := "application/proto", full
	switch n % 4 {
	case 1:
		body, err = protojson.Marshal(q)
		kind, path = "application/json", pathOf(full)
	case 2, 3: // gRPC's framing
		kind = []string{"application/grpc", "application/grpc-web+proto"}[n%2]
		size := len(body)
		if how == 6 {
			size = int(rnd.Uint32()) // of a message that is not there
		}
		body = append([]byte{byte(rnd.IntN(32) / 31), byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}, body...)
	}
	if err != nil {
		t.Fatal(err)
	}
	if how == 7 {
		body = body[:rnd.IntN(len(body)+1)]
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", kind)
	if how == 8 {
		req.Header.Set([]string{"Content-Encoding", "Grpc-Encoding", "Connect-Content-Encoding", "Content-Type"}[rnd.IntN(4)], "gzip")
	}
	if kind == "application/grpc" {
		req.ProtoMajor, req.ProtoMinor = 2, 0
	}
	req.RemoteAddr = fmt.Sprintf("%d.%d.%d.%d:%d", 1+n>>24, n>>16&255, n>>8&255, n&255, 1+rnd.IntN(60_000))
	return req
}

var everyNames = func() (list []string) {
	methods := vigilpb.WalletService_ServiceDesc.Methods
	for _, m := range methods {
		list = append(list, "/vigil.v1.WalletService/"+m.MethodName)
	}
	return append(list, watchMethod)
}()

// refusing is a port whose every wallet is somebody else's.
func refusing(auth.Call) error { return vigil.Errorf(vigil.CodeNotPermitted, "not yours") }

// 10,000 hostile calls of wallets leave no more behind than the first 1,000 did.
func TestHostileCallsLeaveNothing(t *testing.T) {
	const most = 5 << 20
	calls := 10_000
	if testing.Short() {
		calls = 1_500 // each is signed and verified, which the race detector slows tenfold
	}
	limits := roomy()
	limits.Body = 100_000
	r := newRig(t, &wallets{permit: refusing}, limits)
	rnd := rand.New(rand.NewPCG(3, 4))
	var early int64
	for n := 1; n <= calls; n++ {
		w := httptest.NewRecorder()
		r.rpc.ServeHTTP(w, hostileCall(t, r, rnd, n))
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("call %d: %d %s", n, w.Code, w.Body)
		}
		r.clock.advance(time.Millisecond)
		if n == calls/10 {
			early = heap()
		}
	}
	grown := heap() - early
	t.Logf("the heap grew by %d bytes between call %d and %d", grown, calls/10, calls)
	if grown > most || grown < -most {
		t.Error("it is not flat")
	}
	for code, least := range map[vigil.Code]int{vigil.CodeMalformed: calls / 20, vigil.CodeRequestSignature: calls / 20, vigil.CodeClockSkew: calls / 200, vigil.CodeNotPermitted: calls / 200} {
		if r.count.of(code) < least {
			t.Errorf("they were not hostile: %d times %s", r.count.of(code), code)
		}
	}
	if r.replay.len() != 0 {
		t.Errorf("%d of them are remembered", r.replay.len())
	}
	for _, c := range r.port.all() {
		if c.method != "GetServer" {
			t.Errorf("%s was carried out", c.method)
		}
	}
	r.port.permit = nil
	q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
	if _, err := transports(t, r.addr)[0].call(t.Context(), addDevice, q); err != nil {
		t.Errorf("a good one afterwards: %v", err)
	}
}

// The same request many times at once, over all transports, is carried out once.
func TestManyAtOnceIsOnce(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	q, _ := r.request(t, addDevice, &vigilpb.AddDeviceRequest{})
	var all sync.WaitGroup
	answers := make(chan *vigilpb.SignedAnswer, 64)
	for _, tr := range transports(t, r.addr) {
		for range 3 {
			all.Go(func() {
				a, err := tr.call(t.Context(), addDevice, q)
				switch {
				case err == nil:
					answers <- a
				case codeIn(err) != vigil.CodeRetryNonce:
					t.Errorf("%s: %v", tr.name, err)
				}
			})
		}
	}
	all.Wait()
	close(answers)
	first := <-answers
	for a := range answers {
		if !proto.Equal(a, first) {
			t.Errorf("another answer: %v", a)
		}
	}
	if n := len(r.port.all()); n != 1 || first == nil {
		t.Errorf("carried out %d times, answered %v", n, first)
	}
}

// Wallets in browsers may call, and read refusals of gRPC-Web.
func TestWalletsInBrowsers(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	for _, path := range []string{addDevice, pathOf(addDevice)} {
		w := do(r.rpc, "OPTIONS", path, "", "Origin", "https://wallet.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-grpc-web,connect-protocol-version")
		if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "*") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		w = do(r.rpc, "POST", path, "{}", "Origin", "https://wallet.example", "Content-Type", "application/json")
		if h := w.Header().Get("Access-Control-Expose-Headers"); !strings.Contains(h, "Grpc-Status-Details-Bin") || !strings.Contains(h, "Retry-After") {
			t.Errorf("%s: exposes %q", path, h)
		}
	}
}
