package wallet

import (
	"context"
	"errors"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/vigilpb"
)

// DeleteWallet ends a wallet here: every row, index, token and secret. While it
// has coins it is refused; forced, the first call announces it and one after the
// cool-down carries it out, and until then the coins can be moved, and the
// deletion withdrawn.
func (s *Service) DeleteWallet(ctx context.Context, c auth.Call, r *vigilpb.DeleteWalletRequest) (a *vigilpb.DeleteWalletAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := s.held(); err != nil {
			return err
		}
		if r.GetWithdraw() {
			a = &vigilpb.DeleteWalletAnswer{}
			if st.row.DeleteAfter == 0 {
				return nil
			}
			if err := s.change(ctx, st, c, func(w *ledger.Wallet) { w.DeleteAfter = 0 }, ledger.Extras{}); err != nil {
				return err
			}
			s.publish(st, notify.Event{Kind: notify.Deleting, Text: "the deletion that was announced is withdrawn"})
			return nil
		}
		coins, err := s.remaining(ctx, st)
		if err != nil {
			return err
		}
		now := s.now()
		switch {
		case coins == 0:
		case !r.GetForce():
			return vigil.Errorf(vigil.CodeCoinsRemain, "%d coins remain; move them first, or force the deletion", coins)
		case st.row.DeleteAfter == 0:
			after := now + s.coolDown()
			if err := s.change(ctx, st, c, func(w *ledger.Wallet) { w.DeleteAfter = after }, ledger.Extras{}); err != nil {
				return err
			}
			s.publish(st, notify.Event{Kind: notify.Deleting, Text: "the wallet's deletion was announced for " + clock(after) + ", coins and all", TimeLeft: after - now})
			a = &vigilpb.DeleteWalletAnswer{DeleteAfter: after}
			return nil
		case now < st.row.DeleteAfter:
			return vigil.Errorf(vigil.CodeCoolDown, "%d coins remain; the deletion was announced for %s", coins, clock(st.row.DeleteAfter))
		}
		err = s.ledger.DeleteWallet(ctx, st.row, ledger.Extras{Audit: []ledger.Link{s.allowed(st.row, c)}})
		if errors.Is(err, ledger.ErrInFlight) {
			return &vigil.Error{Code: vigil.CodeWalletBusy, Message: "a delegate of the wallet is being carried out; it ends within minutes, retry then", Err: err}
		}
		if err != nil {
			return stored(err)
		}
		st.gone = true
		s.hub.Forget(st.row.ID)
		a = &vigilpb.DeleteWalletAnswer{Deleted: true}
		return nil
	})
	return a, err
}

// remaining counts the coins of a wallet, as the operator and, where it is asked, the
// chain know them now: nothing is deleted on a guess. One that is on chain counts
// until it is known to be spent: the group's leaf under it needs the share that would
// be deleted.
func (s *Service) remaining(ctx context.Context, st *state) (int, error) {
	if st.row.State == ledger.WalletPending {
		return 0, nil // it never had an address
	}
	row, err := s.sync(ctx, st.row)
	if err != nil {
		return 0, err
	}
	if err := st.adopt(row); err != nil {
		return 0, err
	}
	held, err := s.ledger.VTXOsOf(ctx, st.row.ID)
	if err != nil {
		return 0, stored(err)
	}
	n := 0
	unrolled := map[wire.OutPoint]bool{}
	for _, h := range held {
		switch h.Fate {
		case ledger.Unspent:
			n++
		case ledger.Unrolled:
			unrolled[h.Outpoint] = true
		}
	}
	onchain, err := s.onChain(ctx, st.gens, unrolled)
	return n + onchain, err
}

// onChain counts a wallet's coins in the chain: those that were unrolled and that
// nothing confirmed spends, of which the operator does not tell, and what was paid to
// the address for boarding. Without a chain to ask every unrolled one counts, and of
// the others the device knows.
func (s *Service) onChain(ctx context.Context, gens descriptor.Generations, unrolled map[wire.OutPoint]bool) (int, error) {
	if s.chain == nil {
		return len(unrolled), nil
	}
	n := 0
	for op := range unrolled {
		_, spent, err := s.chain.Spender(ctx, op)
		if err != nil {
			return 0, chainDown(err)
		}
		if !spent {
			n++
		}
	}
	for _, d := range gens {
		list, err := s.chain.UTXOs(ctx, d.BoardingAddress())
		if err != nil {
			return 0, chainDown(err)
		}
		n += len(list)
	}
	return n, nil
}
