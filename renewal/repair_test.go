package renewal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// TestRepairedIndexArms: a delegate whose rows in every index the disk has lost, or
// moved, is renewed by nobody; after a repair it is, and so is one in flight whose
// row in that index was hit.
func TestRepairedIndexArms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		devices := []*wallet.Wallet{r.device(), r.device()}
		coins := r.mint(devices, 50_000)
		flying := r.submit(devices[0], wallet.DelegateOptions{}, coins[0])
		r.start()
		r.awaitState(flying.ID, delegate.Registered)
		r.crash()
		armed := r.submit(devices[1], wallet.DelegateOptions{ValidAt: time.Now().Add(-5 * time.Second)}, coins[1])
		lost := 0
		err := r.kv.Update(r.ctx, func(w kv.Writer) error {
			lost = 0
			for _, tree := range []string{"renewal_due", "in_flight", "expiries", "scripts", "counts", "vtxos"} {
				var keys, values [][]byte
				if err := w.Scan(tree, nil, nil, func(key, value []byte) error {
					keys, values = append(keys, key), append(values, value)
					return nil
				}); err != nil {
					return err
				}
				for i, key := range keys {
					if err := w.Delete(tree, key); err != nil {
						return err
					}
					if tree == "vtxos" {
						continue
					}
					moved := append([]byte(nil), key...)
					moved[len(moved)-1] ^= 4
					if err := w.Put(tree, moved, values[i]); err != nil {
						return err
					}
					lost++
				}
			}
			return nil
		})
		if err != nil || lost < 6 {
			t.Fatal(lost, err)
		}
		if _, some, err := r.ledger.NextDue(r.ctx); some || err != nil {
			t.Fatalf("something is due: %v", err)
		}
		out, err := r.ledger.Repair(r.ctx)
		if err != nil || !out.Changed() || out.Unreadable != 0 {
			t.Fatalf("%+v %v", out, err)
		}
		if rows := r.unread(); len(rows) > 0 {
			t.Errorf("fsck cannot read %q", rows)
		}
		r.start()
		r.renewed(r.awaitState(flying.ID, delegate.Settled), coins[0])
		r.renewed(r.awaitState(armed.ID, delegate.Settled), coins[1])
		r.halt()
		r.forfeited(1, coins...)
		r.clean()
	})
}
