package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// ErrStreamLost is returned when the event stream ends in the middle of a batch:
// what was said meanwhile is never said again.
var ErrStreamLost = errors.New("operator: event stream lost in a batch")

// ErrUnheard is returned, with the cause, when a registration was sent and its
// outcome is not known: the intent may be queued, under an id that nobody has.
var ErrUnheard = errors.New("operator: registered perhaps")

// BatchError says that a batch failed; trying again may help.
type BatchError struct{ Reason string }

// Error gives the operator's reason.
func (e *BatchError) Error() string { return "the batch failed: " + e.Reason }

// Participant is whoever has the keys of one task: what Participate asks of it in
// the batches that take the task up. An error ends its part.
type Participant interface {
	// Join returns the batch to take part in, once everything is as it should be
	// before the registration is confirmed. It is called again when the next batch
	// lists the task.
	Join(ctx context.Context, started batch.Started) (*batch.Batch, error)
	// Nonces makes the nonces of the task's cosigner.
	Nonces(st batch.StepNonces) (map[chainhash.Hash]musig2.PubNonce, error)
	// Sign makes its partial signatures, and uses the nonces up.
	Sign(st batch.StepSign) (map[chainhash.Hash]musig2.PartialSig, error)
	// Forfeit hands over what the batch costs, once all that it gives is there.
	Forfeit(ctx context.Context, st batch.StepForfeits) error
}

// Participate registers an intent for a task, whose IntentID it sets, and follows
// the batches until one has carried it. A batch that failed is a *BatchError.
func (c *Client) Participate(ctx context.Context, task *batch.Task, proof, message string, p Participant) error {
	stream, err := c.Events(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Add(ctx, batch.Topics([]batch.Task{*task})...); err != nil {
		return err
	}
	// Only now: whatever names the intent is then heard.
	if task.IntentID, err = c.RegisterIntent(ctx, proof, message); err != nil {
		switch ClassOf(err) {
		case Transient, Canceled, Unknown, Unverified:
			return fmt.Errorf("%w: %w", ErrUnheard, err)
		}
		return err
	}
	part := &part{c: c, id: task.IntentID, cosigner: task.Cosigner, Participant: p}
	for {
		var ev Event
		var open bool
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case ev, open = <-stream.C():
		}
		if !open {
			return ErrStreamLost
		}
		switch ev := ev.(type) {
		case StreamDown:
			if part.batch != nil {
				return fmt.Errorf("%w: %w", ErrStreamLost, ev.Err)
			}
		case Malformed:
			if part.batch != nil {
				return fmt.Errorf("%w: %w", ErrStreamLost, ev.Err)
			}
		case batch.Event:
			done, err := part.hear(ctx, ev)
			if done || err != nil {
				return err
			}
		}
	}
}

// part is one participant's part in the batch that lists its intent, if one does.
type part struct {
	Participant
	c        *Client
	id       string
	cosigner bip340.PubKey
	batch    *batch.Batch
}

// hear feeds one event to the batch and carries out what it asks for.
func (p *part) hear(ctx context.Context, ev batch.Event) (done bool, err error) {
	if started, ok := ev.(batch.Started); ok {
		return false, p.start(ctx, started)
	}
	if p.batch == nil {
		return false, nil
	}
	step, err := p.batch.Handle(ev)
	for err == nil && step != (batch.StepNone{}) {
		switch st := step.(type) {
		case batch.StepNonces:
			step, err = p.nonces(ctx, st)
			continue
		case batch.StepSign:
			err = p.sign(ctx, st)
		case batch.StepForfeits:
			err = p.Forfeit(ctx, st)
		case batch.StepFinalized:
			return true, nil
		case batch.StepFailed:
			return false, &BatchError{st.Reason}
		}
		if err == nil {
			step, err = p.batch.Next()
		}
	}
	return false, err
}

// start joins a batch that lists the intent. A batch that lacked confirmations
// ends without a word: the next one that lists us replaces it.
func (p *part) start(ctx context.Context, started batch.Started) (err error) {
	if !slices.Contains(started.IntentHashes, batch.IntentHash(p.id)) {
		return nil
	}
	if p.batch, err = p.Join(ctx, started); err != nil {
		return err
	}
	return p.c.ConfirmRegistration(ctx, p.id)
}

func (p *part) nonces(ctx context.Context, st batch.StepNonces) (batch.Step, error) {
	public, err := p.Nonces(st)
	if err != nil {
		return nil, err
	}
	if err := p.c.SubmitTreeNonces(ctx, p.batch.ID(), p.cosigner, public); err != nil {
		return nil, err
	}
	return p.batch.NoncesMade(map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce{p.cosigner: public})
}

func (p *part) sign(ctx context.Context, st batch.StepSign) error {
	sigs, err := p.Sign(st)
	if err != nil {
		return err
	}
	return p.c.SubmitTreeSignatures(ctx, p.batch.ID(), p.cosigner, sigs)
}
