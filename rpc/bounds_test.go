package rpc_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/rpc"
)

type grpcHeader struct{ md, trailer metadata.MD }

// clock is a time that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// from asks the info as a given peer.
func from(s http.Handler, peer string, forwarded ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/v1/delegate/info", nil)
	r.RemoteAddr = peer
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestDefaults(t *testing.T) {
	c := newClock()
	s := server(t, rpc.Config{Now: c.now}, &fake{})
	passed := 0
	for range 100 {
		if from(s, "192.0.2.1:1").Code == 200 {
			passed++
		}
	}
	if passed != 40 {
		t.Errorf("a burst of %d", passed)
	}
	c.advance(time.Second)
	passed = 0
	for range 100 {
		if from(s, "192.0.2.1:1").Code == 200 {
			passed++
		}
	}
	if passed != 20 {
		t.Errorf("%d a second", passed)
	}
	for size, want := range map[int]int{1 << 20: 400, 1<<20 + 1: 413} {
		if w := do(s, "POST", "/v1/delegate", strings.Repeat(" ", size), "X-Forwarded-For", "x"); w.Code != want {
			c.advance(time.Minute)
			if w = do(s, "POST", "/v1/delegate", strings.Repeat(" ", size)); w.Code != want {
				t.Errorf("%d bytes: %d", size, w.Code)
			}
		}
	}
	srv := s.HTTP()
	if srv.ReadHeaderTimeout != 10*time.Second || srv.ReadTimeout != 30*time.Second || srv.WriteTimeout != 40*time.Second ||
		srv.MaxHeaderBytes != 16<<10 || srv.HTTP2.MaxConcurrentStreams != 64 {
		t.Errorf("the port: %+v", srv)
	}
}

func TestRatePerSource(t *testing.T) {
	c := newClock()
	var count counter
	s := server(t, rpc.Config{Now: c.now, Refused: count.refused, Limits: rpc.Limits{Rate: 2, Burst: 4}}, &fake{})
	for i := range 4 {
		if w := from(s, "192.0.2.1:1"); w.Code != 200 {
			t.Fatalf("request %d of the burst: %d", i, w.Code)
		}
	}
	w := from(s, "192.0.2.1:2") // another port is the same source
	wantCode(t, w, http.StatusTooManyRequests, vigil.CodeRateLimited)
	if w.Header().Get("Retry-After") != "1" { // half a second, rounded up
		t.Errorf("wait %q", w.Header().Get("Retry-After"))
	}
	if w := from(s, "192.0.2.2:1"); w.Code != 200 {
		t.Errorf("another source: %d", w.Code)
	}
	c.advance(500 * time.Millisecond)
	if w := from(s, "192.0.2.1:1"); w.Code != 200 {
		t.Errorf("after the wait: %d", w.Code)
	}
	if w := from(s, "192.0.2.1:1"); w.Code != 429 {
		t.Errorf("one more: %d", w.Code)
	}
	if count.of(vigil.CodeRateLimited) != 2 {
		t.Errorf("counted %d", count.of(vigil.CodeRateLimited))
	}
	for range 10 { // what does no work is not counted
		if do(s, "GET", "/healthz", "").Code != 200 || do(s, "GET", "/readyz", "").Code != 200 {
			t.Fatal("liveness is limited")
		}
	}
}

func TestSources(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		first, second []string // peer, then X-Forwarded-For headers
		same          bool
	}{
		"two peers":                 {[]string{"192.0.2.1:1"}, []string{"192.0.2.2:1"}, false},
		"a stranger's header":       {[]string{"192.0.2.1:1", "198.51.100.1"}, []string{"192.0.2.1:1", "198.51.100.2"}, true},
		"a proxy's header":          {[]string{"10.0.0.1:1", "198.51.100.1"}, []string{"10.0.0.1:1", "198.51.100.2"}, false},
		"two proxies, one client":   {[]string{"10.0.0.1:1", "198.51.100.1"}, []string{"10.0.0.2:1", "198.51.100.1"}, true},
		"a chain":                   {[]string{"10.0.0.1:1", "198.51.100.1, 10.9.9.9"}, []string{"10.0.0.2:1", "198.51.100.1"}, true},
		"a chain in two headers":    {[]string{"10.0.0.1:1", "198.51.100.1", "10.9.9.9"}, []string{"10.0.0.2:1", "198.51.100.1"}, true},
		"a forged start of a chain": {[]string{"10.0.0.1:1", "203.0.113.1, 198.51.100.1"}, []string{"10.0.0.1:1", "203.0.113.2, 198.51.100.1"}, true},
		"with a port":               {[]string{"10.0.0.1:1", "198.51.100.1:777"}, []string{"10.0.0.1:1", "198.51.100.1"}, true},
		"nonsense from a proxy":     {[]string{"10.0.0.1:1", "unknown"}, []string{"10.0.0.1:1"}, true},
		"IPv6 of one network":       {[]string{"[2001:db8::1]:1"}, []string{"[2001:db8::ffff:1]:1"}, true},
		"IPv6 of two networks":      {[]string{"[2001:db8::1]:1"}, []string{"[2001:db8:0:1::1]:1"}, false},
		"IPv4 in IPv6":              {[]string{"[::ffff:192.0.2.1]:1"}, []string{"192.0.2.1:1"}, true},
		"an IPv6 proxy":             {[]string{"[fd00::1]:1", "198.51.100.1"}, []string{"[fd00::1]:1", "198.51.100.2"}, false},
		"no address at all":         {[]string{"@"}, []string{"pipe"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := newClock()
			s := server(t, rpc.Config{Now: c2.now, Limits: rpc.Limits{Rate: 1, Burst: 1, Proxies: proxies}}, &fake{})
			if w := from(s, c.first[0], c.first[1:]...); w.Code != 200 {
				t.Fatalf("the first: %d", w.Code)
			}
			if w := from(s, c.second[0], c.second[1:]...); (w.Code == 429) != c.same {
				t.Errorf("the second: %d", w.Code)
			}
		})
	}
}

