package wallet_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
)

// decisions are the entries of the audit, proven to be one chain.
func (w *world) decisions() (list []audit.Entry) {
	w.t.Helper()
	base, first, err := w.ledger.AuditBase(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var rows [][]byte
	err = w.ledger.AuditEntries(w.t.Context(), first, 1<<20, func(a ledger.Audited) error {
		rows = append(rows, a.Entry)
		_, e, err := audit.Decode(a.Entry)
		list = append(list, e)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	_, n, err := audit.Verify(base, func(yield func([]byte, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	})
	if err != nil || int(n) != len(rows) {
		w.t.Fatalf("the audit's chain: %d of %d entries, %v", n, len(rows), err)
	}
	return list
}

// audited says whether the newest entry of the audit is this decision.
func (w *world) audited(method string, code vigil.Code) {
	w.t.Helper()
	all := w.decisions()
	if len(all) == 0 {
		w.t.Fatal("nothing is audited")
	}
	last := all[len(all)-1]
	if last.Method != method || last.Code != code || last.Allow != (code == "") {
		w.t.Fatalf("the last decision is %s %s (%v), want %s %s", last.Method, last.Code, last.Allow, method, code)
	}
}

// A new device made from the seed freezes the old one at once, and removes it
// after the announced cool-down; the old one's stream is cut.
func TestRecoveryFreezesAtOnceAndRemovesAfterTheCoolDown(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	watching := make(chan error, 1)
	go func() {
		watching <- w.service.Watch(t.Context(), d.as(-1, "Watch"), &vigilpb.WatchRequest{}, func(*vigilpb.Event) error { return nil })
	}()
	for w.hub.Watchers() == 0 {
		runtime.Gosched()
	}

	phone := newDevice(w, 2, 2)
	phone.hosts, phone.recovery = d.hosts, d.recovery // of the same seed
	a, err := phone.recover(0, phone.identity)
	if err != nil {
		t.Fatal(err)
	}
	// The stream was cut, or its opening ended after the freeze.
	if err := <-watching; vigil.CodeOf(err) != vigil.CodeNotPermitted && vigil.CodeOf(err) != vigil.CodeIdentityFrozen {
		t.Fatalf("the old device's stream ended with %v", err)
	}
	if err := phone.takeUp(a); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.sign(both(), phone.renewal(phone.coin(100_000))); err != nil {
		t.Fatal(err)
	}
	_, err = d.sign(both(), d.renewal(d.coin(100_000)))
	refusedWith(t, err, vigil.CodeIdentityFrozen)
	w.audited("Sign", vigil.CodeIdentityFrozen)
	// One that was permitted before the freeze is refused when its turn comes.
	_, err = w.service.Devices(t.Context(), d.as(-1, "Devices"), &vigilpb.DevicesRequest{})
	refusedWith(t, err, vigil.CodeIdentityFrozen)

	confirm := func() (*vigilpb.ConfirmRecoveryAnswer, error) {
		return carry(w, phone.as(0, "ConfirmRecovery"), func(ctx context.Context, c auth.Call) (*vigilpb.ConfirmRecoveryAnswer, error) {
			return w.service.ConfirmRecovery(ctx, c, &vigilpb.ConfirmRecoveryRequest{})
		})
	}
	_, err = confirm()
	refusedWith(t, err, vigil.CodeCoolDown)
	w.restart()
	w.clock.add(24*time.Hour + time.Second)
	got, err := confirm()
	if err != nil || len(got.GetIdentities()) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	_, err = d.sign(both(), d.renewal(d.coin(100_000)))
	refusedWith(t, err, vigil.CodeNotPermitted)
	w.fsck()
}

// Whoever knows public keys learns and changes nothing.
func TestAStrangerWithPublicKeysLearnsNothing(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	stranger := newDevice(w, 2, 2)
	_, err := stranger.recover(0, stranger.identity)
	refusedWith(t, err, vigil.CodeNotPermitted)
	stranger.id, stranger.desc, stranger.epochs = d.id, d.desc, d.epochs
	_, err = stranger.list()
	refusedWith(t, err, vigil.CodeNotPermitted)
	w.audited("ListVtxos", vigil.CodeNotPermitted)
	_, err = carry(w, d.as(-1, "RevokeDevice"), func(ctx context.Context, c auth.Call) (*vigilpb.RevokeDeviceAnswer, error) {
		return w.service.RevokeDevice(ctx, c, &vigilpb.RevokeDeviceRequest{})
	})
	refusedWith(t, err, vigil.CodeHostKeyNeeded)
	w.audited("RevokeDevice", vigil.CodeHostKeyNeeded)
	// A wallet that is not there is told as one that is somebody else's.
	stranger.id = vigil.WalletID{1}
	_, err = stranger.list()
	refusedWith(t, err, vigil.CodeNotPermitted)
	_, err = carry(w, d.as(0, "Sign"), func(ctx context.Context, c auth.Call) (*vigilpb.SignAnswer, error) {
		return w.service.Sign(ctx, c, &vigilpb.SignRequest{})
	})
	refusedWith(t, err, vigil.CodeNotPermitted)
	_, err = carry(w, d.as(0, "NoSuchMethod"), func(context.Context, auth.Call) (int, error) { return 0, nil })
	refusedWith(t, err, vigil.CodeNotPermitted)
}

func (d *device) addDevice(k bip340.PubKey) error {
	_, err := carry(d.w, d.as(0, "AddDevice"), func(ctx context.Context, c auth.Call) (*vigilpb.AddDeviceAnswer, error) {
		return d.w.service.AddDevice(ctx, c, &vigilpb.AddDeviceRequest{IdentityKey: k[:], Name: "tablet"})
	})
	return err
}

func (d *device) revokeDevice(k bip340.PubKey) error {
	_, err := carry(d.w, d.as(0, "RevokeDevice"), func(ctx context.Context, c auth.Call) (*vigilpb.RevokeDeviceAnswer, error) {
		return d.w.service.RevokeDevice(ctx, c, &vigilpb.RevokeDeviceRequest{IdentityKey: k[:]})
	})
	return err
}

func TestDevicesAreAddedRevokedAndBounded(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	tablet := fresh(t)
	if err := d.addDevice(tablet.PubKey()); err != nil {
		t.Fatal(err)
	}
	phone := d.identity
	d.identity = tablet
	if _, err := d.sign(both(), d.renewal(d.coin(100_000))); err != nil {
		t.Fatal(err)
	}
	if err := d.revokeDevice(tablet.PubKey()); err != nil {
		t.Fatal(err)
	}
	_, err := d.sign(both(), d.renewal(d.coin(100_000)))
	refusedWith(t, err, vigil.CodeNotPermitted)
	d.identity = phone
	for range ledger.MaxIdentities - 1 {
		if err := d.addDevice(fresh(t).PubKey()); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, d.addDevice(fresh(t).PubKey()), vigil.CodeTooManyDevices)
	// A host key does no other job.
	refusedWith(t, d.addDevice(d.host(0).PubKey()), vigil.CodeMalformed)
	got, err := carry(w, d.as(-1, "Devices"), func(ctx context.Context, c auth.Call) (*vigilpb.DevicesAnswer, error) {
		return w.service.Devices(ctx, c, &vigilpb.DevicesRequest{})
	})
	if err != nil || len(got.GetIdentities()) != ledger.MaxIdentities || !got.GetIdentities()[0].GetSelf() {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestTokensAreKeptAndBounded(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	set := func(text string) error {
		_, err := carry(w, d.as(-1, "SetToken"), func(ctx context.Context, c auth.Call) (*vigilpb.SetTokenAnswer, error) {
			return w.service.SetToken(ctx, c, &vigilpb.SetTokenRequest{Token: text, Kind: "apns"})
		})
		return err
	}
	for i := range ledger.MaxTokens {
		if err := set(string(rune('a' + i))); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, set("one more"), vigil.CodeTooManyTokens)
	refusedWith(t, set(""), vigil.CodeMalformed)
	_, err := carry(w, d.as(-1, "DropToken"), func(ctx context.Context, c auth.Call) (*vigilpb.DropTokenAnswer, error) {
		return w.service.DropToken(ctx, c, &vigilpb.DropTokenRequest{Token: "a"})
	})
	if err := errors.Join(err, set("one more")); err != nil {
		t.Fatal(err)
	}
}

// The owner of the cold share of a 2-of-3 recovers the wallet when the phone is
// lost, seed and all: it enrols a device and signs with Vigil.
func TestTheColdShareRecoversAWallet(t *testing.T) {
	for _, refreshed := range []bool{false, true} {
		w := newWorld(t)
		d := made(w, 3, 2)
		if refreshed {
			if err := d.refresh(true); err != nil {
				t.Fatal(err)
			}
		}
		cold := newDevice(w, 3, 2)
		cold.hosts, cold.recovery = map[int][32]byte{2: d.hosts[2]}, d.recovery
		cold.active = d.active
		a, err := cold.recover(2, cold.identity)
		if err != nil {
			t.Fatal(err)
		}
		cold.only = []int{2}
		if err := cold.takeUp(a); err != nil {
			t.Fatal(err)
		}
		if _, err := cold.sign([]int{1, 2}, cold.renewal(cold.coin(100_000))); err != nil {
			t.Fatalf("refreshed %v: %v", refreshed, err)
		}
		_, err = d.sign([]int{0, 1}, d.renewal(d.coin(100_000)))
		refusedWith(t, err, vigil.CodeIdentityFrozen)
	}
}
