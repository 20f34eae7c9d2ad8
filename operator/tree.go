package operator

import (
	"context"
	"encoding/hex"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/bip340"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
	"github.com/vigil-ark/vigil/musig2"
)

// SubmitTreeNonces hands over key's public nonces for the nodes of a batch's VTXO
// tree, by txid. The operator checks no sender and keeps the last submission, so
// the caller must see its own nonces echoed before it signs (section 5.5).
func (c *Client) SubmitTreeNonces(ctx context.Context, batchID string, key bip340.PubKey, nonces map[chainhash.Hash]musig2.PubNonce) error {
	byTxid := make(map[string]string, len(nonces))
	for txid, n := range nonces {
		byTxid[txid.String()] = hex.EncodeToString(n[:])
	}
	_, err := guarded(ctx, c, "SubmitTreeNonces", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.SubmitTreeNoncesResponse, error) {
		return a.SubmitTreeNonces(ctx, &arkv1.SubmitTreeNoncesRequest{BatchId: batchID, Pubkey: key.String(), TreeNonces: byTxid})
	})
	return err
}

// SubmitTreeSignatures hands over key's partial signatures for the nodes of a
// batch's VTXO tree, by txid.
func (c *Client) SubmitTreeSignatures(ctx context.Context, batchID string, key bip340.PubKey, sigs map[chainhash.Hash]musig2.PartialSig) error {
	byTxid := make(map[string]string, len(sigs))
	for txid, s := range sigs {
		byTxid[txid.String()] = hex.EncodeToString(s[:])
	}
	_, err := guarded(ctx, c, "SubmitTreeSignatures", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.SubmitTreeSignaturesResponse, error) {
		return a.SubmitTreeSignatures(ctx, &arkv1.SubmitTreeSignaturesRequest{BatchId: batchID, Pubkey: key.String(), TreeSignatures: byTxid})
	})
	return err
}

// SubmitForfeits hands over completed forfeit transactions, and the commitment
// transaction when boarding inputs in it were signed (else empty), all base64
// PSBTs. At least one of the two must be there.
func (c *Client) SubmitForfeits(ctx context.Context, forfeits []string, commitment string) error {
	_, err := guarded(ctx, c, "SubmitSignedForfeitTxs", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.SubmitSignedForfeitTxsResponse, error) {
		return a.SubmitSignedForfeitTxs(ctx, &arkv1.SubmitSignedForfeitTxsRequest{SignedForfeitTxs: forfeits, SignedCommitmentTx: commitment})
	})
	return err
}
