package wallet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/vigilpb"
	"github.com/vigil-ark/vigil/wallet"
)

func TestRegistrationModes(t *testing.T) {
	sum := sha256.Sum256([]byte("a token of some length"))
	for _, c := range []struct {
		mode, token string
		want        vigil.Code
	}{
		{wallet.Closed, "", vigil.CodeRegistrationClosed},
		{"", "", vigil.CodeRegistrationClosed},
		{wallet.Token, "", vigil.CodeRegistrationToken},
		{wallet.Token, "another token of it", vigil.CodeRegistrationToken},
		{wallet.Token, "a token of some length", ""},
		{wallet.Open, "", ""},
	} {
		w := newWorld(t, func(cfg *wallet.Config) {
			cfg.Registration = wallet.Registration{Mode: c.mode, Tokens: func() [][32]byte { return [][32]byte{{1}, sum} }}
		})
		d := newDevice(w, 2, 2)
		d.token = c.token
		err := d.create()
		if got := vigil.Code(""); err != nil {
			got = vigil.CodeOf(err)
			if got != c.want {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if c.want != "" {
			t.Errorf("%+v: registered", c)
		}
	}
}

// A wallet that is there is told so and recovered, whatever the registration says.
func TestAClosedServerStillServesItsWallets(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	w.cfg.Registration.Mode = wallet.Closed
	w.restart()
	if err := d.create(); err != nil {
		t.Fatal(err)
	}
	usable(t, d)
}

func TestWalletsAreBoundedInAllAndBySource(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.Wallets, c.Limits.PerSource = 4, 2 })
	from := func(source string) error {
		d := newDevice(w, 2, 2)
		d.source = source
		return d.create()
	}
	for range 2 {
		if err := from("192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, from("192.0.2.1"), vigil.CodeTooManyWallets)
	for i := range 2 {
		if err := from(fmt.Sprintf("192.0.2.%d", 2+i)); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, from("192.0.2.9"), vigil.CodeTooManyWallets)
	w.clock.add(25 * time.Hour)
	w.cfg.Limits.Wallets = 5
	w.restart()
	if err := from("192.0.2.1"); err != nil {
		t.Fatal(err)
	}
}

// Wallets that one source makes at once count as those that it makes one after the
// other: each is begun while there is room for it, and the last is refused.
func TestASourceIsBoundedAlsoInWhatItMakesAtOnce(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.PerSource = 2 })
	var nested func(depth int) error
	var errs []error
	nested = func(depth int) error {
		d := newDevice(w, 2, 2)
		d.source = "192.0.2.1"
		d.spoil = func(round int, _ [][]byte) {
			if round == 2 && depth > 1 { // the ceremony is at its last step now
				errs = append(errs, nested(depth-1))
			}
		}
		return d.create()
	}
	errs = append(errs, nested(1), nested(2))
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	refusedWith(t, errs[2], vigil.CodeTooManyWallets)
	w.fsck()
}

