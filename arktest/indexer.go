package arktest

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// indexer answers ark.v1.IndexerService from the store.
type indexer struct {
	arkv1.UnimplementedIndexerServiceServer
	op *Operator
	p  *process
}

func parseTxid(s string) (string, error) {
	if s == "" {
		return "", invalid("missing txid")
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return "", invalid("invalid txid format")
	}
	if len(raw) != chainhash.HashSize {
		return "", invalid("invalid txid length")
	}
	return s, nil
}

func parseOutpoint(s string) (wire.OutPoint, error) {
	id, index, ok := strings.Cut(s, ":")
	if !ok || strings.Contains(index, ":") {
		return wire.OutPoint{}, invalid("invalid outpoint format")
	}
	if _, err := parseTxid(id); err != nil {
		return wire.OutPoint{}, err
	}
	vout, err := strconv.ParseUint(index, 10, 32)
	if err != nil {
		return wire.OutPoint{}, invalid("invalid vout %s", index)
	}
	h, err := chainhash.NewHashFromStr(id)
	if err != nil {
		return wire.OutPoint{}, invalid("invalid txid format")
	}
	return wire.OutPoint{Hash: *h, Index: uint32(vout)}, nil
}

func indexerOutpoint(o *arkv1.IndexerOutpoint) (wire.OutPoint, error) {
	if o == nil {
		return wire.OutPoint{}, invalid("missing outpoint")
	}
	return parseOutpoint(fmt.Sprintf("%s:%d", o.GetTxid(), o.GetVout()))
}

// parseScript wants a whole P2TR script in hex and gives its key.
func parseScript(s string) (key [32]byte, err error) {
	if s == "" {
		return key, invalid("missing script")
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return key, invalid("invalid script format, must be hex")
	}
	if !txscript.IsPayToTaproot(raw) {
		return key, invalid("invalid script, must be P2TR")
	}
	if _, err := schnorr.ParsePubKey(raw[2:]); err != nil {
		return key, invalid("invalid script, failed to extract tapkey: %s", err)
	}
	return [32]byte(raw[2:]), nil
}

// paged cuts one page out of list (protocol section 1.3, paging).
func paged[T any](list []T, page *arkv1.IndexerPageRequest) ([]T, *arkv1.IndexerPageResponse, error) {
	if page == nil {
		return list, nil, nil
	}
	if page.GetSize() <= 0 {
		return nil, nil, invalid("invalid page size")
	}
	if page.GetIndex() < 0 {
		return nil, nil, invalid("invalid page index")
	}
	size, index := int(page.GetSize()), max(int(page.GetIndex()), 1)
	total := (len(list) + size - 1) / size
	from := min((index-1)*size, len(list))
	res := &arkv1.IndexerPageResponse{Current: int32(index), Next: int32(min(index+1, total)), Total: int32(total)}
	return list[from:min(from+size, len(list))], res, nil
}

// GetVtxos lists VTXOs by script or by outpoint.
func (s *indexer) GetVtxos(_ context.Context, req *arkv1.GetVtxosRequest) (*arkv1.GetVtxosResponse, error) {
	var list []VTXO
	switch {
	case len(req.GetScripts()) == 0 && len(req.GetOutpoints()) == 0:
		return nil, invalid("missing outpoints or scripts filter")
	case len(req.GetScripts()) > 0 && len(req.GetOutpoints()) > 0:
		return nil, invalid("outpoints and scripts filters are mutually exclusive")
	case len(req.GetOutpoints()) > 0:
		for _, o := range req.GetOutpoints() {
			op, err := parseOutpoint(o)
			if err != nil {
				return nil, err
			}
			if v, ok := s.op.store.vtxo(op); ok {
				list = append(list, v)
			}
		}
	default:
		var err error
		if list, err = s.byScripts(req); err != nil {
			return nil, err
		}
	}
	list, page, err := paged(list, req.GetPage())
	if err != nil {
		return nil, err
	}
	res := &arkv1.GetVtxosResponse{Page: page}
	for _, v := range list {
		if v, told := s.op.liedVTXO(v); told {
			res.Vtxos = append(res.Vtxos, indexerVTXO(v))
		}
	}
	return res, nil
}

