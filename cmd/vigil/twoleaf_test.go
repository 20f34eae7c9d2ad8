package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/policy"
	"github.com/vigil-ark/vigil/secret/search"
)

// TestTwoLeafForfeitIsInNoFile: a real Vigil, killed when a delegate of a two-leaf
// coin is armed and again when it is registered, renews the coin from what is sealed.
// The signature that is as good as the coin is in no file of the key-value store at any
// of these times, nor in log, backup, metrics or answers; and it is what was searched
// for, since it is found where it must be: in what the operator got.
func TestTwoLeafForfeitIsInNoFile(t *testing.T) {
	if testing.Short() {
		t.Skip("twenty seconds")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	d := &whole{demonstration: demonstration{env: testEnvironment(t, ctx), ctx: ctx, dir: t.TempDir(), exe: executable(t)}}
	t.Cleanup(d.end)
	must(t, d.open, d.create, d.optIn)
	stray, err := d.op.Mint(wire.NewTxOut(60_000, d.phone.Descriptor().TwoLeaf().PkScript()))
	if err != nil {
		t.Fatal(err)
	}
	own, err := d.op.Mint(wire.NewTxOut(40_000, d.phone.Descriptor().PkScript()))
	if err != nil {
		t.Fatal(err)
	}
	home := d.phone.Descriptor().PkScript()
	must(t, func() error { return d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 3 }) })
	list, err := d.phone.Delegate(d.ctx, client.DelegateOptions{At: time.Now().Add(8 * time.Second)})
	if err != nil || len(list) != 2 || !slices.Equal(list[0].Coins, own) || !slices.Equal(list[1].Coins, stray) {
		t.Fatalf("%v, %v", list, err)
	}
	for _, one := range list {
		d.full.Delegates = append(d.full.Delegates, one.ID.String())
	}
	coins, err := d.phone.VTXOs(d.ctx)
	if err != nil || slices.ContainsFunc(coins, func(c client.Coin) bool { return !c.Covered || c.WithoutVigil != (c.Outpoint == own[0]) }) {
		t.Fatalf("%+v, %v", coins, err)
	}
	d.off()
	must(t, func() error { return d.inStates("armed") })
	d.child.kill()
	must(t, func() error { return addSecrets(d.env, &d.searcher, d.child.places()) })
	d.nowhere(t)
	must(t, func() error { return d.child.start(d.ctx) }, d.crash)
	d.nowhere(t)
	must(t, d.again)
	metrics, err := d.heard.get(d.child.url() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var copied admin.Copied
	var report admin.Report
	must(t,
		func() error { return d.child.ask(d.ctx, &copied, "backup", d.backupPath()) },
		func() error { return d.child.stop(d.ctx) },
		func() error { return d.child.ask(d.ctx, &report, "fsck") },
	)
	if faults(report) > 0 {
		t.Errorf("%+v", report)
	}
	backup, err := os.ReadFile(d.backupPath())
	if err != nil {
		t.Fatal(err)
	}
	d.nowhere(t, metrics, backup, d.heard.bytes())
	if found, err := search.Prove(d.child.places().kvDir(), filepath.Join(d.dir, "canary")); err != nil || !found {
		t.Errorf("a planted secret is not found: %v", err)
	}
	sent := d.op.Stats().Forfeits[stray[0]]
	if len(sent) != 1 {
		t.Fatalf("%d forfeits of the two-leaf coin left", len(sent))
	}
	finds := d.searcher.Text("what the operator got", []byte(sent[0]))
	if !slices.ContainsFunc(finds, func(f search.Finding) bool { return strings.HasSuffix(f.Secret, "signature") }) {
		t.Errorf("the searcher does not know the signature: %v", finds)
	}
	// The new coin is at the wallet's own script.
	must(t, func() error { return d.child.start(d.ctx) })
	cfg, err := d.device("phone")
	if err != nil {
		t.Fatal(err)
	}
	if d.phone, err = client.Open(d.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	coins, err = d.phone.VTXOs(d.ctx)
	if err != nil || len(coins) != 2 || slices.ContainsFunc(coins, func(c client.Coin) bool { return !bytes.Equal(c.Script, home) || !c.WithoutVigil }) {
		t.Errorf("%+v, %v", coins, err)
	}
}

// optIn has the owner opt in to delegates of two-leaf coins; that the cool-down is over
// is written into Vigil's store, since its clock is the real one.
func (d *whole) optIn() error {
	set, err := d.phone.SetPolicy(d.ctx, client.Policy{TwoLeaf: true, Assets: true, CoolDown: policy.DefaultCoolDown}, true)
	if err := errors.Join(err, d.phone.TrustTwoLeaf(d.ctx, true)); err != nil {
		return err
	}
	if set.Pending == nil || set.TwoLeaf {
		return errors.New("the opt-in did not wait")
	}
	if err := d.child.stop(d.ctx); err != nil {
		return err
	}
	s, err := d.child.places().open(d.env, nil)
	if err != nil {
		return err
	}
	in := policy.Default()
	in.TwoLeaf = true
	b, err := policy.State{Current: in}.Encode()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	row, err := s.ledger.Wallet(d.ctx, d.phone.ID())
	if err == nil {
		_, err = s.ledger.UpdateWallet(d.ctx, row, func(*ledger.Wallet) {}, ledger.Extras{Policy: &ledger.Policy{Current: b}})
	}
	return errors.Join(err, s.Close(), d.child.start(d.ctx))
}

// nowhere holds that no secret is in a file of the key-value store, the log or one of
// the texts. Vigil does not run.
func (d *whole) nowhere(t *testing.T, texts ...[]byte) {
	t.Helper()
	found, err := d.searcher.FS(os.DirFS(d.child.places().kvDir()))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(d.child.logPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(texts, log) {
		found = append(found, d.searcher.Text("what Vigil told", text)...)
	}
	if len(found) > 0 {
		t.Errorf("leaked: %v", found)
	}
}
