package operator

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crypto/tls"
	"crypto/x509"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/ark"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func TestHeadersAndDigestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var changes []ark.Params
		c := f.client(t, func(cfg *Config) {
			cfg.OnParamsChange = func(before, after ark.Params) { changes = append(changes, before, after) }
		})
		f.on("RegisterIntent", func(_ context.Context, req any) (any, error) {
			in := req.(*arkv1.RegisterIntentRequest).GetIntent()
			if in.GetProof() != "proof" || in.GetMessage() != "message" {
				t.Errorf("got %v", in)
			}
			return &arkv1.RegisterIntentResponse{IntentId: "id-1"}, nil
		})
		id, err := c.RegisterIntent(t.Context(), "proof", "message")
		if err != nil || id != "id-1" {
			t.Fatalf("got %q, %v", id, err)
		}
		if got := f.header("RegisterIntent", "x-build-version"); got != "0.9.9" {
			t.Errorf("build version %q", got)
		}
		if got := f.header("RegisterIntent", "x-digest"); got != f.info.GetDigest() {
			t.Errorf("digest %q", got)
		}
		if got := f.header("GetInfo", "x-digest"); got != "" {
			t.Errorf("GetInfo carried a digest, %q", got)
		}
		if len(changes) != 0 {
			t.Error("the first parameters count as a change")
		}

		f.setInfo(func(m *arkv1.GetInfoResponse) { m.Digest, m.Dust = "new", 546 })
		if _, err := c.RegisterIntent(t.Context(), "proof", "message"); err != nil {
			t.Fatal(err)
		}
		if got := f.header("RegisterIntent", "x-digest"); got != "new" {
			t.Errorf("digest %q after the refresh", got)
		}
		if len(changes) != 2 || changes[0].Dust != 330 || changes[1].Dust != 546 {
			t.Errorf("changes %+v", changes)
		}
		if p, err := c.Params(t.Context()); err != nil || p.Dust != 546 {
			t.Errorf("cached parameters: dust %d, %v", p.Dust, err)
		}
		if got := f.called("GetInfo"); got != 2 {
			t.Errorf("%d GetInfo, want 2", got)
		}
	})
}

func TestDigestMismatchTwiceIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		f.on("DeleteIntent", func(context.Context, any) (any, error) {
			return nil, coded(codes.FailedPrecondition, 49, "DIGEST_MISMATCH", "DIGEST_MISMATCH (49): again", nil)
		})
		err := c.DeleteIntent(t.Context(), "p", "m")
		if !errors.Is(err, ErrDigestMismatch) || ClassOf(err) != Stale {
			t.Fatalf("got %v, %v", err, ClassOf(err))
		}
		if got := f.called("DeleteIntent"); got != 2 {
			t.Errorf("%d calls, want one and one retry", got)
		}
	})
}

func TestOneRefreshForManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		f.on("ConfirmRegistration", func(context.Context, any) (any, error) { return &arkv1.ConfirmRegistrationResponse{}, nil })
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.setInfo(func(m *arkv1.GetInfoResponse) { m.Digest = "new" })
		var calls sync.WaitGroup
		for range 50 {
			calls.Go(func() {
				if err := c.ConfirmRegistration(t.Context(), "id"); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if got := f.called("GetInfo"); got != 2 {
			t.Errorf("%d GetInfo for 50 calls that met one change, want 1 and the first", got)
		}
	})
}

func TestInvalidInfoStopsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		f.setInfo(func(m *arkv1.GetInfoResponse) { m.Dust = 0 })
		_, err := c.RegisterIntent(t.Context(), "p", "m")
		if !errors.Is(err, ErrAnswer) || ClassOf(err) != Unverified {
			t.Fatalf("got %v, %v", err, ClassOf(err))
		}
		if f.called("RegisterIntent") != 0 {
			t.Error("the call went out under parameters that do not verify")
		}
		f.setInfo(func(m *arkv1.GetInfoResponse) { m.Dust = 330 })
		if err := c.ConfirmRegistration(t.Context(), "x"); ClassOf(err) != Outdated { // the fake lacks it
			t.Errorf("after the operator mended itself: %v", err)
		}
	})
}

func TestDeadlineAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, func(cfg *Config) { cfg.Timeouts.Call = 3 * time.Second })
		f.on("ConfirmRegistration", func(ctx context.Context, _ any) (any, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		})
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err := c.ConfirmRegistration(t.Context(), "id")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v of the bubble's time, want the deadline of 3 s", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || ClassOf(err) != Transient {
			t.Errorf("got %v, %v", err, ClassOf(err))
		}

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err = c.ConfirmRegistration(ctx, "id")
		if !errors.Is(err, context.Canceled) || ClassOf(err) != Canceled {
			t.Errorf("canceled: got %v, %v", err, ClassOf(err))
		}
	})
}

func TestOperatorDownThenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.refuse = true
		c := f.client(t, nil)
		for range 20 {
			if _, err := c.Info(t.Context()); ClassOf(err) != Transient {
				t.Fatalf("got %v, %v", err, ClassOf(err))
			}
			<-time.After(10 * time.Second)
		}
		f.mu.Lock()
		f.refuse = false
		f.mu.Unlock()
		// The connection's own waits are as short as the stream's.
		<-time.After(2 * c.cfg.Backoff.Max)
		if _, err := c.Info(t.Context()); err != nil {
			t.Errorf("the operator is back for two of the longest waits: %v", err)
		}
	})
}

func TestAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Info(t.Context()); !errors.Is(err, ErrClosed) || ClassOf(err) != Canceled {
			t.Errorf("got %v", err)
		}
		if _, err := c.Events(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate alone
	web.Close()
	cert, err := x509.ParseCertificate(web.TLS.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	f := newFake(t, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	trusting := f.client(t, func(cfg *Config) {
		cfg.URL, cfg.TLS = "https://example.com", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	})
	if _, err := trusting.Info(t.Context()); err != nil {
		t.Errorf("with the right root: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"unknown root": func(cfg *Config) { cfg.URL = "https://example.com" },
		"wrong name": func(cfg *Config) {
			cfg.URL, cfg.TLS = "https://example.org", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		},
		"plain text": func(cfg *Config) { cfg.URL = "http://example.com" },
	} {
		if _, err := f.client(t, change).Info(t.Context()); ClassOf(err) != Transient {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestURL(t *testing.T) {
	for _, tc := range []struct {
		url, addr string
		tls       bool
	}{
		{"localhost:7070", "localhost:7070", false},
		{"127.0.0.1:7070", "127.0.0.1:7070", false},
		{"[::1]:7070", "[::1]:7070", false},
		{"http://localhost:7070", "localhost:7070", false},
		{"http://localhost:7070/", "localhost:7070", false},
		{"http://ark.example", "ark.example:80", false},
		{"https://ark.example", "ark.example:443", true},
		{"https://ark.example:8443", "ark.example:8443", true},
		{"https://[::1]", "[::1]:443", true},
	} {
		e, err := parseURL(tc.url)
		if err != nil || e.addr != tc.addr || e.tls != tc.tls {
			t.Errorf("%s: got %+v, %v", tc.url, e, err)
		}
	}
	for _, bad := range []string{
		"", "localhost", ":7070", "localhost:", "localhost:0", "localhost:70000", "localhost:http", "ftp://x:1", "http://", "https://u:p@x",
		"https://x/v1", "https://x?a=b", "https://x#f", "a/b:1", "http://x:y", "://", "u@h:1", "1:2:3",
	} {
		if e, err := parseURL(bad); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: got %+v, %v", bad, e, err)
		}
		if _, err := Dial(Config{URL: bad}); !errors.Is(err, ErrConfig) {
			t.Errorf("Dial(%q): %v", bad, err)
		}
	}
}

func FuzzURL(f *testing.F) {
	f.Add("https://ark.example:8443")
	f.Add("[::1]:1")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseURL(s)
		if err != nil {
			return
		}
		again, err := parseURL(e.addr)
		if err != nil || again.addr != e.addr {
			t.Errorf("%q gave %q, which gives %q, %v", s, e.addr, again.addr, err)
		}
	})
}
