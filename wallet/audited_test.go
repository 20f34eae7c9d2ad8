package wallet_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Every call that changes something leaves what was decided of it in the audit: one
// entry, when it is known.
func TestWhatIsAllowedIsAudited(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	once := func(method string, code vigil.Code, call func() error) {
		t.Helper()
		before := len(w.decisions())
		if err := call(); vigil.CodeOf(err) != code && (err != nil || code != "") {
			t.Fatalf("%s: %v, want %q", method, err, code)
		}
		if n := len(w.decisions()) - before; n != 1 {
			t.Errorf("%s leaves %d entries", method, n)
		}
		w.audited(method, code)
	}
	once("SetToken", "", func() error {
		_, err := carry(w, d.as(-1, "SetToken"), func(ctx context.Context, c auth.Call) (*vigilpb.SetTokenAnswer, error) {
			return w.service.SetToken(ctx, c, &vigilpb.SetTokenRequest{Token: "t", Kind: "apns"})
		})
		return err
	})
	once("DropToken", "", func() error {
		_, err := carry(w, d.as(-1, "DropToken"), func(ctx context.Context, c auth.Call) (*vigilpb.DropTokenAnswer, error) {
			return w.service.DropToken(ctx, c, &vigilpb.DropTokenRequest{Token: "t"})
		})
		return err
	})
	once("AcknowledgeBranches", "", func() error {
		_, err := carry(w, d.as(-1, "AcknowledgeBranches"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeBranchesAnswer, error) {
			return w.service.AcknowledgeBranches(ctx, c, &vigilpb.AcknowledgeBranchesRequest{Outpoints: []string{v.Outpoint.String()}})
		})
		return err
	})
	once("BeginRefresh", "", func() error {
		_, err := carry(w, d.as(0, "BeginRefresh"), func(ctx context.Context, c auth.Call) (*vigilpb.BeginRefreshAnswer, error) {
			return w.service.BeginRefresh(ctx, c, &vigilpb.BeginRefreshRequest{})
		})
		return err
	})
	once("PrepareDelegates", "", func() error { _, err := d.prepare(1); return err })
	cancel := func(id []byte) error {
		_, err := carry(w, d.as(-1, "CancelWalletDelegate"), func(ctx context.Context, c auth.Call) (*vigilpb.CancelWalletDelegateAnswer, error) {
			return w.service.CancelWalletDelegate(ctx, c, &vigilpb.CancelWalletDelegateRequest{Id: id})
		})
		return err
	}
	once("CancelWalletDelegate", vigil.CodeNotFound, func() error { return cancel(make([]byte, 16)) })
	a, err := d.delegate(validAt, v)
	if err != nil {
		t.Fatal(err)
	}
	id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds it cancelled
		once("CancelWalletDelegate", "", func() error { return cancel(id[:]) })
	}
	w.fsck()
}

// unaudited are the calls that leave no entry when they are allowed: what only reads,
// and what nothing stays of until a certificate is decided.
var unaudited = []string{
	"GetServer", "BeginKeygen", "Keygen", "Refresh", "WalletDelegates", "ListVtxos", "Coverage", "History", "Branches", "Watch", "Devices", "GetPolicy",
}

// TestEveryCallIsAuditedOrReads lives a wallet through all calls that there are: each
// either leaves its own name in the audit, or is one of those that change nothing.
func TestEveryCallIsAuditedOrReads(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a, err := d.delegate(validAt, v) // prepare, sign, submit
	must(err)
	id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
	must(err)
	_, err = carry(w, d.as(-1, "CancelWalletDelegate"), func(ctx context.Context, c auth.Call) (*vigilpb.CancelWalletDelegateAnswer, error) {
		return w.service.CancelWalletDelegate(ctx, c, &vigilpb.CancelWalletDelegateRequest{Id: id[:]})
	})
	must(err)
	_, err = carry(w, d.as(-1, "AcknowledgeBranches"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeBranchesAnswer, error) {
		return w.service.AcknowledgeBranches(ctx, c, &vigilpb.AcknowledgeBranchesRequest{Outpoints: []string{v.Outpoint.String()}})
	})
	must(err)
	_, err = carry(w, d.as(-1, "SetToken"), func(ctx context.Context, c auth.Call) (*vigilpb.SetTokenAnswer, error) {
		return w.service.SetToken(ctx, c, &vigilpb.SetTokenRequest{Token: "t", Kind: "apns"})
	})
	must(err)
	_, err = carry(w, d.as(-1, "DropToken"), func(ctx context.Context, c auth.Call) (*vigilpb.DropTokenAnswer, error) {
		return w.service.DropToken(ctx, c, &vigilpb.DropTokenRequest{Token: "t"})
	})
	must(err)
	other := fresh(t).PubKey()
	must(d.addDevice(other))
	must(d.revokeDevice(other))
	_, err = d.setPolicy(-1, &vigilpb.Policy{PerTx: 1_000_000, CoolDown: day})
	must(err)
	past := w.copies()
	must(d.refresh(false)) // begin, certify, acknowledge
	w.restore(past, true, true)
	must(d.catchUp())
	must(d.acknowledgeRefresh())
	w.crash.arm(7, false) // in the middle of the certificate
	if err := d.refresh(false); err == nil {
		t.Fatal("refreshed by the dead")
	}
	w.restart()
	must(d.settle()) // by Vigil's word that it never will
	must(d.refresh(false))
	w.changed(0, true)
	must(d.move())
	_, err = d.recover(0, fresh(t))
	must(err)
	w.clock.add((day + 1) * time.Second)
	_, err = carry(w, d.as(0, "ConfirmRecovery"), func(ctx context.Context, c auth.Call) (*vigilpb.ConfirmRecoveryAnswer, error) {
		return w.service.ConfirmRecovery(ctx, c, &vigilpb.ConfirmRecoveryRequest{})
	})
	must(err)
	w.op.set(func(o *fakeOperator) { v.Spent = true; o.coins[v.Outpoint] = v })
	if a, err := d.remove(false, false); err != nil || !a.GetDeleted() {
		t.Fatalf("%v, %v", a, err)
	}
	left := map[string]bool{}
	for _, e := range w.decisions() {
		if e.Allow {
			left[e.Method] = true
		}
	}
	for _, m := range vigilpb.WalletService_ServiceDesc.Methods {
		if left[m.MethodName] == slices.Contains(unaudited, m.MethodName) {
			t.Errorf("%s: audited %v", m.MethodName, left[m.MethodName])
		}
		delete(left, m.MethodName)
	}
	for name := range left {
		t.Errorf("the audit names %s, which is no call", name)
	}
}