func TestStreamsPerSource(t *testing.T) {
	f := &fake{hold: make(chan struct{}), enter: make(chan struct{})}
	s := server(t, rpc.Config{Limits: rpc.Limits{Streams: 3}}, f)
	answers := make(chan int, 3)
	for range 3 {
		go func() { answers <- from(s, "192.0.2.1:1").Code }()
	}
	for range 3 {
		<-f.enter
	}
	w := from(s, "192.0.2.1:1")
	wantCode(t, w, http.StatusTooManyRequests, vigil.CodeTooManyStreams)
	if w.Header().Get("Retry-After") != "1" {
		t.Errorf("wait %q", w.Header().Get("Retry-After"))
	}
	close(f.hold)
	for range 3 {
		if code := <-answers; code != 200 {
			t.Errorf("one of three: %d", code)
		}
	}
	f.hold = nil
	if w := from(s, "192.0.2.1:1"); w.Code != 200 {
		t.Errorf("once there is room: %d", w.Code)
	}
}

func TestBodyTooLarge(t *testing.T) {
	var count counter
	f := &fake{}
	s := server(t, rpc.Config{Limits: rpc.Limits{Body: 100}, Refused: count.refused}, f)
	long := `{"intent":{"message":"` + strings.Repeat("x", 100) + `"}}`
	wantCode(t, do(s, "POST", "/v1/delegate", long), http.StatusRequestEntityTooLarge, vigil.CodeBodyTooLarge)
	// Without a length beforehand.
	r := httptest.NewRequest("POST", "/v1/delegate", io.MultiReader(strings.NewReader(long)))
	r.RemoteAddr = "192.0.2.1:1"
	r.ContentLength = -1
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	wantCode(t, w, http.StatusRequestEntityTooLarge, vigil.CodeBodyTooLarge)
	if len(f.submitted) != 0 || count.of(vigil.CodeBodyTooLarge) != 2 {
		t.Errorf("%d arrived, %d counted", len(f.submitted), count.of(vigil.CodeBodyTooLarge))
	}
}

