package renewal_test

import (
	"testing"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
)

// TestRenewsOneCoin is the main job at its smallest.
func TestRenewsOneCoin(t *testing.T) {
	r := newRig(t, arktest.Settings{})
	alice := r.device()
	coin := r.board(alice, 100_000)
	rec := r.submit(alice, wallet.DelegateOptions{}, coin)
	r.start()
	done := r.awaitState(rec.ID, delegate.Settled)
	r.halt()
	r.renewed(done, coin)
	r.clean()
}

// renewed holds what "renewed, once" means: one commitment spends every input,
// each input was forfeited once for it, and the owner has the new coin.
func (r *rig) renewed(rec *delegate.Record, coins ...ark.VTXO) {
	r.t.Helper()
	if len(rec.Leaves) == 0 {
		r.t.Fatalf("settled without a leaf: %+v", rec)
	}
	for _, c := range coins {
		now, err := r.vtxos(c.Outpoint)
		if err != nil || len(now) != 1 || !now[0].Spent || now[0].SettledBy != rec.Commitment.String() {
			r.t.Errorf("input %s: %+v, %v; want settled by %s", c.Outpoint, now, err, rec.Commitment)
		}
		if sent := r.op.Stats().Forfeits[c.Outpoint]; len(sent) != 1 {
			r.t.Errorf("input %s was forfeited %d times", c.Outpoint, len(sent))
		}
	}
	fresh, err := r.vtxos(rec.Leaves...)
	if err != nil || len(fresh) != len(rec.Leaves) {
		r.t.Fatalf("leaves %v: %v", fresh, err)
	}
	for _, v := range fresh {
		if v.Spent || v.Swept {
			r.t.Errorf("the new coin is gone: %+v", v)
		}
	}
}
