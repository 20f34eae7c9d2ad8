package arktest

import (
	"encoding/hex"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/asset"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// txKind is a kind of notification.
type txKind int

const (
	commitmentTx txKind = iota
	arkTx
	sweepTx
)

// txEvent is one transaction of the operator, for /v1/txs and subscriptions.
type txEvent struct {
	kind        txKind
	txid, tx    string
	raw         *wire.MsgTx // for filters
	spent, made []VTXO
	checkpoints map[string]*psbt.Packet // by outpoint of the VTXO spent
	swept       []wire.OutPoint
}

func protoVTXO(v VTXO) *arkv1.Vtxo {
	res := &arkv1.Vtxo{
		Outpoint: &arkv1.Outpoint{Txid: v.Outpoint.Hash.String(), Vout: v.Outpoint.Index},
		Amount:   uint64(v.Amount), Script: hex.EncodeToString(v.PkScript()), CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt,
		CommitmentTxids: v.Commitments, IsPreconfirmed: v.Preconfirm, IsSwept: v.Swept, IsUnrolled: v.Unrolled, IsSpent: v.Spent,
		SpentBy: v.SpentBy, SettledBy: v.SettledBy, ArkTxid: v.ArkTxid, Depth: v.Depth,
	}
	for _, a := range v.Assets {
		res.Assets = append(res.Assets, &arkv1.Asset{AssetId: a.ID, Amount: a.Amount})
	}
	return res
}

// notify tells both streams.
func (p *process) notify(e txEvent) {
	n := &arkv1.TxNotification{Txid: e.txid, Tx: e.tx}
	for _, v := range e.spent {
		n.SpentVtxos = append(n.SpentVtxos, protoVTXO(v))
	}
	for _, v := range e.made {
		n.SpendableVtxos = append(n.SpendableVtxos, protoVTXO(v))
	}
	for _, op := range e.swept {
		n.SweptVtxos = append(n.SweptVtxos, &arkv1.Outpoint{Txid: op.Hash.String(), Vout: op.Index})
	}
	if len(e.checkpoints) > 0 {
		n.CheckpointTxs = map[string]*arkv1.TxData{}
		for op, c := range e.checkpoints {
			encoded, _ := c.B64Encode() // it was decoded from one
			n.CheckpointTxs[op] = &arkv1.TxData{Txid: c.UnsignedTx.TxID(), Tx: encoded}
		}
	}
	msg := &arkv1.GetTransactionsStreamResponse{}
	switch e.kind {
	case commitmentTx:
		msg.Data = &arkv1.GetTransactionsStreamResponse_CommitmentTx{CommitmentTx: n}
	case arkTx:
		msg.Data = &arkv1.GetTransactionsStreamResponse_ArkTx{ArkTx: n}
	case sweepTx:
		msg.Data = &arkv1.GetTransactionsStreamResponse_SweepTx{SweepTx: n}
	}
	p.txs.emit([]message[*arkv1.GetTransactionsStreamResponse]{{event: msg}})
	p.subs.notify(e)
}

func toAssets(list []asset.Amount) (out []Asset) {
	for _, a := range list {
		out = append(out, Asset{a.ID, a.Amount})
	}
	return out
}

func fromAssets(list []Asset) (out []asset.Amount) {
	for _, a := range list {
		out = append(out, asset.Amount{ID: a.ID, Amount: a.Amount})
	}
	return out
}

// assetRecord is what the indexer knows of an issued asset.
type assetRecord struct {
	supply   uint64
	metadata string
	control  string
}

// Exists says whether an asset was issued.
func (s *store) Exists(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.assets[id]
	return ok
}

// Control returns an asset's control asset.
func (s *store) Control(id string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a, ok := s.assets[id]
	return a.control, ok
}
