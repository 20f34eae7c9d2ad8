package renewal_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
)

// rot flips a bit of a stored row, as a disk does.
func (r *rig) rot(tree string, key []byte) {
	r.t.Helper()
	err := r.kv.Update(r.ctx, func(w kv.Writer) error {
		stored, err := w.Get(tree, key)
		if err != nil {
			return err
		}
		stored = append([]byte(nil), stored...)
		stored[len(stored)/2] ^= 4
		return w.Put(tree, key, stored)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// awaitMarks waits until the rows given, each as tree/key, are marked.
func (r *rig) awaitMarks(rows ...string) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		marks, err := r.ledger.Unreadable(r.ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		found := map[string]bool{}
		for _, m := range marks {
			found[m.Tree+"/"+string(m.Key)] = true
		}
		if !slices.ContainsFunc(rows, func(row string) bool { return !found[row] }) {
			return
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("marked are %+v", marks)
		}
	}
}

// unread are the rows that fsck cannot read.
func (r *rig) unread() (rows []string) {
	r.t.Helper()
	report, err := fsck.Check(r.ctx, r.kv, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Code == "unreadable" {
			rows = append(rows, f.Subject)
		}
	}
	return rows
}

// TestRottenRowsAreMarkedAndHarmNobody: a record in flight that the disk has
// spoiled while Vigil was down, or while it ran, and one that is due: each is kept,
// marked and not carried out, a newer one that waited for it takes over, and the
// sound ones are renewed.
func TestRottenRowsAreMarkedAndHarmNobody(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"found at the start": false, "found later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				devices := []*wallet.Wallet{r.device(), r.device(), r.device()}
				coins := r.mint(devices, 50_000)
				flying, sound := r.submit(devices[0], wallet.DelegateOptions{}, coins[0]), r.submit(devices[1], wallet.DelegateOptions{}, coins[1])
				r.alone(4)
				r.start()
				r.awaitState(flying.ID, delegate.Registered)
				r.awaitState(sound.ID, delegate.Registered)
				newer := r.submit(devices[0], wallet.DelegateOptions{ValidAt: time.Now().Add(-5 * time.Second)}, coins[0])
				if newer.State != delegate.Pending {
					t.Fatalf("the newer is %s", newer.State)
				}
				if !running {
					r.crash()
				}
				r.rot("delegate_sessions", flying.ID[:])
				r.rot("in_flight", sound.ID[:]) // its record vouches for it
				due := r.submit(devices[2], wallet.DelegateOptions{ValidAt: time.Now().Add(2 * time.Second)}, coins[2])
				r.rot("delegate_sessions", due.ID[:])
				r.alone(1)
				if !running {
					r.start()
				}
				r.renewed(r.awaitState(sound.ID, delegate.Settled), coins[1])
				// Nothing more will come of the older: who waited for it takes over.
				r.renewed(r.awaitState(newer.ID, delegate.Settled), coins[0])
				r.awaitMarks("delegate_sessions/"+string(flying.ID[:]), "delegate_sessions/"+string(due.ID[:]))
				if !running { // else the row goes without having been read
					r.awaitMarks("in_flight/" + string(sound.ID[:]))
				}
				r.halt()
				r.forfeited(1, coins[0], coins[1])
				r.forfeited(0, coins[2])
				if rows, _, err := r.ledger.Due(r.ctx, time.Now().Add(time.Hour), 10, nil); err != nil || len(rows) > 0 {
					t.Errorf("still due: %v, %v", rows, err)
				}
				if rows := r.unread(); len(rows) != 2 {
					t.Errorf("fsck finds %q", rows)
				}
			})
		})
	}
}
