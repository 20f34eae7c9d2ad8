package operator

import (
	"context"
	"fmt"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// RegisterIntent queues an intent for the next batches: proof is a base64 PSBT,
// message its canonical text. The id it returns is what ConfirmRegistration needs
// and is told only once; until it is stored, the caller has nothing.
func (c *Client) RegisterIntent(ctx context.Context, proof, message string) (id string, err error) {
	resp, err := guarded(ctx, c, "RegisterIntent", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.RegisterIntentResponse, error) {
		return a.RegisterIntent(ctx, &arkv1.RegisterIntentRequest{Intent: &arkv1.Intent{Proof: proof, Message: message}})
	})
	if err != nil {
		return "", err
	}
	if !isLabel(resp.GetIntentId()) {
		return "", fmt.Errorf("%w: intent id %.40q", ErrAnswer, resp.GetIntentId())
	}
	return resp.GetIntentId(), nil
}

// DeleteIntent takes every queued intent from the queue that shares an input with
// the proof, whose message is a "delete". ErrNotFound says that none was queued;
// an intent already taken into a batch cannot be deleted (section 4.6).
func (c *Client) DeleteIntent(ctx context.Context, proof, message string) error {
	_, err := guarded(ctx, c, "DeleteIntent", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.DeleteIntentResponse, error) {
		return a.DeleteIntent(ctx, &arkv1.DeleteIntentRequest{Intent: &arkv1.Intent{Proof: proof, Message: message}})
	})
	return err
}

// EstimateFee asks what an intent with this proof would cost, in satoshis. The
// message is an "estimate-intent-fee"; the proof's signatures are not looked at.
func (c *Client) EstimateFee(ctx context.Context, proof, message string) (int64, error) {
	resp, err := guarded(ctx, c, "EstimateIntentFee", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.EstimateIntentFeeResponse, error) {
		return a.EstimateIntentFee(ctx, &arkv1.EstimateIntentFeeRequest{Intent: &arkv1.Intent{Proof: proof, Message: message}})
	})
	if err != nil {
		return 0, err
	}
	if fee := resp.GetFee(); fee < 0 || fee > maxSats {
		return 0, fmt.Errorf("%w: fee of %d", ErrAnswer, fee)
	}
	return resp.GetFee(), nil
}

// ConfirmRegistration promises to take part in the batch that listed the intent.
// It is idempotent. Breaking the promise gets scripts convicted (section 5.11).
func (c *Client) ConfirmRegistration(ctx context.Context, id string) error {
	_, err := guarded(ctx, c, "ConfirmRegistration", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.ConfirmRegistrationResponse, error) {
		return a.ConfirmRegistration(ctx, &arkv1.ConfirmRegistrationRequest{IntentId: id})
	})
	return err
}
