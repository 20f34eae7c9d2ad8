package client_test

import (
	"errors"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// TestPolicies tightens with the device's key, loosens only on its owner's word, and
// takes a loosening back, which leaves what was tightened with it.
func TestPolicies(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, _ := r.create()
	ctx := t.Context()
	p, err := d.Policy(ctx)
	if err != nil || p.PerTx != 0 || p.CoolDown == 0 || p.Pending != nil {
		t.Fatalf("%+v, %v", p, err)
	}
	next := p.Policy
	next.PerTx = 20_000
	if p, err = d.SetPolicy(ctx, next, false); err != nil || p.PerTx != 20_000 {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := d.SetPolicy(ctx, client.Policy{Version: 7, PerTx: 1, CoolDown: next.CoolDown}, true); vigil.CodeOf(err) != vigil.CodePolicyInvalid {
		t.Fatalf("a change of what was changed meanwhile: %v", err)
	}
	next = p.Policy
	next.PerTx, next.Window, next.WindowSeconds, next.Assets = 30_000, 50_000, 3600, false
	if _, err := d.SetPolicy(ctx, next, false); !errors.Is(err, client.ErrLoosens) {
		t.Fatalf("loosened without a word: %v", err)
	}
	p, err = d.SetPolicy(ctx, next, true)
	if err != nil || p.PerTx != 20_000 || p.Window != 50_000 || p.Pending == nil || p.Pending.PerTx != 30_000 || p.At == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if p, err = d.KeepPolicy(ctx); err != nil || p.Pending != nil || p.Window != 50_000 || p.PerTx != 20_000 {
		t.Fatalf("%+v, %v", p, err)
	}
	if again, err := d.KeepPolicy(ctx); err != nil || again.Version != p.Version {
		t.Fatalf("%+v, %v", again, err)
	}
	to := d.Descriptor().Address()
	if script, err := d.PayeeScript(to.String()); err != nil || string(script) != string(to.PkScript()) {
		t.Fatalf("%x, %v", script, err)
	}
	if _, err := d.PayeeScript("nowhere"); !errors.Is(err, client.ErrAddress) {
		t.Fatal(err)
	}
}

// TestDevices enrols and revokes, tells which device this is, and keeps a push token;
// a deletion that was announced is taken back.
func TestDevices(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, seed := r.create()
	ctx := t.Context()
	_, tablet := newKey(t)
	list, err := d.AddDevice(ctx, tablet, "tablet")
	if err != nil || len(list) != 2 || !list[0].Self || list[1].Self || list[1].Key != tablet || list[1].Name != "tablet" {
		t.Fatalf("%+v, %v", list, err)
	}
	if list, err = d.RevokeDevice(ctx, tablet); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := errors.Join(d.SetToken(ctx, "fcm", "token"), d.DropToken(ctx, "token")); err != nil {
		t.Fatal(err)
	}
	if err := d.SetToken(ctx, "fcm", ""); vigil.CodeOf(err) != vigil.CodeMalformed {
		t.Fatalf("no token: %v", err)
	}
	w := &world{T: t, op: r.op, ctx: ctx}
	w.minted(d, 50_000)
	if gone, err := d.Delete(ctx, true); err != nil || gone.Deleted || gone.After == 0 {
		t.Fatalf("%+v, %v", gone, err)
	}
	if err := d.KeepWallet(ctx); err != nil {
		t.Fatal(err)
	}
	if list, err := d.Delegates(ctx); err != nil || len(list) != 1 || list[0].Amount != 50_000 || len(list[0].Coins) != 1 || list[0].State == "" {
		t.Fatalf("%+v, %v", list, err)
	}
	again, err := client.Recover(ctx, r.with(secrettest.NewMemory()), seed, client.RecoverOptions{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.ConfirmRecovery(ctx); vigil.CodeOf(err) != vigil.CodeCoolDown {
		t.Fatalf("before the cool-down: %v", err)
	}
	list, err = again.Devices(ctx)
	if err != nil || len(list) != 2 || list[0].FrozenAt == 0 || list[0].RemoveAt == 0 || !list[1].Self {
		t.Fatalf("%+v, %v", list, err)
	}
}
