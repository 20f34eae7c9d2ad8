package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
)

// maxAnswer bounds an answer: a page of delegates with many inputs each.
const maxAnswer = 64 << 20

// Client asks a running Vigil over its socket.
type Client struct{ http *http.Client }

var _ Port = (*Client)(nil)

// Dial returns a client of the Vigil that serves at path, or ErrNoServer.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOTSOCK):
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	case err != nil:
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
		DisableKeepAlives: true,
	}}}, nil
}

// RemoteError is a failure on the other side of the socket. It matches
// ErrNotFound and ErrRefused.
type RemoteError struct{ Kind, Text string }

// Error is the text as the other side has it.
func (e *RemoteError) Error() string { return e.Text }

// Is matches the kinds of this package.
func (e *RemoteError) Is(target error) bool {
	return (target == ErrNotFound || target == ErrRefused) && e.Kind == target.Error()
}

// call makes one request.
func call[T any](ctx context.Context, c *Client, method, path string, in *request) (out T, err error) {
	var body io.Reader
	if method == http.MethodPost {
		if in == nil {
			in = &request{}
		}
		raw, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://vigil"+path, body)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, fmt.Errorf("admin socket: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	var got reply[T]
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&got); err != nil {
		return out, fmt.Errorf("admin socket: %s %s: %w", method, path, err)
	}
	if got.Error != "" {
		return got.Answer, &RemoteError{Kind: got.Kind, Text: got.Error}
	}
	return got.Answer, nil
}

// Status implements Port.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/status", nil)
}

// Delegates implements Port.
func (c *Client) Delegates(ctx context.Context, q Query) (Page, error) {
	v := url.Values{"state": {q.State}, "script": {q.Script}, "limit": {strconv.Itoa(q.Limit)}, "after": {q.After}}
	return call[Page](ctx, c, http.MethodGet, "/delegates?"+v.Encode(), nil)
}

// Delegate implements Port.
func (c *Client) Delegate(ctx context.Context, id string) (Delegate, error) {
	return call[Delegate](ctx, c, http.MethodGet, "/delegates/"+url.PathEscape(id), nil)
}

// Cancel implements Port.
func (c *Client) Cancel(ctx context.Context, id string) (Delegate, error) {
	return call[Delegate](ctx, c, http.MethodPost, "/delegates/"+url.PathEscape(id)+"/cancel", nil)
}

// Wallets implements Port.
func (c *Client) Wallets(ctx context.Context, after string, limit int) (WalletPage, error) {
	v := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	return call[WalletPage](ctx, c, http.MethodGet, "/wallets?"+v.Encode(), nil)
}

// Keys implements Port.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	return call[[]Key](ctx, c, http.MethodGet, "/keys", nil)
}

// AddKey implements Port.
func (c *Client) AddKey(ctx context.Context) (Key, error) {
	return call[Key](ctx, c, http.MethodPost, "/keys", nil)
}

// RetireKey implements Port.
func (c *Client) RetireKey(ctx context.Context, key string) (Key, error) {
	return call[Key](ctx, c, http.MethodPost, "/keys/"+url.PathEscape(key)+"/retire", nil)
}

// Backup implements Port. The file is written by the running Vigil.
func (c *Client) Backup(ctx context.Context, path string) (Copied, error) {
	return call[Copied](ctx, c, http.MethodPost, "/backup", &request{Path: path})
}

// Export implements Port. The file is written by the running Vigil.
func (c *Client) Export(ctx context.Context, path string, recipients []string) (Copied, error) {
	return call[Copied](ctx, c, http.MethodPost, "/export", &request{Path: path, Recipients: recipients})
}

// Check implements Port.
func (c *Client) Check(ctx context.Context) (Report, error) {
	return call[Report](ctx, c, http.MethodPost, "/check", nil)
}

// CheckWallet implements Port.
func (c *Client) CheckWallet(ctx context.Context, id string, marks []string) (Report, error) {
	return call[Report](ctx, c, http.MethodPost, "/wallets/"+url.PathEscape(id)+"/check", &request{Marks: marks})
}

// Release implements Port.
func (c *Client) Release(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/release", nil)
}

// Accept implements Port.
func (c *Client) Accept(ctx context.Context, signer string) (Operator, error) {
	return call[Operator](ctx, c, http.MethodPost, "/accept", &request{Signer: signer})
}
