package operator

import (
	"encoding/hex"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

const (
	// maxPkScript bounds a pkScript in bytes: taproot has 34, the form of sub-dust
	// outputs 36.
	maxPkScript = 520
	// maxCommitments bounds the ancestors of one VTXO.
	maxCommitments = 4096
	// maxAssets bounds the assets of one VTXO.
	maxAssets = 1024
)

func decodeVTXO(m *arkv1.IndexerVtxo) (ark.VTXO, error) {
	v := ark.VTXO{
		CreatedAt:    m.GetCreatedAt(),
		ExpiresAt:    m.GetExpiresAt(),
		Preconfirmed: m.GetIsPreconfirmed(),
		Swept:        m.GetIsSwept(),
		Unrolled:     m.GetIsUnrolled(),
		Spent:        m.GetIsSpent(),
	}
	op, err := decodeOutpoint(m.GetOutpoint())
	if err != nil {
		return ark.VTXO{}, err
	}
	v.Outpoint = op
	if m.GetAmount() > maxSats || v.CreatedAt < 0 || v.ExpiresAt < 0 {
		return ark.VTXO{}, fmt.Errorf("%w: VTXO of %d sats, created at %d, expiring at %d", ErrAnswer, m.GetAmount(), v.CreatedAt, v.ExpiresAt)
	}
	v.Amount = int64(m.GetAmount())
	if len(m.GetScript()) > 2*maxPkScript {
		return ark.VTXO{}, fmt.Errorf("%w: script of %d characters", ErrAnswer, len(m.GetScript()))
	}
	if v.Script, err = hex.DecodeString(m.GetScript()); err != nil || len(v.Script) == 0 {
		return ark.VTXO{}, fmt.Errorf("%w: script %.80q", ErrAnswer, m.GetScript())
	}
	if len(m.GetCommitmentTxids()) > maxCommitments || len(m.GetAssets()) > maxAssets {
		return ark.VTXO{}, fmt.Errorf("%w: VTXO with %d commitments and %d assets", ErrAnswer, len(m.GetCommitmentTxids()), len(m.GetAssets()))
	}
	for _, txid := range m.GetCommitmentTxids() {
		h, err := ark.ParseTxid(txid)
		if err != nil {
			return ark.VTXO{}, fmt.Errorf("%w: commitment: %w", ErrAnswer, err)
		}
		v.CommitmentTxs = append(v.CommitmentTxs, h)
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&v.SpentBy, m.GetSpentBy()}, {&v.SettledBy, m.GetSettledBy()}, {&v.ArkTxid, m.GetArkTxid()}} {
		if f.from == "" {
			continue
		}
		h, err := ark.ParseTxid(f.from)
		if err != nil {
			return ark.VTXO{}, fmt.Errorf("%w: spender: %w", ErrAnswer, err)
		}
		*f.to = h.String()
	}
	for _, a := range m.GetAssets() {
		if !isLabel(a.GetAssetId()) {
			return ark.VTXO{}, fmt.Errorf("%w: asset id %.80q", ErrAnswer, a.GetAssetId())
		}
		v.Assets = append(v.Assets, ark.AssetAmount{AssetID: a.GetAssetId(), Amount: a.GetAmount()})
	}
	return v, nil
}

func decodeOutpoint(m *arkv1.IndexerOutpoint) (wire.OutPoint, error) {
	h, err := ark.ParseTxid(m.GetTxid())
	if err != nil {
		return wire.OutPoint{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return wire.OutPoint{Hash: h, Index: m.GetVout()}, nil
}
