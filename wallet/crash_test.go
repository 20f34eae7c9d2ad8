package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
)

// crashes runs step in a fresh world for every durable write that it makes, the
// process killed just before it, or just after it while nobody hears of it; then
// after must find both sides able to go on, and the stores whole.
func crashes(t *testing.T, begin func(w *world) *device, step func(d *device) error, after func(t *testing.T, d *device, err error)) {
	t.Helper()
	dry := newWorld(t)
	d := begin(dry)
	dry.crash.arm(1<<30, false)
	if err := step(d); err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	writes := dry.crash.n
	if writes == 0 {
		t.Fatal("the step writes nothing")
	}
	after(t, d, nil)
	for n := 1; n <= writes; n++ {
		for i, late := range []bool{false, true} {
			if testing.Short() && (2*n+i)%13 != 5 {
				continue // the detector makes a ceremony ten times as slow
			}
			t.Run(fmt.Sprintf("write %d of %d, late %v", n, writes, late), func(t *testing.T) {
				w := newWorld(t)
				d := begin(w)
				w.crash.arm(n, late)
				err := step(d)
				if !w.crash.died() {
					t.Fatalf("the process lived: %v", err)
				}
				w.restart()
				after(t, d, err)
				w.fsck()
			})
		}
	}
}

// usable holds that both sides can sign with one same epoch.
func usable(t *testing.T, d *device) {
	t.Helper()
	if _, err := d.sign(both(), d.renewal(d.coin(100_000))); err != nil {
		t.Fatalf("epoch %d does not sign: %v", d.active, err)
	}
}

// quorums holds that Vigil signs with the device, and with any cold shares in its
// place that make a quorum.
func quorums(t *testing.T, d *device) {
	t.Helper()
	doc := d.renewal(d.coin(100_000))
	ids := d.owners()
	for i := range len(ids) - d.min + 2 {
		signers := append([]int{}, ids[i:i+d.min-1]...)
		signers = append(signers, own)
		slices.Sort(signers)
		if _, err := d.sign(signers, doc); err != nil {
			t.Fatalf("%v of epoch %d do not sign: %v", signers, d.active, err)
		}
	}
}

// A crash at any write of a key's making: nothing is left that was half made, a
// wallet that was made is taken up from the seed, and the device ends with one
// wallet, whichever attempt made it.
func TestCrashAtEveryWriteOfKeygen(t *testing.T) {
	t.Parallel()
	crashes(t, func(w *world) *device { return newDevice(w, 2, 2) },
		func(d *device) error { return d.create() },
		func(t *testing.T, d *device, err error) {
			if err != nil {
				if err := d.create(); err != nil {
					t.Fatalf("begun again: %v", err)
				}
			}
			usable(t, d)
			counts, err := d.w.ledger.WalletCounts(t.Context())
			if err != nil || counts[ledger.WalletActive] != 1 || counts[ledger.WalletPending] != 0 {
				t.Fatalf("%v wallets, %v", counts, err)
			}
			d.w.collect()
			if names := d.w.secrets(); len(names) != 3 {
				t.Fatalf("secrets are left of attempts that failed: %v", names)
			}
		})
}

// collect lets the time pass after which secrets without a row are garbage, and
// takes it away.
func (w *world) collect() {
	w.t.Helper()
	for range 3 {
		w.clock.add(3 * time.Hour)
		if _, err := w.ledger.Lapse(w.t.Context(), 100); err != nil {
			w.t.Fatal(err)
		}
	}
	w.purge()
	w.fsck()
}

