package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
)

// Rest is the pause between two wallets of a round, so that a round is a trickle
// beside everything else: some hundred a second at most.
const Rest = 5 * time.Millisecond

// Round looks at every wallet that the operator was not asked about for longer
// than age: coins that came, went or were unrolled while its device was away end
// delegates and raise events, and a share that a crash left behind is destroyed.
// It takes up no wallet but one that was refreshed. An operator that is down ends it
// with its error.
func (s *Service) Round(ctx context.Context, age time.Duration) error {
	const page = 256
	var from ledger.Cursor
	for {
		ids, next, err := s.ledger.Unsynced(ctx, s.cfg.Now().Add(-age), page, from)
		if err != nil {
			return err
		}
		for _, id := range ids {
			looked, err := s.look(ctx, id, age)
			if err != nil {
				return err
			}
			if !looked {
				continue
			}
			select {
			case <-time.After(Rest):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if from = next; from == nil {
			return nil
		}
	}
}

// look is a round's visit to one wallet. What is wrong with that wallet alone is
// logged and holds up no other.
func (s *Service) look(ctx context.Context, id vigil.WalletID, age time.Duration) (bool, error) {
	row, err := s.ledger.Wallet(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return false, nil
	case errors.Is(err, ledger.ErrUnreadable):
		s.cfg.Log.Error("a wallet cannot be read", "wallet", id, "err", err)
		return false, nil
	case err != nil:
		return false, err
	case row.State != ledger.WalletActive:
		return false, nil
	}
	if ago := s.cfg.Now().Sub(time.Unix(row.SyncedAt, 0)); ago >= 0 && ago < age { // it asked meanwhile
		return false, nil
	}
	if row.Active > 0 && !row.Retiring {
		if err := s.tidy(ctx, id); err != nil {
			s.cfg.Log.Error("a share of an epoch that is over could not be destroyed", "wallet", id, "err", err)
		}
	}
	_, err = s.sync(ctx, row)
	switch vigil.CodeOf(err) {
	case vigil.CodeOperatorDown, vigil.CodeStoreDown:
		return true, err
	}
	if err != nil {
		s.cfg.Log.Error("a wallet's coins could not be taken in", "wallet", id, "err", err)
		return true, nil
	}
	return true, s.remind(ctx, id)
}

const (
	// remindLead is how long before its expiry a bare coin wakes its device at every
	// round: a delegate begins at most three days before, and it has to be signed by then.
	remindLead = 3 * 24 * hour
	// reminded bounds the coins that one event names.
	reminded = 64
)

// remind wakes the device of a wallet that has bare coins with less than half of their
// life before them, or less than remindLead, again: what was told when they came was
// perhaps told to nobody.
func (s *Service) remind(ctx context.Context, id vigil.WalletID) error {
	held, err := s.ledger.VTXOsOf(ctx, id)
	if err != nil {
		return stored(err)
	}
	now, small := s.now(), s.smallness(ctx)
	e := notify.Event{Kind: notify.Uncovered, At: now}
	bare := 0
	for _, h := range held {
		left := h.ExpiresAt - now
		if h.Fate != ledger.Unspent || h.Cover != (vigil.DelegateID{}) || h.Amount < small.dust || left > max((h.ExpiresAt-h.CreatedAt)/2, remindLead) {
			continue
		}
		if bare++; bare <= reminded {
			e.Outpoints = append(e.Outpoints, h.Outpoint.String())
		}
		if left = max(left, 0); bare == 1 || left < e.TimeLeft {
			e.TimeLeft = left
		}
	}
	if bare > 0 {
		e.Text = fmt.Sprintf("%d coins still have no delegate and nobody renews them; sign one", bare)
		s.hub.Publish(id, e)
	}
	return nil
}

// tidy destroys the share of an epoch that is over, should a crash have left it. It
// does so in the wallet's actor and by the row as it is there: beside a refresh it
// would destroy the very share that is being made.
func (s *Service) tidy(ctx context.Context, id vigil.WalletID) error {
	return s.wallets.do(ctx, id, func(ctx context.Context, st *state) error {
		if st.row.State != ledger.WalletActive || st.row.Active == 0 || st.row.Retiring {
			return nil
		}
		return s.keys.Erase(ctx, id, st.row.Active)
	})
}

// Sweep lets go of ceremonies that were abandoned.
func (s *Service) Sweep() { s.ceremonies.Sweep() }

// What a delegate's last error says where its wallet's people are told apart.
const (
	heldElsewhere = "INTENT_HELD_ELSEWHERE"
	banned        = "VTXO_BANNED"
)

// quiet are last errors of a moment, which tell nobody anything.
func quiet(code string) bool {
	switch code {
	case "", "DUPLICATED_INPUT", "OPERATOR_NOT_YET", "OPERATOR_UNAVAILABLE":
		return true
	}
	return false
}

// Moved tells a wallet's people how a delegate stands after somebody moved it
// from one record to the next: renewed, ended, failed, banned, held by somebody
// else's intent, or no longer what the operator takes. It does not block.
func (s *Service) Moved(prev, next *delegate.Record) {
	if next == nil || next.Kind != delegate.Wallet {
		return
	}
	now := s.now()
	e := notify.Event{At: now, Delegate: next.ID, Code: next.LastError.Code, TimeLeft: max(next.Expiry()-now, 0)}
	for _, op := range next.Outpoints() {
		e.Outpoints = append(e.Outpoints, op.String())
	}
	switch {
	case prev != nil && prev.State == next.State && prev.LastError.Code == next.LastError.Code:
		return
	case next.State == delegate.Settled:
		e.Kind, e.Text, e.Code, e.TimeLeft, e.Outpoints = notify.Renewed, "the coins were renewed; sign a delegate for the new ones", "", 0, nil
		for _, op := range next.Leaves {
			e.Outpoints = append(e.Outpoints, op.String())
		}
	case next.State == delegate.Broken:
		e.Kind, e.Text = notify.Unrolled, "an input of a delegate is on chain; its other coins need a new one"
	case next.State == delegate.Spent:
		e.Kind, e.Text = notify.Uncovered, "an input of a delegate is spent; its other coins need a new one"
	case next.State == delegate.Quarantined:
		e.Kind, e.Text = notify.Failed, "a delegate cannot be carried out: "+next.LastError.Text
	case next.State.Ended() || quiet(next.LastError.Code) || prev != nil && prev.LastError.Code == next.LastError.Code:
		return
	case next.LastError.Code == heldElsewhere:
		e.Kind, e.Text = notify.ForeignIntent, "an intent that is not this server's holds the delegate's coins: yours, or a thief's"
	case next.LastError.Code == banned:
		e.Kind, e.Text = notify.Banned, "the operator refuses the wallet's script for a while; the renewal is tried again"
	case slices.Contains(delegate.Misfits(), next.LastError.Code):
		e.Kind, e.Text = notify.OperatorChanged, next.LastError.Text
	default:
		e.Kind, e.Text = notify.Failed, "a renewal failed and is tried again: "+next.LastError.Text
	}
	s.hub.Publish(next.Wallet, e)
}
