// Package esplora owns the small client of an Esplora API that tells how deep
// Vigil's commitment transactions are. It knows nothing of Ark.
package esplora

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

var (
	// ErrConfig is returned by New for an address that cannot be an Esplora's.
	ErrConfig = errors.New("esplora: invalid address")
	// ErrAnswer says that an answer is not what the API promises.
	ErrAnswer = errors.New("esplora: answer makes no sense")
)

// StatusError is an answer other than 200. All but 404 are worth another try.
type StatusError struct {
	Path string
	Code int
}

// Error names path and status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("esplora: %s: %d %s", e.Path, e.Code, http.StatusText(e.Code))
}

const (
	// within bounds one request: the engine asks in the background, and a server
	// that takes longer is as good as down.
	within = 10 * time.Second
	// maxBody bounds an answer; a transaction's status has some hundred bytes.
	maxBody = 64 << 10
)

// Client asks one Esplora. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client
}

// New makes a client of the API below base, as https://host/api. A nil http is
// one of its own with deadlines.
func New(base string, h *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: %q is no http or https URL", ErrConfig, base)
	}
	if h == nil {
		h = &http.Client{Timeout: within}
	}
	return &Client{base: strings.TrimRight(base, "/"), http: h}, nil
}

// get returns the first most bytes of an answer with status 200.
func (c *Client) get(ctx context.Context, path string, most int64) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("esplora: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("esplora: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, &StatusError{Path: path, Code: resp.StatusCode}
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, fmt.Errorf("esplora: %s: %w", path, err)
	}
	return body, nil
}

func (c *Client) getJSON(ctx context.Context, path string, into any) error {
	body, err := c.get(ctx, path, maxBody)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrAnswer, path, err)
	}
	return nil
}

// unknown says whether err is the answer for something that is not there.
func unknown(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// status is what Esplora tells of a transaction's place.
type status struct {
	Confirmed bool  `json:"confirmed"`
	Height    int64 `json:"block_height"`
}

// Tip returns the height of the best block.
func (c *Client) Tip(ctx context.Context) (int64, error) {
	const path = "/blocks/tip/height"
	body, err := c.get(ctx, path, maxBody)
	if err != nil {
		return 0, err
	}
	height, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
	if err != nil || height < 0 {
		return 0, fmt.Errorf("%w: %s is no height", ErrAnswer, path)
	}
	return height, nil
}

// Confirmations returns how many blocks hold txid or lie above it: 0 in the
// mempool, -1 when it is in neither chain nor mempool.
func (c *Client) Confirmations(ctx context.Context, txid chainhash.Hash) (int64, error) {
	var s status
	path := "/tx/" + txid.String() + "/status"
	if err := c.getJSON(ctx, path, &s); err != nil {
		if unknown(err) {
			return -1, nil
		}
		return 0, err
	}
	if !s.Confirmed {
		// Servers answer so for a transaction that they never saw, too. Of the
		// transaction itself, which may be large, only the status code counts.
		if _, err := c.get(ctx, "/tx/"+txid.String(), 0); err != nil {
			if unknown(err) {
				return -1, nil
			}
			return 0, err
		}
		return 0, nil
	}
	if s.Height < 0 {
		return 0, fmt.Errorf("%w: %s: height %d", ErrAnswer, path, s.Height)
	}
	tip, err := c.Tip(ctx)
	if err != nil {
		return 0, err
	}
	// The tip was read later and, in a reorganisation, may be lower for a moment.
	return max(tip-s.Height+1, 1), nil
}

// Spender returns the confirmed transaction that spends op, if there is one.
func (c *Client) Spender(ctx context.Context, op wire.OutPoint) (chainhash.Hash, bool, error) {
	txid, confirmed, err := c.spender(ctx, op)
	if errors.Is(err, ErrNotFound) {
		return chainhash.Hash{}, false, nil
	}
	if err != nil || !confirmed {
		return chainhash.Hash{}, false, err
	}
	return txid, true, nil
}

// spender returns what spends op, in a block or in the mempool, or ErrNotFound.
func (c *Client) spender(ctx context.Context, op wire.OutPoint) (id chainhash.Hash, confirmed bool, err error) {
	var s struct {
		Spent  bool   `json:"spent"`
		Txid   string `json:"txid"`
		Status status `json:"status"`
	}
	path := fmt.Sprintf("/tx/%s/outspend/%d", op.Hash, op.Index)
	if err := c.getJSON(ctx, path, &s); err != nil {
		if unknown(err) {
			err = fmt.Errorf("%w: %s", ErrNotFound, op)
		}
		return id, false, err
	}
	if !s.Spent {
		return id, false, fmt.Errorf("%w: nothing spends %s", ErrNotFound, op)
	}
	txid, err := chainhash.NewHashFromStr(s.Txid)
	if err != nil || len(s.Txid) != 2*chainhash.HashSize {
		return id, false, fmt.Errorf("%w: %s: spent by %.80q", ErrAnswer, path, s.Txid)
	}
	return *txid, s.Status.Confirmed, nil
}
