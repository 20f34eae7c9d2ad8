package wallet

import (
	"context"
	"errors"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
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
// It holds no wallet in memory. An operator that is down ends it with its error.
func (s *Service) Round(ctx context.Context, age time.Duration) error {
	const page = 256
	var from ledger.Cursor
	for {
		ids, next, err := s.ledger.Wallets(ctx, page, from)
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
	case row.State != ledger.WalletActive || s.cfg.Now().Sub(time.Unix(row.SyncedAt, 0)) < age:
		return false, nil
	}
	d, err := descriptor.Decode(row.Descriptor)
	if err != nil {
		s.cfg.Log.Error("a wallet's descriptor cannot be read", "wallet", id, "err", err)
		return false, nil
	}
	if row.Active > 0 && !row.Retiring {
		if err := s.keys.Erase(ctx, id, row.Active); err != nil {
			s.cfg.Log.Error("a share of an epoch that is over could not be destroyed", "wallet", id, "err", err)
		}
	}
	_, err = s.sync(ctx, id, [][]byte{d.PkScript(), d.TwoLeaf().PkScript()})
	switch vigil.CodeOf(err) {
	case vigil.CodeOperatorDown, vigil.CodeStoreDown:
		return true, err
	}
	if err != nil {
		s.cfg.Log.Error("a wallet's coins could not be taken in", "wallet", id, "err", err)
	}
	return true, nil
}

// Sweep lets go of ceremonies that were abandoned.
func (s *Service) Sweep() { s.ceremonies.Sweep() }

// Renewed tells a wallet's people how a delegate stands, after the engine moved
// it: settled, failed, banned, ended. It must not block, and does not.
func (s *Service) Renewed(rec *delegate.Record) {
	if rec.Kind != delegate.Wallet {
		return
	}
	now := s.now()
	e := notify.Event{At: now, Delegate: rec.ID, Code: rec.LastError.Code, TimeLeft: max(rec.Expiry()-now, 0)}
	for _, op := range rec.Outpoints() {
		e.Outpoints = append(e.Outpoints, op.String())
	}
	switch {
	case rec.State == delegate.Settled:
		e.Kind, e.Text, e.TimeLeft = notify.Renewed, "the coins were renewed; sign a delegate for the new ones", 0
		e.Outpoints = nil
		for _, op := range rec.Leaves {
			e.Outpoints = append(e.Outpoints, op.String())
		}
	case rec.State == delegate.Broken:
		e.Kind, e.Text = notify.Unrolled, "an input of a delegate is on chain; the others need a new one"
	case rec.State == delegate.Spent:
		e.Kind, e.Text = notify.Uncovered, "an input of a delegate is spent; the others need a new one"
	case rec.State == delegate.Quarantined:
		e.Kind, e.Text = notify.Failed, "a delegate cannot be carried out: "+rec.LastError.Text
	default:
		return
	}
	s.hub.Publish(rec.Wallet, e)
}

// Misfit tells a wallet's people that a delegate no longer fits the operator's
// parameters, which only they can mend.
func (s *Service) Misfit(rec *delegate.Record) {
	if rec.Kind != delegate.Wallet {
		return
	}
	now := s.now()
	s.hub.Publish(rec.Wallet, notify.Event{
		Kind: notify.OperatorChanged, At: now, Delegate: rec.ID, Code: rec.LastError.Code, Text: rec.LastError.Text, TimeLeft: max(rec.Expiry()-now, 0),
	})
}
