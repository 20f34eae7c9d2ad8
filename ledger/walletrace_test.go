package ledger_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

// TestManyAtOnce lets actors, engine and upkeep change the same wallets at once:
// nothing is lost, nothing is done twice, and fsck finds nothing.
func TestManyAtOnce(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x, ctx := newTown(t, store), t.Context()
			const wallets, rounds = 3, 12
			for w := range wallets {
				x.create(w)
				for d := range 4 {
					x.submit(w, 10*w+d, 10*w+d)
				}
			}
			entries := x.entries()
			var let, written atomic.Int64
			var group sync.WaitGroup
			for w := range wallets {
				id := walletID(w)
				for worker := range 2 {
					group.Go(func() { // actors
						for i := range rounds {
							row, err := x.l.Wallet(ctx, id)
							if err == nil {
								_, err = x.l.UpdateWallet(ctx, row, nil, ledger.Extras{Audit: []ledger.Link{entry(start, "update")}})
							}
							if err == nil {
								written.Add(1)
							} else if !errors.Is(err, ledger.ErrConflict) {
								t.Error(err)
							}
							if err := x.l.Decide(ctx, id, 0, func(s ledger.Spending) (ledger.Verdict, error) {
								if s.Amount >= 5 {
									return ledger.Verdict{Audit: []ledger.Link{entry(start, "refuse")}}, nil
								}
								return ledger.Verdict{Audit: []ledger.Link{entry(start, "sign")}, Spends: []ledger.Spend{{Sighash: [32]byte{byte(i), byte(worker)}, Amount: 1}}}, nil
							}); err != nil {
								t.Error(err)
							}
							written.Add(1)
							q := ledger.Request{Owner: id[:], Nonce: [16]byte{byte(i)}, Hash: [32]byte{byte(i)}, Stamp: start}
							if got, err := x.l.Begin(ctx, q, window); err == nil && got == nil {
								let.Add(1)
								if err := x.l.Finish(ctx, q, []byte("answer")); err != nil {
									t.Error(err)
								}
							} else if err != nil && !errors.Is(err, ledger.ErrBegun) {
								t.Error(err)
							}
						}
					})
				}
				group.Go(func() { // syncs, of which one coin goes
					for i := range rounds {
						gone := coin(w, 10*w)
						gone.Spent = i >= rounds/2
						if _, err := x.l.PutVTXOs(ctx, id, []ark.VTXO{gone, coin(w, 10*w+1), coin(w, 10*w+2), coin(w, 10*w+3)}); err != nil {
							t.Error(err)
						}
					}
				})
				group.Go(func() { // the engine
					for i := range rounds {
						for d := range 4 {
							err := bump(ctx, x.l, delegateID(10*w+d))
							if err != nil && !errors.Is(err, delegate.ErrTransition) {
								t.Error(fmt.Errorf("round %d: %w", i, err))
							}
						}
					}
				})
			}
			group.Go(func() { // upkeep
				for range rounds {
					_, err1 := x.l.Lapse(ctx, 100)
					_, err2 := x.l.PruneReplay(ctx, 100)
					_, err3 := x.l.SecretGarbage(ctx, 100)
					if err := errors.Join(err1, err2, err3); err != nil {
						t.Error(err)
					}
				}
			})
			group.Wait()
			if let.Load() != wallets*rounds {
				t.Errorf("%d requests were let through, want each of %d once", let.Load(), wallets*rounds)
			}
			for w := range wallets {
				if s, err := x.l.SpentSince(ctx, walletID(w), 0); err != nil || s.Amount != 5 {
					t.Errorf("wallet %d spent %d of 5, %v", w, s.Amount, err)
				}
				if r, err := x.l.Delegate(ctx, delegateID(10*w)); err != nil || r.State != delegate.Spent {
					t.Errorf("%+v %v", r, err)
				}
			}
			if n := x.entries(); n != entries+int(written.Load()) {
				t.Errorf("%d entries, want %d", n-entries, written.Load())
			}
			x.clean()
		})
	}
}
