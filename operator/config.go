package operator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/vigil-ark/vigil/ark"
)

const (
	// buildVersion is what the protocol's Go and TypeScript clients send; operators
	// compare it with their minimum (section 1.1.3).
	buildVersion = "0.9.9"
	// maxMessage bounds one received message in bytes: what the protocol's own Go
	// client allows (section 1.1).
	maxMessage = 20 << 20
)

// Config says how to reach an operator. Only URL is required.
type Config struct {
	// URL is "host:port" or "http://host[:port]" for plain text, or
	// "https://host[:port]" for TLS.
	URL string
	// TLS is used for https URLs. Nil means the system's roots.
	TLS *tls.Config
	// BuildVersion is sent as x-build-version. Empty means 0.9.9.
	BuildVersion string
	// Timeouts bounds every wait.
	Timeouts Timeouts
	// Backoff spaces the attempts to reopen the event stream.
	Backoff Backoff
	// Jitter returns numbers in [0, 1) that spread those attempts. Nil means
	// pseudo-random ones. It is called from one goroutine a stream.
	Jitter func() float64
	// DialContext opens connections to an address of the form host:port. Nil means
	// TCP, through a proxy when the environment names one.
	DialContext func(ctx context.Context, addr string) (net.Conn, error)
	// OnParamsChange is called, outside of all locks, when the operator's
	// parameters differ from those known before. It runs inside the call that
	// noticed and must not block.
	OnParamsChange func(before, after ark.Params)
	// Log receives what no caller is told: failed attempts to open the stream.
	// Nil discards it.
	Log *slog.Logger
}

// Timeouts bounds waits; a zero field means its default.
type Timeouts struct {
	// Call bounds one unary call, a retry after DIGEST_MISMATCH apart. Default 15 s.
	Call time.Duration
	// Open bounds the wait for stream_started on a new event stream. Default 15 s.
	Open time.Duration
	// Silence is how long an event stream may say nothing, heartbeats included,
	// before it is taken for dead. Default 150 s: two and a half of the operator's
	// heartbeats of 60 s.
	Silence time.Duration
}

// Backoff grows from Min, doubling, up to Max; half of each wait is jitter. Zero
// fields mean 500 ms and 5 s: an operator's session is tens of seconds, and a
// client that returns later than one session has lost a renewal attempt.
type Backoff struct {
	Min, Max time.Duration
}

// ErrConfig is returned for a Config that names no operator.
var ErrConfig = errors.New("operator: invalid configuration")

func (c Config) withDefaults() Config {
	if c.BuildVersion == "" {
		c.BuildVersion = buildVersion
	}
	orDefault(&c.Timeouts.Call, 15*time.Second)
	orDefault(&c.Timeouts.Open, 15*time.Second)
	orDefault(&c.Timeouts.Silence, 150*time.Second)
	orDefault(&c.Backoff.Min, 500*time.Millisecond)
	orDefault(&c.Backoff.Max, 5*time.Second)
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// endpoint is a parsed Config.URL.
type endpoint struct {
	addr string // host:port
	tls  bool
}

// parseURL accepts the forms that Config.URL documents. An operator has no path
// of its own: gRPC fixes the paths.
func parseURL(s string) (endpoint, error) {
	if s == "" {
		return endpoint{}, fmt.Errorf("%w: no operator URL", ErrConfig)
	}
	var e endpoint
	host := s
	port := ""
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return endpoint{}, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		switch u.Scheme {
		case "http":
			port = "80"
		case "https":
			port, e.tls = "443", true
		default:
			return endpoint{}, fmt.Errorf("%w: scheme %q, want http or https", ErrConfig, u.Scheme)
		}
		if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return endpoint{}, fmt.Errorf("%w: an operator URL is scheme, host and port alone", ErrConfig)
		}
		host = u.Host
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), port)
		}
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return endpoint{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("%w: port %.16q", ErrConfig, port)
	}
	if name == "" || strings.ContainsAny(name, "/@?# \t\r\n") {
		return endpoint{}, fmt.Errorf("%w: host %.64q", ErrConfig, name)
	}
	e.addr = net.JoinHostPort(name, port)
	return e, nil
}

// dial makes a lazy connection: it fails for impossible settings only.
func (c Config) dial(e endpoint) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if e.tls {
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if c.TLS != nil {
			conf = c.TLS.Clone()
		}
		creds = credentials.NewTLS(conf)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// The library's own default waits up to two minutes between attempts to
		// connect, and fails every call at once meanwhile.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: c.Backoff.Min, Multiplier: 2, Jitter: 0.2, MaxDelay: c.Backoff.Max},
			MinConnectTimeout: c.Timeouts.Open,
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
	}
	if c.DialContext != nil {
		opts = append(opts, grpc.WithContextDialer(c.DialContext))
	}
	// passthrough: the dialer resolves the name at every attempt, so that an
	// operator that moved is found.
	conn, err := grpc.NewClient("passthrough:///"+e.addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return conn, nil
}
