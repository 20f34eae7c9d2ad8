package arktest

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// chainPage is how many entries a cursor page holds (protocol section 1.3).
const chainPage = 100

// GetVtxoChain walks from a VTXO back to its commitments.
func (s *indexer) GetVtxoChain(_ context.Context, req *arkv1.GetVtxoChainRequest) (*arkv1.GetVtxoChainResponse, error) {
	if req.GetIntent() != nil {
		return s.chainByIntent(req)
	}
	op, err := indexerOutpoint(req.GetOutpoint())
	if err != nil {
		return nil, err
	}
	list, err := s.op.store.chainOf(op)
	if err != nil {
		return nil, err
	}
	res := &arkv1.GetVtxoChainResponse{}
	switch {
	case req.GetPageToken() != "":
		from, err := cursor(req.GetPageToken(), op)
		if err != nil {
			return nil, err
		}
		res.Chain, res.NextPageToken = cursorPage(list, from, op)
	case req.GetPage() != nil:
		res.Chain, res.Page, err = paged(list, req.GetPage())
	default:
		res.Chain = list
	}
	return res, err
}

// chainByIntent gives the first cursor page of the one outpoint that a proof
// names. With public exposure the proof itself is not verified.
func (s *indexer) chainByIntent(req *arkv1.GetVtxoChainRequest) (*arkv1.GetVtxoChainResponse, error) {
	if req.GetPageToken() != "" {
		return nil, invalid("page_token is not supported with intent; use the returned auth_token to paginate")
	}
	ops, err := provenOutpoints(req.GetIntent())
	if err != nil {
		return nil, err
	}
	if len(ops) != 1 {
		return nil, status.Error(codes.Internal, "only one outpoint expected in intent proof")
	}
	list, err := s.op.store.chainOf(ops[0])
	if err != nil {
		return nil, err
	}
	res := &arkv1.GetVtxoChainResponse{}
	res.Chain, res.NextPageToken = cursorPage(list, 0, ops[0])
	return res, nil
}

// provenOutpoints reads which coins a proof is about.
func provenOutpoints(in *arkv1.IndexerIntent) ([]wire.OutPoint, error) {
	if in.GetProof() == "" {
		return nil, invalid("missing intent proof")
	}
	tx, err := psbt.NewFromRawBytes(strings.NewReader(in.GetProof()), true)
	if err != nil {
		return nil, invalid("failed to parse intent proof tx: %v", err)
	}
	if in.GetMessage() == "" {
		return nil, invalid("missing intent message")
	}
	if _, err := proof.Decode(in.GetMessage(), proof.GetData); err != nil {
		return nil, invalid("%v", err)
	}
	if len(tx.UnsignedTx.TxIn) < 2 {
		return nil, status.Error(codes.Internal, "no outpoints found in intent proof tx")
	}
	var ops []wire.OutPoint
	for _, i := range tx.UnsignedTx.TxIn[1:] {
		ops = append(ops, i.PreviousOutPoint)
	}
	return ops, nil
}

func cursorPage(list []*arkv1.IndexerChain, from int, op wire.OutPoint) ([]*arkv1.IndexerChain, string) {
	from = min(from, len(list))
	to := min(from+chainPage, len(list))
	next := ""
	if to < len(list) {
		next = base64.StdEncoding.EncodeToString([]byte(op.String() + "@" + strconv.Itoa(to)))
	}
	return list[from:to], next
}

func cursor(token string, op wire.OutPoint) (int, error) {
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return 0, invalid("invalid page token")
	}
	at, n, ok := strings.Cut(string(raw), "@")
	from, err := strconv.Atoi(n)
	if !ok || err != nil || from < 0 || at != op.String() {
		return 0, invalid("invalid page token")
	}
	return from, nil
}

func (s *store) chainOf(op wire.OutPoint) (out []*arkv1.IndexerChain, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := map[string]bool{}
	add := func(c *arkv1.IndexerChain) {
		if !seen[c.Txid] {
			seen[c.Txid] = true
			out = append(out, c)
		}
	}
	next := []wire.OutPoint{op}
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		v, ok := s.vtxos[at]
		if !ok {
			return nil, status.Errorf(codes.Internal, "vtxo not found for outpoint: %s", at)
		}
		if !v.Preconfirm {
			s.addBranch(v, add)
			continue
		}
		tx := s.offchain[at.Hash.String()]
		if tx == nil {
			return nil, status.Errorf(codes.Internal, "failed to retrieve offchain tx %s", at.Hash)
		}
		ark := &arkv1.IndexerChain{Txid: at.Hash.String(), ExpiresAt: v.ExpiresAt, Type: arkv1.IndexerChainedTxType_INDEXER_CHAINED_TX_TYPE_ARK}
		var points []*arkv1.IndexerChain
		for _, id := range sortedKeys(tx.checkpoints) {
			spent := tx.checkpoints[id].UnsignedTx.TxIn[0].PreviousOutPoint
			ark.Spends = append(ark.Spends, id)
			points = append(points, &arkv1.IndexerChain{
				Txid: id, ExpiresAt: v.ExpiresAt, Spends: []string{spent.String()},
				Type: arkv1.IndexerChainedTxType_INDEXER_CHAINED_TX_TYPE_CHECKPOINT,
			})
			next = append(next, spent)
		}
		add(ark)
		for _, c := range points {
			add(c)
		}
	}
	return out, nil
}

// addBranch adds a leaf's way to its commitment, leaf first.
func (s *store) addBranch(v *VTXO, add func(*arkv1.IndexerChain)) {
	c := s.commitments[v.Root]
	if c == nil || c.tree == nil {
		return
	}
	branch := branchOf(c.tree, v.Outpoint.Hash)
	slices.Reverse(branch)
	for i, n := range branch {
		spends := c.txid.String()
		if i+1 < len(branch) {
			spends = branch[i+1].Txid.String()
		}
		add(&arkv1.IndexerChain{
			Txid: n.Txid.String(), ExpiresAt: v.ExpiresAt, Spends: []string{spends},
			Type: arkv1.IndexerChainedTxType_INDEXER_CHAINED_TX_TYPE_TREE,
		})
	}
	add(&arkv1.IndexerChain{Txid: c.txid.String(), ExpiresAt: v.ExpiresAt, Type: arkv1.IndexerChainedTxType_INDEXER_CHAINED_TX_TYPE_COMMITMENT})
}

// branchOf lists the nodes from the root to the node of that txid.
func branchOf(n *txtree.Node, txid chainhash.Hash) []*txtree.Node {
	if n.Txid == txid {
		return []*txtree.Node{n}
	}
	for _, c := range n.Children {
		if rest := branchOf(c, txid); rest != nil {
			return append([]*txtree.Node{n}, rest...)
		}
	}
	return nil
}

// forfeitedInput guesses which input of a forfeit is the VTXO: the one that
// carries signatures.
func forfeitedInput(encoded string) (wire.OutPoint, bool) {
	tx, err := psbt.NewFromRawBytes(strings.NewReader(encoded), true)
	if err != nil {
		return wire.OutPoint{}, false
	}
	for i, in := range tx.Inputs {
		if len(in.TaprootScriptSpendSig) > 0 {
			return tx.UnsignedTx.TxIn[i].PreviousOutPoint, true
		}
	}
	return wire.OutPoint{}, false
}
