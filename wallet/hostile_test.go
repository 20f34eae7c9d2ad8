package wallet_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
	"github.com/vigil-ark/vigil/wallet"
)

// Everything that a request to sign can get wrong is refused with its code, before
// a secret is touched.
func TestRequestsToSignThatDoNotFit(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	other := made(w, 2, 2)
	v := d.coin(100_000)
	for name, c := range map[string]struct {
		spoil func(r *vigilpb.SignRequest)
		want  vigil.Code
	}{
		"no documents":      {func(r *vigilpb.SignRequest) { r.Documents = nil }, vigil.CodeMalformed},
		"no nonces":         {func(r *vigilpb.SignRequest) { r.Nonces = nil }, vigil.CodeMalformed},
		"a nonce too many":  {func(r *vigilpb.SignRequest) { r.Nonces = append(r.Nonces, r.Nonces[0]) }, vigil.CodeMalformed},
		"a short nonce":     {func(r *vigilpb.SignRequest) { r.Nonces[0] = r.Nonces[0][1:] }, vigil.CodeMalformed},
		"a nonce twice":     {func(r *vigilpb.SignRequest) { r.Nonces[1] = r.Nonces[0] }, vigil.CodeNonceReused},
		"no point":          {func(r *vigilpb.SignRequest) { r.Nonces[0] = make([]byte, len(frost.PubNonce{})) }, vigil.CodeMalformed},
		"no session":        {func(r *vigilpb.SignRequest) { r.Session = nil }, vigil.CodeMalformed},
		"nobody":            {func(r *vigilpb.SignRequest) { r.Signers = nil }, vigil.CodeMalformed},
		"without Vigil":     {func(r *vigilpb.SignRequest) { r.Signers = []uint32{0} }, vigil.CodeMalformed},
		"Vigil alone":       {func(r *vigilpb.SignRequest) { r.Signers = []uint32{1} }, vigil.CodeMalformed},
		"out of order":      {func(r *vigilpb.SignRequest) { r.Signers = []uint32{1, 0} }, vigil.CodeMalformed},
		"a third of two":    {func(r *vigilpb.SignRequest) { r.Signers = []uint32{0, 1, 2} }, vigil.CodeMalformed},
		"twice the same":    {func(r *vigilpb.SignRequest) { r.Signers = []uint32{1, 1} }, vigil.CodeMalformed},
		"an empty document": {func(r *vigilpb.SignRequest) { r.Documents[0] = &vigilpb.Document{} }, vigil.CodeDocumentInvalid},
		"other people's coin": {func(r *vigilpb.SignRequest) {
			r.Documents[0] = other.renewal(other.coin(100_000))
		}, vigil.CodeInputNotOurs},
	} {
		q := d.ask(both(), d.renewal(v))
		c.spoil(q.request)
		_, err := q.send()
		if got := vigil.CodeOf(err); err == nil || got != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	q := d.ask(both(), d.renewal(v))
	d.active = 7
	_, err := carry(w, d.as(-1, "Sign"), func(ctx context.Context, c auth.Call) (*vigilpb.SignAnswer, error) {
		return w.service.Sign(ctx, c, q.request)
	})
	refusedWith(t, err, vigil.CodeEpochUnknown)
	w.audited("Sign", vigil.CodeEpochUnknown)
}

// A nonce that a device uses in a second request, whatever for, is refused.
func TestANonceIsTakenOnce(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	first := d.ask(both(), d.renewal(d.coin(100_000)))
	a, err := first.send()
	if err != nil {
		t.Fatal(err)
	}
	second := d.ask(both(), d.renewal(d.coin(100_000)))
	second.request.Nonces = first.request.Nonces
	_, err = second.send()
	refusedWith(t, err, vigil.CodeNonceReused)
	w.audited("Sign", vigil.CodeNonceReused)
	_, err = first.send()
	refusedWith(t, err, vigil.CodeNonceReused)
	if _, err := first.finish(a); err != nil {
		t.Fatal(err)
	}
}

// The memory of requests: one is begun once, its answer is the same again, and a
// nonce is good for one request, across restarts.
func TestRequestsAreTakenOnce(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	c := d.as(-1, "Sign")
	begin := func(c auth.Call) ([]byte, error) { return w.service.Begin(t.Context(), c) }
	if a, err := begin(c); a != nil || err != nil {
		t.Fatalf("%v, %v", a, err)
	}
	w.restart()
	_, err := begin(c)
	refusedWith(t, err, vigil.CodeRetryNonce)
	other := c
	other.Hash[0] ^= 1
	_, err = begin(other)
	refusedWith(t, err, vigil.CodeReplayed)
	if err := w.service.Finish(t.Context(), c, []byte("the answer")); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if a, err := begin(c); err != nil || string(a) != "the answer" {
		t.Fatalf("%q, %v", a, err)
	}
	for range ledger.MaxRequests {
		if _, err = begin(d.as(-1, "Sign")); err != nil {
			break
		}
	}
	refusedWith(t, err, vigil.CodeWalletRate)
}

// A device that does nothing but what is refused fills neither the disk nor the
// memory: the audit keeps some of it each hour and counts the rest.
func TestRefusalsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.Audited = 5 })
	d := made(w, 2, 2)
	before := len(w.decisions())
	refuse := func(n int) {
		for range n {
			_, err := d.prepare(99)
			refusedWith(t, err, vigil.CodeMalformed)
			if _, err := w.ledger.PruneReplay(t.Context(), 1000); err != nil {
				t.Fatal(err)
			}
			w.clock.add(time.Second)
		}
	}
	refuse(50)
	if n := len(w.decisions()) - before; n != 5 {
		t.Fatalf("%d of 50 refusals are written down, want 5", n)
	}
	w.clock.add(time.Hour)
	refuse(1)
	all := w.decisions()
	if last := all[len(all)-1]; len(last.Reason) < 17 || last.Reason[:16] != "(45 more before)" {
		t.Fatalf("%q", last.Reason)
	}
}

