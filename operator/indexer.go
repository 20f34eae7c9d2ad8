package operator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

const (
	// chunk is how many things one request names, and how many VTXOs one page
	// holds: the operator's own page size (section 1.3).
	chunk = 100
	// maxVTXOs bounds what one VTXOsByScript collects.
	maxVTXOs = 100_000
	// maxChain bounds what one VtxoChain collects.
	maxChain = 20_000
)

// ErrTooMany says that an answer would be larger than a caller can want.
var ErrTooMany = errors.New("operator: too many results")

// Filter narrows VTXOsByScript (section 7.4).
type Filter int

// The operator's filters. Expired VTXOs count as spendable to it.
const (
	AnyState Filter = iota
	OnlySpendable
	OnlySpent
	OnlyRecoverable
	OnlyPending
	OnlyRenewable
)

// VTXOs returns what the operator knows of the outpoints, in their order; those
// that it does not know are left out.
func (c *Client) VTXOs(ctx context.Context, outpoints []wire.OutPoint) ([]ark.VTXO, error) {
	found := make(map[wire.OutPoint]ark.VTXO, len(outpoints))
	for part := range slices.Chunk(outpoints, chunk) {
		names := make([]string, len(part))
		asked := make(map[wire.OutPoint]bool, len(part))
		for i, op := range part {
			names[i], asked[op] = op.String(), true
		}
		// Without a page the answer is whole, and cannot change between pages.
		resp, err := index(ctx, c, "GetVtxos", func(ctx context.Context, x arkv1.IndexerServiceClient) (*arkv1.GetVtxosResponse, error) {
			return x.GetVtxos(ctx, &arkv1.GetVtxosRequest{Outpoints: names})
		})
		if err != nil {
			return nil, err
		}
		if len(resp.GetVtxos()) > len(part) {
			return nil, fmt.Errorf("%w: %d VTXOs for %d outpoints", ErrAnswer, len(resp.GetVtxos()), len(part))
		}
		for _, m := range resp.GetVtxos() {
			v, err := decodeVTXO(m)
			if err != nil {
				return nil, err
			}
			if !asked[v.Outpoint] {
				return nil, fmt.Errorf("%w: VTXO %s was not asked for", ErrAnswer, v.Outpoint)
			}
			found[v.Outpoint] = v
		}
	}
	var out []ark.VTXO
	for _, op := range outpoints {
		if v, ok := found[op]; ok {
			out = append(out, v)
			delete(found, op)
		}
	}
	return out, nil
}

