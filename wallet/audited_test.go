package wallet_test

import (
	"context"
	"testing"

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
