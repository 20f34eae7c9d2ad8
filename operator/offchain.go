package operator

import (
	"context"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/ark"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

const (
	// maxPSBT bounds one base64 PSBT of the operator's in characters. A root node
	// with 128 cosigners has about 12,000.
	maxPSBT = 2 << 20
	// maxTxs bounds the transactions in one answer.
	maxTxs = 4096
)

// OffchainTx is an Ark transaction and its checkpoints as the operator signed
// them, base64 PSBTs whose signatures the caller verifies.
type OffchainTx struct {
	Txid        chainhash.Hash
	Tx          string
	Checkpoints []string
}

// SubmitTx hands over an off-chain transaction signed by its owner, with unsigned
// checkpoints, and returns what the operator signed (section 7.2).
func (c *Client) SubmitTx(ctx context.Context, arkTx string, checkpoints []string) (OffchainTx, error) {
	resp, err := guarded(ctx, c, "SubmitTx", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.SubmitTxResponse, error) {
		return a.SubmitTx(ctx, &arkv1.SubmitTxRequest{SignedArkTx: arkTx, CheckpointTxs: checkpoints})
	})
	if err != nil {
		return OffchainTx{}, err
	}
	return decodeOffchain(resp.GetArkTxid(), resp.GetFinalArkTx(), resp.GetSignedCheckpointTxs())
}

// FinalizeTx hands over the checkpoints with all signatures; only then the
// receivers see their coins.
func (c *Client) FinalizeTx(ctx context.Context, txid chainhash.Hash, checkpoints []string) error {
	_, err := guarded(ctx, c, "FinalizeTx", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.FinalizeTxResponse, error) {
		return a.FinalizeTx(ctx, &arkv1.FinalizeTxRequest{ArkTxid: txid.String(), FinalCheckpointTxs: checkpoints})
	})
	return err
}

// PendingTx returns the submitted transactions that were never finalized and
// spend an input of the proof.
func (c *Client) PendingTx(ctx context.Context, proof, message string) ([]OffchainTx, error) {
	resp, err := guarded(ctx, c, "GetPendingTx", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.GetPendingTxResponse, error) {
		return a.GetPendingTx(ctx, &arkv1.GetPendingTxRequest{Identifier: &arkv1.GetPendingTxRequest_Intent{
			Intent: &arkv1.Intent{Proof: proof, Message: message},
		}})
	})
	if err != nil {
		return nil, err
	}
	if len(resp.GetPendingTxs()) > maxTxs {
		return nil, fmt.Errorf("%w: %d pending transactions", ErrAnswer, len(resp.GetPendingTxs()))
	}
	var txs []OffchainTx
	for _, p := range resp.GetPendingTxs() {
		tx, err := decodeOffchain(p.GetArkTxid(), p.GetFinalArkTx(), p.GetSignedCheckpointTxs())
		if err != nil {
			return nil, err
		}
		txs = append(txs, tx)
	}
	return txs, nil
}

func decodeOffchain(txid, tx string, checkpoints []string) (OffchainTx, error) {
	hash, err := ark.ParseTxid(txid)
	if err != nil {
		return OffchainTx{}, fmt.Errorf("%w: off-chain transaction: %w", ErrAnswer, err)
	}
	if len(checkpoints) > maxTxs {
		return OffchainTx{}, fmt.Errorf("%w: %d checkpoints", ErrAnswer, len(checkpoints))
	}
	for _, psbt := range append([]string{tx}, checkpoints...) {
		if psbt == "" || len(psbt) > maxPSBT {
			return OffchainTx{}, fmt.Errorf("%w: PSBT of %d characters", ErrAnswer, len(psbt))
		}
	}
	return OffchainTx{Txid: hash, Tx: tx, Checkpoints: checkpoints}, nil
}