// purge takes away what is garbage now.
func (w *world) purge() {
	w.t.Helper()
	rows, err := w.ledger.SecretGarbage(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, g := range rows {
		if err := w.sec.Delete(w.t.Context(), g.Name); err != nil {
			w.t.Fatal(err)
		}
		if err := w.ledger.SecretDeleted(w.t.Context(), g.Name); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A crash at any write of a refresh, hygiene or healing: afterwards both sides can
// sign with one same epoch before and after the owner has found out how it ended,
// and another refresh goes through; so it is with a cold share, whichever two sign.
func TestCrashAtEveryWriteOfRefresh(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, least int
		healing  bool
	}{{2, 2, false}, {2, 2, true}, {3, 2, false}, {3, 2, true}} {
		healing := c.healing
		t.Run(fmt.Sprintf("%d of %d, healing %v", c.least, c.n, healing), func(t *testing.T) {
			if testing.Short() && c.n > 2 {
				t.Skip("more of the same arithmetic")
			}
			usable := func(t *testing.T, d *device) {
				t.Helper()
				quorums(t, d)
			}
			crashes(t, func(w *world) *device { return made(w, c.n, c.least) },
				func(d *device) error { return d.refresh(healing) },
				func(t *testing.T, d *device, err error) {
					usable(t, d)
					if err != nil {
						if err := errors.Join(d.settle()); err != nil {
							t.Fatalf("finding out: %v", err)
						}
						if d.active == 1 {
							if err := d.acknowledgeRefresh(); err != nil {
								t.Fatal(err)
							}
						}
						usable(t, d)
					}
					if d.active == 0 {
						if err := d.refresh(healing); err != nil {
							t.Fatalf("begun again: %v", err)
						}
					}
					usable(t, d)
					if testing.Short() || c.n > 2 {
						return
					}
					if err := d.refresh(!healing); err != nil {
						t.Fatalf("the next: %v", err)
					}
					usable(t, d)
					if epochs, err := d.w.signer.Epochs(t.Context(), d.id); err != nil || len(epochs) != 1 || epochs[0] != d.active {
						t.Fatalf("Vigil holds the epochs %v of active %d, %v", epochs, d.active, err)
					}
				})
		})
	}
}

// Of five participants any three sign, before and after a refresh.
func TestRefreshOfThreeOfFive(t *testing.T) {
	w := newWorld(t)
	d := made(w, 5, 3)
	for _, healing := range []bool{false, true} {
		quorums(t, d)
		if err := d.refresh(healing); err != nil {
			t.Fatal(err)
		}
	}
	quorums(t, d)
	w.fsck()
}

// A crash at any write of a recovery: the new device is enrolled or it is not, and
// asks again; the old one is frozen no later than the new one is told so.
func TestCrashAtEveryWriteOfRecovery(t *testing.T) {
	t.Parallel()
	crashes(t, func(w *world) *device { return made(w, 2, 2) },
		func(d *device) error {
			identity := fresh(d.t)
			if _, err := d.recover(0, identity); err != nil {
				return err
			}
			d.identity = identity
			return nil
		},
		func(t *testing.T, d *device, err error) {
			if err != nil {
				identity := fresh(t)
				if _, err := d.recover(0, identity); err != nil {
					t.Fatal(err)
				}
				d.identity = identity
			}
			usable(t, d)
			row, err := d.w.ledger.Wallet(t.Context(), d.id)
			if err != nil {
				t.Fatal(err)
			}
			free := 0
			for _, i := range row.Identities {
				if i.FrozenAt == 0 {
					free++
				}
			}
			if free != 1 {
				t.Fatalf("%d devices are not frozen", free)
			}
		})
}

// A crash at any write of a signature: the request dies with it and is made again
// with other nonces; what it costs of the limits it costs once.
func TestCrashAtEveryWriteOfSign(t *testing.T) {
	t.Parallel()
	doc := func(d *device) error {
		_, err := d.sign(both(), d.renewal(d.coin(100_000)))
		return err
	}
	crashes(t, func(w *world) *device { return made(w, 2, 2) }, doc, func(t *testing.T, d *device, _ error) {
		usable(t, d)
	})
}

// Vigil never gives its word against a refresh that it certified: whoever went
// back to the old epoch by it would be alone there.
func TestVoidIsRefusedForWhatWasCertified(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	old := d.epochs[0].info
	if err := d.refresh(false); err != nil {
		t.Fatal(err)
	}
	for _, transcript := range [][]byte{nil, old.Encode(), d.epochs[1].record} {
		for _, epoch := range []uint32{0, 1, 2, 3} {
			_, err := carry(w, d.as(0, "VoidRefresh"), func(ctx context.Context, c auth.Call) (*vigilpb.VoidRefreshAnswer, error) {
				return w.service.VoidRefresh(ctx, c, &vigilpb.VoidRefreshRequest{Epoch: epoch, Transcript: transcript})
			})
			refusedWith(t, err, vigil.CodeEpochUnknown)
		}
	}
	usable(t, d)
}
