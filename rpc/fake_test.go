package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is vigil.Delegates: it answers what its fields say and remembers what it
// was asked. Its zero value answers nothing and succeeds.
type fake struct {
	terms vigil.Terms
	list  []vigil.Summary
	one   vigil.Summary
	err   error
	panic any
	hold  chan struct{} // when set, every call says so on entered and waits for it
	enter chan struct{}

	mu        sync.Mutex
	submitted []vigil.Submission
	intents   []vigil.Intent
}

func (f *fake) answer(ctx context.Context) error {
	if f.panic != nil {
		panic(f.panic)
	}
	if f.hold != nil {
		f.enter <- struct{}{}
		select {
		case <-f.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fake) Terms(ctx context.Context) (vigil.Terms, error) { return f.terms, f.answer(ctx) }

func (f *fake) Submit(ctx context.Context, s vigil.Submission) (vigil.Summary, error) {
	f.mu.Lock()
	f.submitted = append(f.submitted, s)
	f.mu.Unlock()
	return f.one, f.answer(ctx)
}

func (f *fake) List(ctx context.Context, i vigil.Intent) ([]vigil.Summary, error) {
	f.asked(i)
	return f.list, f.answer(ctx)
}

func (f *fake) Cancel(ctx context.Context, i vigil.Intent) (vigil.Summary, error) {
	f.asked(i)
	return f.one, f.answer(ctx)
}

func (f *fake) asked(i vigil.Intent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intents = append(f.intents, i)
}

// server makes a server over f that ends with the test.
func server(t testing.TB, cfg rpc.Config, f vigil.Delegates) *rpc.Server {
	t.Helper()
	s, err := rpc.New(cfg, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// listen serves s on a port of its own and returns its address.
func listen(t testing.TB, s *rpc.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, s, l)
}

// serve serves s at a listener and returns its address.
func serve(t testing.TB, s *rpc.Server, l net.Listener) string {
	t.Helper()
	srv := s.HTTP()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr().String()
}

// dial connects over gRPC.
func dial(t testing.TB, addr string, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// do asks s in memory.
func do(s http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:1234"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// refusal is an error's body.
type refusal struct {
	Code    int
	Message string
	Details []map[string]any
}

func refused(t testing.TB, w *httptest.ResponseRecorder) refusal {
	t.Helper()
	var r refusal
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
	return r
}

// wantCode checks that an answer is a refusal with that code.
func wantCode(t testing.TB, w *httptest.ResponseRecorder, status int, code vigil.Code) {
	t.Helper()
	r := refused(t, w)
	if w.Code != status || !strings.HasPrefix(r.Message, string(code)+": ") || len(r.Details) == 0 || r.Details[0]["reason"] != string(code) {
		t.Errorf("%d %s, want %d %s", w.Code, w.Body, status, code)
	}
}

// roomy are limits that one test's requests do not meet.
func roomy() rpc.Limits { return rpc.Limits{Rate: 1e6, Burst: 1e6, WalletRate: 1e6, WalletBurst: 1e6} }

// recorder collects log lines.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *recorder) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// counter counts refusals by code.
type counter struct {
	mu sync.Mutex
	n  map[vigil.Code]int
}

func (c *counter) refused(code vigil.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[vigil.Code]int{}
	}
	c.n[code]++
}

func (c *counter) of(code vigil.Code) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[code]
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