// A body that breaks off is refused, not handed on cut.
func TestBodyBreaksOff(t *testing.T) {
	f := &fake{}
	s := server(t, rpc.Config{}, f)
	r := httptest.NewRequest("POST", "/v1/delegate", io.MultiReader(strings.NewReader(`{"intent":{}}`), broken{}))
	r.RemoteAddr = "192.0.2.1:1"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	wantCode(t, w, http.StatusBadRequest, vigil.CodeMalformed)
	if len(f.submitted) != 0 {
		t.Error("it arrived")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A request has its time, and a handler sees it end.
func TestTimeout(t *testing.T) {
	f := &fake{hold: make(chan struct{}), enter: make(chan struct{}, 1)}
	s := server(t, rpc.Config{Limits: rpc.Limits{Timeout: time.Millisecond}}, f)
	if w := from(s, "192.0.2.1:1"); w.Code != http.StatusGatewayTimeout {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Who sends slowly or too long a head is cut, and the port goes on.
func TestSlowAndLongHeads(t *testing.T) {
	s := server(t, rpc.Config{Limits: rpc.Limits{Head: 20 * time.Millisecond, Timeout: 50 * time.Millisecond, Header: 1 << 10}}, &fake{})
	addr := listen(t, s)
	for name, text := range map[string]string{
		"no head":     "",
		"half a head": "GET /v1/delegate/info HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"half a body": "POST /v1/delegate HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		"long head":   "GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil && name != "long head" {
			t.Errorf("%s: %v", name, err)
		}
		// The reading ends when the server closes; go test's own limit is the only clock.
		answer, _ := io.ReadAll(conn)
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%s: %s", name, answer)
		}
		_ = conn.Close()
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	if got := readAll(t, resp.Body); got != "ok\n" {
		t.Errorf("%q", got)
	}
	_ = resp.Body.Close()
}

// cutOff opens a request that never ends, and returns when the server has cut
// it, which it does after its own time for one.
func cutOff(t *testing.T, addr string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "POST /v1/delegate HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
	_, _ = io.ReadAll(conn)
}

// A load balancer's watch outlives the time that other requests have.
func TestWatchIsNotCut(t *testing.T) {
	s := server(t, rpc.Config{Limits: rpc.Limits{Head: 10 * time.Millisecond, Timeout: 40 * time.Millisecond}}, &fake{})
	addr := listen(t, s)
	watch, err := healthpb.NewHealthClient(dial(t, addr)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // longer than reading and writing may take together
		cutOff(t, addr)
	}
	s.Stop()
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReady(t *testing.T) {
	c := newClock()
	var log recorder
	runs := 0
	var disk error
	s := server(t, rpc.Config{Now: c.now, Log: log.log(), Ready: []rpc.Check{
		{Name: "stores", Run: func(ctx context.Context) error { runs++; return ctx.Err() }},
		{Name: "disk", Run: func(context.Context) error { return disk }},
	}}, &fake{})
	for range 5 {
		if w := do(s, "GET", "/readyz", ""); w.Code != 200 || w.Body.String() != "stores: ok\ndisk: ok\n" {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	}
	if runs != 1 {
		t.Errorf("the checks ran %d times within a second", runs)
	}
	disk = fmt.Errorf("/var/lib/vigil has 3 MB left")
	c.advance(2 * time.Second)
	if w := do(s, "GET", "/readyz", ""); w.Code != 503 || w.Body.String() != "stores: ok\ndisk: not ready\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "3 MB left") {
		t.Error("the log does not tell why")
	}
	// A caller that left must not make the answer that others get.
	disk = nil
	c.advance(2 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil).WithContext(ctx))
	if w.Code != 200 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestMetricsAreServed(t *testing.T) {
	s := server(t, rpc.Config{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "vigil_up 1") })}, &fake{})
	if w := do(s, "GET", "/metrics", ""); w.Code != 200 || w.Body.String() != "vigil_up 1" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