// VTXOsByScript returns the VTXOs of the given pkScripts (each 34 bytes, taproot)
// that pass the filter, each once. More than 100,000 is ErrTooMany. The list may
// miss a VTXO that changed while it was read, page by page.
func (c *Client) VTXOsByScript(ctx context.Context, scripts [][]byte, filter Filter) ([]ark.VTXO, error) {
	var out []ark.VTXO
	seen := make(map[wire.OutPoint]bool)
	for part := range slices.Chunk(scripts, chunk) {
		req := &arkv1.GetVtxosRequest{
			SpendableOnly:   filter == OnlySpendable,
			SpentOnly:       filter == OnlySpent,
			RecoverableOnly: filter == OnlyRecoverable,
			PendingOnly:     filter == OnlyPending,
			RenewableOnly:   filter == OnlyRenewable,
		}
		asked := make(map[string]bool, len(part))
		for _, s := range part {
			req.Scripts = append(req.Scripts, hex.EncodeToString(s))
			asked[string(s)] = true
		}
		vtxos, err := pages(maxVTXOs, func(page *arkv1.IndexerPageRequest) ([]*arkv1.IndexerVtxo, *arkv1.IndexerPageResponse, error) {
			req.Page = page
			resp, err := index(ctx, c, "GetVtxos", func(ctx context.Context, x arkv1.IndexerServiceClient) (*arkv1.GetVtxosResponse, error) {
				return x.GetVtxos(ctx, req)
			})
			return resp.GetVtxos(), resp.GetPage(), err
		})
		if err != nil {
			return nil, err
		}
		for _, m := range vtxos {
			v, err := decodeVTXO(m)
			if err != nil {
				return nil, err
			}
			if !asked[string(v.Script)] {
				return nil, fmt.Errorf("%w: VTXO %s has a script that was not asked for", ErrAnswer, v.Outpoint)
			}
			if seen[v.Outpoint] {
				continue
			}
			seen[v.Outpoint] = true
			if len(out) == maxVTXOs {
				return nil, fmt.Errorf("%w: over %d VTXOs", ErrTooMany, maxVTXOs)
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// VirtualTxs returns the signed transactions of the given txids as base64 PSBTs,
// by txid; those that the operator does not know are left out. An operator may
// strip its own signatures for strangers (section 7.6).
func (c *Client) VirtualTxs(ctx context.Context, txids []chainhash.Hash) (map[chainhash.Hash]string, error) {
	out := make(map[chainhash.Hash]string, len(txids))
	for part := range slices.Chunk(txids, chunk) {
		names := make([]string, len(part))
		for i, h := range part {
			names[i] = h.String()
		}
		resp, err := index(ctx, c, "GetVirtualTxs", func(ctx context.Context, x arkv1.IndexerServiceClient) (*arkv1.GetVirtualTxsResponse, error) {
			return x.GetVirtualTxs(ctx, &arkv1.GetVirtualTxsRequest{Txids: names})
		})
		if err != nil {
			return nil, err
		}
		if len(resp.GetTxs()) > len(part) {
			return nil, fmt.Errorf("%w: %d transactions for %d txids", ErrAnswer, len(resp.GetTxs()), len(part))
		}
		for _, tx := range resp.GetTxs() {
			p, err := script.ParsePSBT(tx, script.OperatorLimits())
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
			}
			txid := p.UnsignedTx.TxHash()
			if !slices.Contains(part, txid) {
				return nil, fmt.Errorf("%w: transaction %s was not asked for", ErrAnswer, txid)
			}
			out[txid] = tx
		}
	}
	return out, nil
}

// ChainTx is one step from a VTXO back to its commitment transactions.
type ChainTx struct {
	Txid      chainhash.Hash
	ExpiresAt int64 // unix seconds
	Kind      ChainKind
	// Spends names what it spends: txids, or outpoints for a checkpoint.
	Spends []string
}

// ChainKind is the kind of a ChainTx, with the operator's numbers.
type ChainKind int32

// The kinds of transactions in a VTXO's chain.
const (
	KindCommitment ChainKind = 1
	KindArk        ChainKind = 2
	KindTree       ChainKind = 3
	KindCheckpoint ChainKind = 4
)

// VtxoChain returns the transactions that a unilateral exit of the VTXO needs,
// from the VTXO backwards.
func (c *Client) VtxoChain(ctx context.Context, op wire.OutPoint) ([]ChainTx, error) {
	steps, err := pages(maxChain, func(page *arkv1.IndexerPageRequest) ([]*arkv1.IndexerChain, *arkv1.IndexerPageResponse, error) {
		resp, err := index(ctx, c, "GetVtxoChain", func(ctx context.Context, x arkv1.IndexerServiceClient) (*arkv1.GetVtxoChainResponse, error) {
			return x.GetVtxoChain(ctx, &arkv1.GetVtxoChainRequest{
				Outpoint: &arkv1.IndexerOutpoint{Txid: op.Hash.String(), Vout: op.Index}, Page: page,
			})
		})
		return resp.GetChain(), resp.GetPage(), err
	})
	if err != nil {
		return nil, err
	}
	out := make([]ChainTx, 0, len(steps))
	for _, m := range steps {
		h, err := ark.ParseTxid(m.GetTxid())
		if err != nil {
			return nil, fmt.Errorf("%w: chain: %w", ErrAnswer, err)
		}
		if len(m.GetSpends()) > maxTxs || slices.ContainsFunc(m.GetSpends(), func(s string) bool { return !isLabel(s) }) {
			return nil, fmt.Errorf("%w: chain: what %s spends", ErrAnswer, h)
		}
		out = append(out, ChainTx{Txid: h, ExpiresAt: m.GetExpiresAt(), Kind: ChainKind(m.GetType()), Spends: m.GetSpends()})
	}
	return out, nil
}

// Commitment is what the indexer tells of a commitment transaction.
type Commitment struct {
	StartedAt, EndedAt int64                      // unix seconds
	Batches            map[uint32]CommitmentBatch // by output index
}

// CommitmentBatch is one batch output of a commitment transaction.
type CommitmentBatch struct {
	Amount    uint64 // satoshis in its VTXOs
	VTXOs     int32
	ExpiresAt int64 // unix seconds
	Swept     bool
}

const opCommitmentTx = "GetCommitmentTx"

// CommitmentTx tells what the operator stored of a commitment transaction, or
// ErrNotFound. It broadcasts before it stores, so that not found does not mean
// that the transaction will never confirm.
func (c *Client) CommitmentTx(ctx context.Context, txid chainhash.Hash) (Commitment, error) {
	resp, err := index(ctx, c, opCommitmentTx, func(ctx context.Context, x arkv1.IndexerServiceClient) (*arkv1.GetCommitmentTxResponse, error) {
		return x.GetCommitmentTx(ctx, &arkv1.GetCommitmentTxRequest{Txid: txid.String()})
	})
	if err != nil {
		return Commitment{}, err
	}
	if resp.GetStartedAt() == 0 { // the row of sums over nothing
		return Commitment{}, fmt.Errorf("%w: commitment %s", ErrNotFound, txid)
	}
	if len(resp.GetBatches()) > maxTxs {
		return Commitment{}, fmt.Errorf("%w: %d batches", ErrAnswer, len(resp.GetBatches()))
	}
	out := Commitment{StartedAt: resp.GetStartedAt(), EndedAt: resp.GetEndedAt(), Batches: make(map[uint32]CommitmentBatch, len(resp.GetBatches()))}
	for vout, b := range resp.GetBatches() {
		out.Batches[vout] = CommitmentBatch{Amount: b.GetTotalOutputAmount(), VTXOs: b.GetTotalOutputVtxos(), ExpiresAt: b.GetExpiresAt(), Swept: b.GetSwept()}
	}
	return out, nil
}

// pages reads page after page until the last one or limit items.
func pages[T any](limit int, fetch func(*arkv1.IndexerPageRequest) ([]T, *arkv1.IndexerPageResponse, error)) ([]T, error) {
	var all []T
	for n := int32(1); ; n++ {
		items, page, err := fetch(&arkv1.IndexerPageRequest{Size: chunk, Index: n})
		if err != nil {
			return nil, err
		}
		if len(all)+len(items) > limit {
			return nil, fmt.Errorf("%w: over %d", ErrTooMany, limit)
		}
		all = append(all, items...)
		if n >= page.GetTotal() { // also when the page is absent: the list was whole
			return all, nil
		}
		if len(items) == 0 {
			return nil, fmt.Errorf("%w: page %d of %d is empty", ErrAnswer, n, page.GetTotal())
		}
	}
}