// One source that begins wallets and finishes none leaves the others their places.
func TestASourceHoldsFewCeremoniesOpen(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.PerSource = 2 })
	begin := func(d *device, source string) error {
		d.source = source
		_, err := d.begin()
		return err
	}
	first := newDevice(w, 2, 2)
	for _, d := range []*device{first, newDevice(w, 2, 2), first} { // the first one begins anew
		if err := begin(d, "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, begin(newDevice(w, 2, 2), "192.0.2.1"), vigil.CodeTooManyCeremonies)
	if err := begin(newDevice(w, 2, 2), "192.0.2.2"); err != nil {
		t.Fatal(err)
	}
	w.clock.add(11 * time.Minute)
	if err := begin(newDevice(w, 2, 2), "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
}

// Thousands of ceremonies that nobody finishes: at most as many as are allowed are
// open, memory does not grow with their number, and the disk holds no row of them
// beyond what a request costs for a minute.
func TestAbandonedCeremoniesAreBounded(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 200
	}
	w := newWorld(t, func(c *wallet.Config) { c.Limits.Ceremonies = 64 })
	refused := 0
	var before, after runtime.MemStats
	for i := range rounds {
		d := newDevice(w, 2, 2)
		if _, err := d.begin(); err != nil {
			refusedWith(t, err, vigil.CodeTooManyCeremonies)
			refused++
		}
		if i == rounds/10 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		if i%20 == 0 {
			w.clock.add(time.Second)
			if _, err := w.ledger.PruneReplay(t.Context(), 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused < rounds-100*(rounds/600+2) {
		t.Fatalf("%d of %d were refused", refused, rounds)
	}
	w.clock.add(11 * time.Minute)
	w.local().Sweep()
	if _, err := w.ledger.PruneReplay(t.Context(), rounds); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("%d bytes are held after %d abandoned ceremonies", grown, rounds)
	}
	if d := newDevice(w, 2, 2); d.create() != nil {
		t.Fatal("no wallet can be made after them")
	}
	w.fsck()
}

// lying is a device that spoils one message of the key's making.
func TestWrongSharesAreBlamedAndLeaveNothing(t *testing.T) {
	for name, spoil := range map[string]func(round int, msgs [][]byte){
		"first message cut":     func(round int, m [][]byte) { cutAt(round == 1, m) },
		"first message wrong":   func(round int, m [][]byte) { flip(round == 1, m, 40) },
		"wrong encrypted share": func(round int, m [][]byte) { flip(round == 1, m, -1) },
		"second message wrong":  func(round int, m [][]byte) { flip(round == 2, m, 10) },
		"second message cut":    func(round int, m [][]byte) { cutAt(round == 2, m) },
	} {
		w := newWorld(t)
		d := newDevice(w, 2, 2)
		d.spoil = spoil
		err := d.create()
		refusedWith(t, err, vigil.CodeCeremonyFailed)
		if names := w.secrets(); len(names) != 1 {
			t.Errorf("%s: secrets %v", name, names)
		}
		d.spoil = nil
		if err := d.create(); err != nil {
			t.Errorf("%s: begun again: %v", name, err)
		}
		usable(t, d)
	}
}

func flip(here bool, m [][]byte, at int) {
	if here {
		m[0] = bytes.Clone(m[0])
		if at < 0 {
			at += len(m[0])
		}
		m[0][at] ^= 1
	}
}

func cutAt(here bool, m [][]byte) {
	if here {
		m[0] = m[0][:len(m[0])-1]
	}
}

// Somebody else's session, a session of an earlier process, a step out of order
// and acknowledgments of others are refused.
func TestCeremoniesBelongToWhoBeganThem(t *testing.T) {
	w := newWorld(t)
	d, thief := newDevice(w, 2, 2), newDevice(w, 2, 2)
	begun, err := d.begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thief.begin(); err != nil {
		t.Fatal(err)
	}
	first := func(by *device) error {
		_, err := carry(w, by.as(0, "Keygen"), func(ctx context.Context, c auth.Call) (*vigilpb.KeygenAnswer, error) {
			return w.service.Keygen(ctx, c, &vigilpb.KeygenRequest{Session: begun.GetSession(), Pmsgs1: [][]byte{{1}}})
		})
		return err
	}
	refusedWith(t, first(thief), vigil.CodeCeremonyUnknown)
	_, err = carry(w, d.as(0, "CertifyKeygen"), func(ctx context.Context, c auth.Call) (*vigilpb.CertifyKeygenAnswer, error) {
		return w.service.CertifyKeygen(ctx, c, &vigilpb.CertifyKeygenRequest{Session: begun.GetSession(), Pmsgs2: [][]byte{{1}}})
	})
	refusedWith(t, err, vigil.CodeCeremonyUnknown)
	w.restart()
	refusedWith(t, first(d), vigil.CodeCeremonyUnknown)

	other := made(w, 2, 2)
	_, p, err := chilldkg.RecoverPublic(other.epochs[0].record)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := chilldkg.Acknowledge(other.host(0), p, other.epochs[0].record)
	if err != nil {
		t.Fatal(err)
	}
	mine := made(w, 2, 2)
	_, err = carry(w, mine.as(0, "AcknowledgeKeygen"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeKeygenAnswer, error) {
		return w.service.AcknowledgeKeygen(ctx, c, &vigilpb.AcknowledgeKeygenRequest{Acks: [][]byte{ack}})
	})
	refusedWith(t, err, vigil.CodeCeremonyFailed)
	w.audited("AcknowledgeKeygen", vigil.CodeCeremonyFailed)
}

// Until every participant has acknowledged, a wallet signs nothing and prepares
// nothing; an acknowledgment may come at any later time, and its restart is none.
func TestAPendingWalletDoesNothingAndWaits(t *testing.T) {
	w := newWorld(t)
	d := newDevice(w, 3, 2)
	d.halt = "AcknowledgeKeygen"
	refusedWith(t, d.create(), vigil.CodeStopping)
	h := d.epochs[0]
	d.id = vigil.WalletID(h.info.PubKey().XOnly())
	row, err := w.ledger.Wallet(t.Context(), d.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.describe(row.Descriptor); err != nil {
		t.Fatal(err)
	}
	_, err = d.sign(both(), d.renewal(d.coin(1000)))
	refusedWith(t, err, vigil.CodeWalletPending)
	w.audited("Sign", vigil.CodeWalletPending)
	_, err = d.prepare(1)
	refusedWith(t, err, vigil.CodeWalletPending)
	w.clock.add(1000 * 24 * time.Hour)
	w.restart()
	w.collect()
	d.halt = ""
	// One acknowledgment of two is not enough.
	only := newDevice(w, 3, 2)
	*only = *d
	only.only = []int{0}
	_, p, err := chilldkg.RecoverPublic(h.record)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := chilldkg.Acknowledge(d.host(0), p, h.record)
	if err != nil {
		t.Fatal(err)
	}
	a, err := carry(w, d.as(0, "AcknowledgeKeygen"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeKeygenAnswer, error) {
		return w.service.AcknowledgeKeygen(ctx, c, &vigilpb.AcknowledgeKeygenRequest{Acks: [][]byte{ack, nil}})
	})
	if err != nil || a.GetState() != "pending" {
		t.Fatalf("%v, %v", a, err)
	}
	if err := d.create(); err != nil {
		t.Fatal(err)
	}
	usable(t, d)
}

// What is short of disk, or restored and not confirmed, takes nothing new.
func TestDiskLowAndOnHold(t *testing.T) {
	var low, held bool
	w := newWorld(t, func(c *wallet.Config) {
		c.DiskLow, c.Held = func() bool { return low }, func() bool { return held }
	})
	d := made(w, 2, 2)
	v := d.coin(100_000)
	low = true
	refusedWith(t, newDevice(w, 2, 2).create(), vigil.CodeDiskLow)
	_, err := d.prepare(1)
	refusedWith(t, err, vigil.CodeDiskLow)
	if _, err := d.sign(both(), d.renewal(v)); err != nil {
		t.Fatalf("what is there is kept alive: %v", err)
	}
	low, held = false, true
	_, err = d.sign(both(), d.renewal(v))
	refusedWith(t, err, vigil.CodeOnHold)
	refusedWith(t, d.refresh(false), vigil.CodeOnHold)
	if _, err := d.list(); err != nil {
		t.Fatalf("looking is free: %v", err)
	}
	held = false
	usable(t, d)
	// An operator with another key than the pinned one is served nothing.
	w.op.set(func(o *fakeOperator) { o.params.SignerKey = key(t, 8).PubKey() })
	w.clock.add(2 * time.Minute)
	_, err = d.askFor(both(), [][32]byte{{1}}, d.renewal(v)).send()
	refusedWith(t, err, vigil.CodeOperatorKey)
	refusedWith(t, newDevice(w, 2, 2).create(), vigil.CodeOperatorKey)
}

func TestServerInfo(t *testing.T) {
	w := newWorld(t)
	info, err := w.service.Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	host := w.service.HostKey()
	if !slices.Equal(info.GetHostKey(), host[:]) || info.GetRegistration() != "open" || info.GetNow() != start || info.GetNetwork() != "regtest" ||
		info.GetExitDelay() != 512 || info.GetBoardingExitDelay() != 4096 || info.GetRecoveryDelay() != 7_776_256 || info.GetBoardingRecoveryDelay() != 7_780_352 ||
		info.GetLimits().GetSignatures() != 512 || info.GetLimits().GetPrepared() != 8 || info.GetLimits().GetCoolDownSeconds() != 86_400 {
		t.Fatalf("%v", info)
	}
}