// Strangers who knock at a wallet until none of it is written down any more do not
// keep what is refused to its own keys out of the audit.
func TestStrangersHideNoRefusals(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.Audited = 5 })
	d := made(w, 2, 2)
	before := len(w.decisions())
	stranger := fresh(t).PubKey()
	for range 10 {
		refusedWith(t, w.service.Permit(t.Context(), w.caller("Sign", stranger, d.id, 0)), vigil.CodeNotPermitted)
	}
	if n := len(w.decisions()) - before; n != 5 {
		t.Fatalf("%d refusals of strangers are written down, want 5", n)
	}
	_, err := d.prepare(99)
	refusedWith(t, err, vigil.CodeMalformed)
	w.audited("PrepareDelegates", vigil.CodeMalformed)
}

// panicking is an operator at which a wallet's work panics.
type panicking struct{ *fakeOperator }

func (panicking) VTXOs(context.Context, []wire.OutPoint) ([]ark.VTXO, error) { panic("unforeseen") }

// Work that panics bars its wallet and is audited; the house stays up, and others
// notice nothing.
func TestAPanicQuarantinesOneWallet(t *testing.T) {
	w := newWorld(t)
	d, other := made(w, 2, 2), made(w, 2, 2)
	w.panics = true
	w.restart()
	_, err := d.delegate(validAt, d.coin(100_000))
	refusedWith(t, err, vigil.CodeWalletQuarantined)
	w.audited("quarantine", vigil.CodeWalletQuarantined)
	_, err = d.sign(both(), d.renewal(d.coin(100_000)))
	refusedWith(t, err, vigil.CodeWalletQuarantined)
	usable(t, other)
	if _, barred := w.local().Active(); barred != 1 {
		t.Fatalf("%d wallets are barred", barred)
	}
	w.panics = false
	w.restart()
	usable(t, d)
}

// Many callers at once, of one wallet and of several, evictions included: every
// answer is right or says that nothing was begun.
func TestRacingDevices(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.Linger, c.Limits.Active, c.Limits.Mailbox = time.Nanosecond, 3, 4 })
	rounds, wallets := 20, 4
	if testing.Short() {
		rounds = 6
	}
	devices := make([]*device, wallets)
	for i := range devices {
		devices[i] = made(w, 2, 2)
		devices[i].coin(100_000)
	}
	done := make(chan error, wallets*4)
	for i := range wallets * 4 {
		go func() {
			d := devices[i%wallets]
			for range rounds {
				_, err := w.service.Devices(t.Context(), d.as(-1, "Devices"), &vigilpb.DevicesRequest{})
				if err == nil {
					_, err = w.service.ListVtxos(t.Context(), d.as(-1, "ListVtxos"), &vigilpb.ListVtxosRequest{})
				}
				if err != nil && vigil.CodeOf(err) != vigil.CodeWalletBusy {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range wallets * 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	w.service.Close()
	_, err := w.service.Devices(t.Context(), devices[0].as(-1, "Devices"), &vigilpb.DevicesRequest{})
	refusedWith(t, err, vigil.CodeStopping)
	w.fsck()
}

// A caller that leaves loses its answer and nothing else: what it began is done.
func TestACallerThatLeavesLosesNothing(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	ctx, cancel := context.WithCancel(t.Context())
	tablet := fresh(t).PubKey()
	cancel()
	_, err := w.service.AddDevice(ctx, d.as(0, "AddDevice"), &vigilpb.AddDeviceRequest{IdentityKey: tablet[:]})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	a, err := w.service.Devices(t.Context(), d.as(-1, "Devices"), &vigilpb.DevicesRequest{})
	if err != nil || !slices.ContainsFunc(a.GetIdentities(), func(i *vigilpb.Identity) bool { return string(i.GetKey()) == string(tablet[:]) }) {
		t.Fatalf("%v, %v", a, err)
	}
}

// What a host key may do in the place of a wallet is to make and to recover one, in
// its own name; nothing else, whoever's wallet it is, and nothing of these by a
// wallet's id.
func TestOnlyFoundersAreTheirOwnWallet(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	host := d.host(0).PubKey()
	for _, m := range vigilpb.WalletService_ServiceDesc.Methods {
		founds := slices.Contains([]string{"BeginKeygen", "Keygen", "CertifyKeygen", "Recover"}, m.MethodName)
		if m.MethodName == "GetServer" {
			continue // anybody's
		}
		own := w.caller(m.MethodName, host, vigil.WalletID{}, 0)
		others := own
		others.Host = fresh(t).PubKey()
		for name, c := range map[string]auth.Call{"its own": own, "another's": others, "no wallet": {Method: own.Method, Key: host, At: own.At}} {
			if !founds || name != "its own" {
				refusedWith(t, w.service.Permit(t.Context(), c), vigil.CodeNotPermitted)
			}
		}
		if founds {
			refusedWith(t, w.service.Permit(t.Context(), w.caller(m.MethodName, host, d.id, 0)), vigil.CodeNotPermitted)
		}
	}
	if err := w.service.Permit(t.Context(), w.caller("Recover", host, vigil.WalletID{}, 0)); err != nil {
		t.Errorf("its own host key may not recover: %v", err)
	}
}
