package stock

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// tries bounds how often a cancellation is begun again because the renewal
// engine moved the delegate meanwhile; each move is one of few.
const tries = 8

// checkDelete holds a text to a delete intent of today. The operator takes one
// that never expires; here it would be a licence to cancel for whoever saw it.
func (s *Service) checkDelete(text string) error {
	if len(text) > maxMessage {
		return vigil.Errorf(vigil.CodeInvalidMessage, "the message is longer than any real one")
	}
	m, err := intent.DecodeCanonical(text, intent.Delete)
	if err != nil {
		return vigil.Errorf(vigil.CodeInvalidMessage, `the message must be {"type":"delete","expire_at":<unix seconds>}: %w`, err)
	}
	now := s.cfg.Now()
	if left := time.Unix(m.ExpireAt, 0).Sub(now); left < 0 || left > deleteWindow {
		return vigil.Errorf(vigil.CodeClockSkew,
			"the message's expire_at is %d and this server's time %d; sign one that expires within %s from now", m.ExpireAt, now.Unix(), deleteWindow)
	}
	return nil
}

// Cancel takes back the delegate that renews a proven coin, and the replacement
// that may wait beside it. What is queued at the operator is deleted there
// first; what is in a batch already cannot be stopped: the wish is kept, and
// carried out if that batch fails. Asked again, it answers the same.
func (s *Service) Cancel(ctx context.Context, in vigil.Intent) (vigil.Summary, error) {
	if err := s.checkDelete(in.Message); err != nil {
		return vigil.Summary{}, err
	}
	own, err := s.verify(ctx, in)
	if err != nil {
		return vigil.Summary{}, err
	}
	for range tries {
		var rec *delegate.Record
		if rec, err = s.cancelOnce(ctx, own, in); err == nil {
			return summary(rec), nil
		}
		if !errors.Is(err, ledger.ErrConflict) {
			break
		}
	}
	return vigil.Summary{}, stored(err)
}

// cancelOnce reads and cancels. The replacement goes first: the older one's end
// would put it in its place.
func (s *Service) cancelOnce(ctx context.Context, own ownership, in vigil.Intent) (*delegate.Record, error) {
	open, last, err := s.covering(ctx, own)
	if err != nil {
		return nil, err
	}
	for _, rec := range open {
		if last, err = s.cancel(ctx, rec, in); err != nil {
			return nil, err
		}
	}
	if last == nil {
		return nil, vigil.Errorf(vigil.CodeNotFound, "no delegate over a coin that the proof proves is kept here")
	}
	return last, nil
}

// covering finds the delegates that renew a proven coin: those that have not
// ended, a pending one first, and the one that was taken back last.
func (s *Service) covering(ctx context.Context, own ownership) (open []*delegate.Record, cancelled *delegate.Record, err error) {
	err = s.each(ctx, own, func(rec *delegate.Record) bool {
		switch {
		case !slices.ContainsFunc(own.coins, func(c intent.ProofInput) bool { return rec.Spends(c.Outpoint) }):
		case !rec.State.Ended():
			open = append(open, rec)
		case rec.State == delegate.Cancelled && (cancelled == nil || rec.StateSince > cancelled.StateSince):
			cancelled = rec
		}
		return true
	})
	slices.SortStableFunc(open, func(a, b *delegate.Record) int { return cmp.Compare(a.State, b.State) })
	return open, cancelled, err
}

// cancel takes one delegate back, at the operator first where it may be queued.
func (s *Service) cancel(ctx context.Context, rec *delegate.Record, in vigil.Intent) (*delegate.Record, error) {
	queued := rec.State == delegate.Registering || rec.State == delegate.Registered
	if queued {
		if err := s.deleteIntent(ctx, in); err != nil {
			return nil, err
		}
	}
	ended, err := s.ledger.Cancel(ctx, rec, queued)
	if err == nil && rec.State == delegate.Registering {
		// The registration may have been on its way when the first one looked. It can
		// never be confirmed now; a copy left behind would only be in the owner's way.
		if err := s.deleteIntent(ctx, in); err != nil {
			s.cfg.Log.Debug("a cancelled intent may still be queued", "delegate", rec.ID, "err", err)
		}
	}
	return ended, err
}

// deleteIntent hands the owner's delete intent on. That nothing is queued is
// what is wanted.
func (s *Service) deleteIntent(ctx context.Context, in vigil.Intent) error {
	err := s.op.DeleteIntent(ctx, in.Proof, in.Message)
	class := operator.ClassOf(err)
	switch {
	case class == operator.None, class == operator.NotFound:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case class.Retry():
		return &vigil.Error{
			Code: vigil.CodeOperatorDown, Err: err,
			Message: "the Ark operator did not take the queued intent back; the delegate is unchanged, retry later",
		}
	}
	return &vigil.Error{
		Code: vigil.CodeInvalidProof, Err: err,
		Message: "the Ark operator refused the delete intent, so the delegate is unchanged; sign it on the leaf of owner and operator",
	}
}