func (s *indexer) byScripts(req *arkv1.GetVtxosRequest) ([]VTXO, error) {
	flags := []bool{req.GetSpendableOnly(), req.GetSpentOnly(), req.GetRecoverableOnly(), req.GetPendingOnly(), req.GetRenewableOnly()}
	n := 0
	for _, f := range flags {
		if f {
			n++
		}
	}
	if n > 1 {
		return nil, invalid("spendable, spent, recoverable, pending and renewable filters are mutually exclusive")
	}
	after, before := req.GetAfter(), req.GetBefore()
	if after < 0 || before < 0 {
		return nil, invalid("after and before must be greater than or equal to 0")
	}
	if before > 0 && after > 0 && before <= after {
		return nil, invalid("before must be greater than after")
	}
	now := s.p.now()
	var keep func(VTXO) bool
	switch slices.Index(flags, true) {
	case 0:
		keep = func(v VTXO) bool { return !v.Spent && !v.Swept && !v.Unrolled }
	case 1:
		keep = func(v VTXO) bool { return v.Spent || v.Swept || v.Unrolled }
	case 2:
		keep = func(v VTXO) bool { return !v.NeedsForfeit(now) && !v.Spent && !v.Unrolled }
	case 3:
		keep = func(v VTXO) bool { return s.op.store.pendingSpend(v.Outpoint) }
	case 4:
		keep = func(v VTXO) bool { return !v.Spent && !v.Unrolled }
	default:
		keep = func(VTXO) bool { return true }
	}
	var list []VTXO
	for _, script := range req.GetScripts() {
		key, err := parseScript(script)
		if err != nil {
			return nil, err
		}
		for _, v := range s.op.store.byScript(key) {
			if (after == 0 || v.updated >= after) && (before == 0 || v.updated <= before) && keep(v) {
				list = append(list, v)
			}
		}
	}
	return list, nil
}

func (s *store) byScript(key [32]byte) []VTXO {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]VTXO, 0, len(s.byKey[key]))
	for _, v := range s.byKey[key] {
		out = append(out, *v)
	}
	return out
}

func indexerVTXO(v VTXO) *arkv1.IndexerVtxo {
	res := &arkv1.IndexerVtxo{
		Outpoint:  &arkv1.IndexerOutpoint{Txid: v.Outpoint.Hash.String(), Vout: v.Outpoint.Index},
		CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, Amount: uint64(v.Amount), Script: hex.EncodeToString(v.PkScript()),
		IsPreconfirmed: v.Preconfirm, IsSwept: v.Swept, IsUnrolled: v.Unrolled, IsSpent: v.Spent, SpentBy: v.SpentBy,
		CommitmentTxids: v.Commitments, SettledBy: v.SettledBy, ArkTxid: v.ArkTxid, Depth: v.Depth,
	}
	for _, a := range v.Assets {
		res.Assets = append(res.Assets, &arkv1.IndexerAsset{AssetId: a.ID, Amount: a.Amount})
	}
	return res
}

func (s *indexer) commitment(txid string) (*commitment, error) {
	if _, err := parseTxid(txid); err != nil {
		return nil, err
	}
	s.op.store.mu.RLock()
	defer s.op.store.mu.RUnlock()
	c, ok := s.op.store.commitments[txid]
	if !ok {
		return nil, status.Errorf(codes.Internal, "round with commitment txid %s not found", txid)
	}
	return c, nil
}

// GetCommitmentTx sums up one batch.
func (s *indexer) GetCommitmentTx(_ context.Context, req *arkv1.GetCommitmentTxRequest) (*arkv1.GetCommitmentTxResponse, error) {
	c, err := s.commitment(req.GetTxid())
	if err != nil {
		return nil, err
	}
	s.op.store.mu.RLock()
	defer s.op.store.mu.RUnlock()
	res := &arkv1.GetCommitmentTxResponse{
		StartedAt: c.started, EndedAt: c.ended, Batches: map[uint32]*arkv1.IndexerBatch{},
		TotalInputAmount: uint64(c.inAmount), TotalInputVtxos: int32(c.inCount),
		TotalOutputAmount: uint64(c.outAmount), TotalOutputVtxos: int32(c.outCount),
	}
	if c.tree != nil {
		res.Batches[0] = &arkv1.IndexerBatch{
			TotalOutputAmount: uint64(c.outAmount), TotalOutputVtxos: int32(c.outCount), ExpiresAt: c.expires, Swept: c.swept,
		}
	}
	return res, nil
}

func nodes(t *txtree.Node) (out []*arkv1.IndexerNode) {
	if t == nil {
		return nil
	}
	for _, n := range t.Nodes() {
		out = append(out, &arkv1.IndexerNode{Txid: n.Txid.String(), Children: n.ChildIDs()})
	}
	return out
}

// GetConnectors lists a batch's connector tree.
func (s *indexer) GetConnectors(_ context.Context, req *arkv1.GetConnectorsRequest) (*arkv1.GetConnectorsResponse, error) {
	c, err := s.commitment(req.GetTxid())
	if err != nil {
		return nil, err
	}
	list, page, err := paged(nodes(c.connectors), req.GetPage())
	return &arkv1.GetConnectorsResponse{Connectors: list, Page: page}, err
}

