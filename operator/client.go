package operator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// ErrClosed is returned by everything after Close.
var ErrClosed = errors.New("operator: client closed")

// Client talks to one operator. It is safe for concurrent use.
type Client struct {
	cfg  Config
	end  endpoint
	link atomic.Pointer[link]

	params paramsCache

	mu      sync.Mutex // guards what follows, and the replacing of link
	closed  bool
	streams map[*Stream]struct{}
}

// link is one connection with its service stubs.
type link struct {
	conn    *grpc.ClientConn
	ark     arkv1.ArkServiceClient
	indexer arkv1.IndexerServiceClient
}

// Dial makes a client. It does not wait for the operator: one that is down is
// found out by the first call, and reached as soon as it is back.
func Dial(cfg Config) (*Client, error) {
	end, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg.withDefaults(), end: end, streams: make(map[*Stream]struct{})}
	c.params.gate = make(chan struct{}, 1)
	l, err := c.connect()
	if err != nil {
		return nil, err
	}
	c.link.Store(l)
	return c, nil
}

func (c *Client) connect() (*link, error) {
	conn, err := c.cfg.dial(c.end)
	if err != nil {
		return nil, err
	}
	return &link{conn: conn, ark: arkv1.NewArkServiceClient(conn), indexer: arkv1.NewIndexerServiceClient(conn)}, nil
}

// redial replaces a connection whose peer went silent. TCP may take a quarter of
// an hour to notice; calls that still wait on the old connection fail as
// Transient.
func (c *Client) redial(old *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.link.Load() != old {
		return
	}
	l, err := c.connect()
	if err != nil {
		return // the same settings passed before: keep the old connection
	}
	c.link.Store(l)
	_ = old.conn.Close() // fails only when closed already
}

// Close ends all streams and calls and waits for every goroutine of the client.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	streams := make([]*Stream, 0, len(c.streams))
	for s := range c.streams {
		streams = append(streams, s)
	}
	c.mu.Unlock()
	for _, s := range streams {
		s.Close()
	}
	return c.link.Load().conn.Close()
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// headers adds what the operator's guards look at (section 1.1.3).
func (c *Client) headers(ctx context.Context, digest string) context.Context {
	kv := []string{"x-build-version", c.cfg.BuildVersion}
	if digest != "" {
		kv = append(kv, "x-digest", digest)
	}
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

// once makes one call with a deadline and turns its failure into an *Error.
func once[R any](ctx context.Context, c *Client, op, digest string, f func(context.Context, *link) (R, error)) (R, error) {
	call, cancel := context.WithTimeout(c.headers(ctx, digest), c.cfg.Timeouts.Call)
	defer cancel()
	r, err := f(call, c.link.Load())
	if err != nil {
		var zero R
		return zero, c.failure(ctx, op, err)
	}
	return r, nil
}

// guarded makes a call that the operator's digest guard looks at: it goes out
// under parameters that we know, and when the operator's have changed, once more
// after they were read again.
func guarded[R any](ctx context.Context, c *Client, op string, f func(context.Context, arkv1.ArkServiceClient) (R, error)) (R, error) {
	var zero R
	p, err := c.Params(ctx)
	if err != nil {
		return zero, err
	}
	g := func(ctx context.Context, l *link) (R, error) { return f(ctx, l.ark) }
	r, err := once(ctx, c, op, p.Digest, g)
	if !errors.Is(err, ErrDigestMismatch) {
		return r, err
	}
	if p, err = c.refresh(ctx, p.Digest); err != nil {
		return zero, err
	}
	return once(ctx, c, op, p.Digest, g)
}

// index makes a call to the indexer, which no guard looks at.
func index[R any](ctx context.Context, c *Client, op string, f func(context.Context, arkv1.IndexerServiceClient) (R, error)) (R, error) {
	return once(ctx, c, op, "", func(ctx context.Context, l *link) (R, error) { return f(ctx, l.indexer) })
}
