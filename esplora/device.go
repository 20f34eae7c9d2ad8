package esplora

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// What a device asks of a chain beyond depth: its coins, transactions, and to
// send some.

var (
	// ErrNotFound says that the chain and the mempool do not have a transaction.
	ErrNotFound = errors.New("esplora: transaction not found")
	// ErrRefused says that the node refused to take a transaction; the error's text
	// is the node's.
	ErrRefused = errors.New("esplora: transaction refused")
)

const (
	// maxTx bounds a transaction in hex: twice the standard weight limit.
	maxTx = 2 * 400_000
	// maxCoins bounds the list of an address's coins, at some 300 bytes each.
	maxCoins = 4 << 20
	// maxRate is above every fee rate that was ever to be paid for long, in satoshis
	// per virtual byte: an answer that is a fault may not burn all that is swept.
	maxRate = 1_000
	// maxRefusal bounds what is kept of a refusal's text.
	maxRefusal = 1 << 10
)

// UTXO is an unspent output at an address.
type UTXO struct {
	Outpoint  wire.OutPoint
	Amount    int64 // satoshis
	Confirmed bool
}

// Tx returns a transaction of the chain or the mempool, or ErrNotFound. Its txid
// is checked.
func (c *Client) Tx(ctx context.Context, txid chainhash.Hash) (*wire.MsgTx, error) {
	path := "/tx/" + txid.String() + "/hex"
	body, err := c.get(ctx, path, maxTx)
	if err != nil {
		if unknown(err) {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, txid)
		}
		return nil, err
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(body)))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAnswer, path, err)
	}
	var tx wire.MsgTx
	if err := tx.Deserialize(bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAnswer, path, err)
	}
	if tx.TxHash() != txid {
		return nil, fmt.Errorf("%w: %s: another transaction", ErrAnswer, path)
	}
	return &tx, nil
}

// Unconfirmed returns the transaction of the mempool that spends op, or ErrNotFound.
func (c *Client) Unconfirmed(ctx context.Context, op wire.OutPoint) (*wire.MsgTx, error) {
	txid, confirmed, err := c.spender(ctx, op)
	if err != nil {
		return nil, err
	}
	if confirmed {
		return nil, fmt.Errorf("%w: %s is spent in a block", ErrNotFound, op)
	}
	tx, err := c.Tx(ctx, txid)
	if err == nil && !slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == op }) {
		err = fmt.Errorf("%w: %s does not spend %s", ErrAnswer, txid, op)
	}
	return tx, err
}

// ConfirmedAt returns the time of the block that holds a transaction, in unix
// seconds, or 0 while none does.
func (c *Client) ConfirmedAt(ctx context.Context, txid chainhash.Hash) (int64, error) {
	var s struct {
		status
		Time int64 `json:"block_time"`
	}
	if err := c.getJSON(ctx, "/tx/"+txid.String()+"/status", &s); err != nil {
		if unknown(err) {
			return 0, nil
		}
		return 0, err
	}
	if !s.Confirmed {
		return 0, nil
	}
	return s.Time, nil
}

// UTXOs returns the unspent outputs at an address.
func (c *Client) UTXOs(ctx context.Context, address string) ([]UTXO, error) {
	var list []struct {
		Txid   string `json:"txid"`
		Vout   uint32 `json:"vout"`
		Value  int64  `json:"value"`
		Status status `json:"status"`
	}
	path := "/address/" + url.PathEscape(address) + "/utxo"
	body, err := c.get(ctx, path, maxCoins)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAnswer, path, err)
	}
	out := make([]UTXO, len(list))
	for i, u := range list {
		id, err := chainhash.NewHashFromStr(u.Txid)
		if err != nil || u.Value < 0 {
			return nil, fmt.Errorf("%w: %s: coin %d", ErrAnswer, path, i)
		}
		out[i] = UTXO{Outpoint: wire.OutPoint{Hash: *id, Index: u.Vout}, Amount: u.Value, Confirmed: u.Status.Confirmed}
	}
	return out, nil
}

// MedianTime returns the median time of the best block, by which time locks are
// measured, in unix seconds.
func (c *Client) MedianTime(ctx context.Context) (int64, error) {
	hash, err := c.get(ctx, "/blocks/tip/hash", maxBody)
	if err != nil {
		return 0, err
	}
	var b struct {
		MedianTime int64 `json:"mediantime"`
	}
	err = c.getJSON(ctx, "/block/"+url.PathEscape(strings.TrimSpace(string(hash))), &b)
	return b.MedianTime, err
}

// FeeRate returns what a transaction should pay to confirm within some blocks,
// in satoshis per virtual byte, at least 1 and at most maxRate.
func (c *Client) FeeRate(ctx context.Context, blocks int) (float64, error) {
	rates := map[string]float64{}
	if err := c.getJSON(ctx, "/fee-estimates", &rates); err != nil {
		return 0, err
	}
	return min(max(rates[fmt.Sprint(blocks)], 1), maxRate), nil
}

// Broadcast hands a transaction to the node, or, given parents and last their
// child, all of them as one package. ErrRefused carries the node's text.
func (c *Client) Broadcast(ctx context.Context, txs ...*wire.MsgTx) error {
	list := make([]string, len(txs))
	for i, tx := range txs {
		var raw bytes.Buffer
		if err := tx.Serialize(&raw); err != nil {
			return fmt.Errorf("esplora: %w", err)
		}
		list[i] = hex.EncodeToString(raw.Bytes())
	}
	if len(list) == 1 {
		_, err := c.post(ctx, "/tx", "text/plain", []byte(list[0]))
		return err
	}
	body, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("esplora: %w", err)
	}
	answer, err := c.post(ctx, "/txs/package", "application/json", body)
	if err != nil {
		return err
	}
	var said struct {
		Message string `json:"package_msg"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return fmt.Errorf("%w: package: %w", ErrAnswer, err)
	}
	if said.Message != "success" {
		return fmt.Errorf("%w: %.200s", ErrRefused, answer)
	}
	return nil
}

func (c *Client) post(ctx context.Context, path, kind string, body []byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("esplora: %w", err)
	}
	req.Header.Set("Content-Type", kind)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("esplora: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("esplora: %s: %w", path, err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return answer, nil
	case resp.StatusCode == http.StatusBadRequest:
		return nil, fmt.Errorf("%w: %s", ErrRefused, answer[:min(len(answer), maxRefusal)])
	}
	return nil, &StatusError{Path: path, Code: resp.StatusCode}
}