// GetForfeitTxs lists a batch's forfeits.
func (s *indexer) GetForfeitTxs(_ context.Context, req *arkv1.GetForfeitTxsRequest) (*arkv1.GetForfeitTxsResponse, error) {
	c, err := s.commitment(req.GetTxid())
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range c.forfeits {
		ids = append(ids, f.packet.UnsignedTx.TxID())
	}
	slices.Sort(ids)
	ids, page, err := paged(ids, req.GetPage())
	return &arkv1.GetForfeitTxsResponse{Txids: ids, Page: page}, err
}

func (s *indexer) batch(o *arkv1.IndexerOutpoint) (*commitment, error) {
	op, err := indexerOutpoint(o)
	if err != nil {
		return nil, err
	}
	return s.commitment(op.Hash.String())
}

// GetVtxoTree lists a batch's VTXO tree.
func (s *indexer) GetVtxoTree(_ context.Context, req *arkv1.GetVtxoTreeRequest) (*arkv1.GetVtxoTreeResponse, error) {
	c, err := s.batch(req.GetBatchOutpoint())
	if err != nil {
		return nil, err
	}
	list, page, err := paged(nodes(c.tree), req.GetPage())
	return &arkv1.GetVtxoTreeResponse{VtxoTree: list, Page: page}, err
}

// GetVtxoTreeLeaves lists the VTXOs that a batch made.
func (s *indexer) GetVtxoTreeLeaves(_ context.Context, req *arkv1.GetVtxoTreeLeavesRequest) (*arkv1.GetVtxoTreeLeavesResponse, error) {
	c, err := s.batch(req.GetBatchOutpoint())
	if err != nil {
		return nil, err
	}
	var list []*arkv1.IndexerOutpoint
	for _, op := range s.op.store.leavesOf(c) {
		list = append(list, &arkv1.IndexerOutpoint{Txid: op.Hash.String(), Vout: op.Index})
	}
	list, page, err := paged(list, req.GetPage())
	return &arkv1.GetVtxoTreeLeavesResponse{Leaves: list, Page: page}, err
}

// leavesOf lists the VTXOs in a commitment's leaves.
func (s *store) leavesOf(c *commitment) (out []wire.OutPoint) {
	if c.tree == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, leaf := range c.tree.Leaves() {
		for i := range leaf.Tx.TxOut {
			op := wire.OutPoint{Hash: leaf.Txid, Index: uint32(i)}
			if _, ok := s.vtxos[op]; ok {
				out = append(out, op)
			}
		}
	}
	return out
}

// GetBatchSweepTransactions lists what swept a batch.
func (s *indexer) GetBatchSweepTransactions(_ context.Context, req *arkv1.GetBatchSweepTransactionsRequest) (*arkv1.GetBatchSweepTransactionsResponse, error) {
	c, err := s.batch(req.GetBatchOutpoint())
	if err != nil {
		return nil, err
	}
	s.op.store.mu.RLock()
	defer s.op.store.mu.RUnlock()
	return &arkv1.GetBatchSweepTransactionsResponse{SweptBy: slices.Clone(c.sweptBy)}, nil
}

// GetVirtualTxs returns PSBTs of virtual transactions with their signatures.
func (s *indexer) GetVirtualTxs(_ context.Context, req *arkv1.GetVirtualTxsRequest) (*arkv1.GetVirtualTxsResponse, error) {
	ids := req.GetTxids()
	if req.GetIntent() != nil {
		ops, err := provenOutpoints(req.GetIntent())
		if err != nil {
			return nil, err
		}
		ids = nil
		for _, o := range ops {
			ids = append(ids, o.Hash.String())
		}
	}
	if len(ids) == 0 {
		return nil, invalid("missing txids")
	}
	var txs []string
	for _, id := range ids {
		if _, err := parseTxid(id); err != nil {
			return nil, err
		}
		s.op.store.mu.RLock()
		tx, ok := s.op.store.virtual[id]
		s.op.store.mu.RUnlock()
		if ok {
			txs = append(txs, tx)
		}
	}
	txs, page, err := paged(txs, req.GetPage())
	return &arkv1.GetVirtualTxsResponse{Txs: txs, Page: page}, err
}

// GetAsset tells an asset's supply.
func (s *indexer) GetAsset(_ context.Context, req *arkv1.GetAssetRequest) (*arkv1.GetAssetResponse, error) {
	id := req.GetAssetId()
	if id == "" {
		return nil, invalid("missing asset id")
	}
	s.op.store.mu.RLock()
	defer s.op.store.mu.RUnlock()
	a, ok := s.op.store.assets[id]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "asset %s not found", id)
	}
	return &arkv1.GetAssetResponse{AssetId: id, Supply: strconv.FormatUint(a.supply, 10), Metadata: a.metadata, ControlAsset: a.control}, nil
}

// sortedKeys is for answers whose order should not vary.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
