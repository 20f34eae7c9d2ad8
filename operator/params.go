package operator

import (
	"context"
	"reflect"
	"sync"

	"github.com/vigil-ark/vigil/ark"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// paramsCache holds the parameters of the last valid answer.
type paramsCache struct {
	gate chan struct{} // one refresh at a time

	mu    sync.Mutex
	known bool
	value ark.Params
}

func (p *paramsCache) load() (ark.Params, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.value, p.known
}

func (p *paramsCache) store(v ark.Params) (before ark.Params, had bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, had = p.value, p.known
	p.value, p.known = v, true
	return before, had
}

// Params returns the operator's parameters as last read, and asks for them only
// when none were read yet. The slices in them are shared: do not change them.
func (c *Client) Params(ctx context.Context) (ark.Params, error) {
	if p, ok := c.params.load(); ok {
		return p, nil
	}
	return c.refresh(ctx, "")
}

// Info asks the operator for its parameters and checks each of them; an answer
// that does not pass is ErrAnswer and changes nothing.
func (c *Client) Info(ctx context.Context) (ark.Params, error) {
	resp, err := once(ctx, c, "GetInfo", "", func(ctx context.Context, l *link) (*arkv1.GetInfoResponse, error) {
		return l.ark.GetInfo(ctx, &arkv1.GetInfoRequest{})
	})
	if err != nil {
		return ark.Params{}, err
	}
	p, err := decodeInfo(resp)
	if err != nil {
		return ark.Params{}, err
	}
	before, had := c.params.store(p)
	if had && c.cfg.OnParamsChange != nil && !reflect.DeepEqual(before, p) {
		c.cfg.OnParamsChange(before, p)
	}
	return p, nil
}

// refresh reads the parameters again unless another caller has done so since the
// digest named stale was current: a hundred calls that meet one change ask once.
func (c *Client) refresh(ctx context.Context, stale string) (ark.Params, error) {
	select {
	case c.params.gate <- struct{}{}:
		defer func() { <-c.params.gate }()
	case <-ctx.Done():
		return ark.Params{}, c.failure(ctx, "GetInfo", ctx.Err())
	}
	if p, ok := c.params.load(); ok && p.Digest != stale {
		return p, nil
	}
	return c.Info(ctx)
}
