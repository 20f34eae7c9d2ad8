package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrEpochLost is returned when Vigil says that it was restored from copies older
// than the refresh that made this device's share, and cannot make its own again: then
// nobody can sign with the key any more. Vigil's operator may find a newer export of
// its secrets; without one the coins leave by the seed alone (Leave). The device
// forgets nothing for it: Vigil does not sign what it refuses.
var ErrEpochLost = errors.New("client: Vigil has lost its share of the wallet's key")

// behind says whether a refusal may come of a Vigil that was restored from a copy
// of the past: it does not know the epoch, or not the host key that a healing
// refresh made.
func behind(err error) bool {
	code := vigil.CodeOf(err)
	return code == vigil.CodeEpochUnknown || code == vigil.CodeNotPermitted
}

// catchUp hands Vigil the certified record of the device's epoch when a refusal
// says that it may have lost it, and says whether the refused call is to be made
// again. The error is ErrEpochLost, or the refusal: it stands when it was for
// something else.
func (w *Wallet) catchUp(ctx context.Context, refusal error) error {
	active, err := w.current().active()
	if err != nil || active.Number == 0 || !behind(refusal) {
		return refusal
	}
	e := *active
	req := &vigilpb.AdoptEpochRequest{Epoch: e.Number, Record: e.Record, Sealed: e.Sealed}
	var answer vigilpb.AdoptEpochAnswer
	err = w.askEpoch(ctx, e.Number, "AdoptEpoch", req, &answer)
	if vigil.CodeOf(err) == vigil.CodeNotPermitted { // more than one epoch behind, with other host keys
		err = w.ask(ctx, "AdoptEpoch", req, &answer)
	}
	switch vigil.CodeOf(err) {
	case vigil.CodeEpochLost:
		return fmt.Errorf("%w: %w", ErrEpochLost, err)
	case vigil.CodeEpochUnknown, vigil.CodeNotPermitted:
		return refusal
	}
	if err != nil {
		return errors.Join(refusal, err)
	}
	if err := refresh.VerifyAcknowledgment(e.Record, vigilID, answer.Ack); err != nil {
		return fmt.Errorf("%w: its acknowledgment: %w", ErrVigil, err)
	}
	// What was handed in since is lost there, too: Keep does it again.
	return w.update(ctx, func(st *state) error {
		if e, err := st.epoch(e.Number); err == nil {
			e.Handed = false
		}
		return nil
	})
}
