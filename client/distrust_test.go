package client_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/vigilpb"
)

// set changes or reads the fake between calls.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// TestOtherWords has an owner go on with other words than an attempt before: no
// wallet may come of it whose words the owner does not have.
func TestOtherWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	store, seed := secrettest.NewMemory(), w.seed()
	w.vigil.drop = func(m string) bool { return m == "BeginKeygen" }
	if _, err := client.Create(w.ctx, w.config(store), seed, client.CreateOptions{}); !errors.Is(err, client.ErrUnreachable) {
		t.Fatal(err)
	}
	w.vigil.set(func() { w.vigil.drop = nil })
	if d, err := client.Create(w.ctx, w.config(store), w.seed(), client.CreateOptions{}); !errors.Is(err, client.ErrSeed) {
		t.Fatalf("with other words: %v %v", d, err)
	}
	d, err := client.Create(w.ctx, w.config(store), seed, client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// TestRecoveryDelay has Vigil propose a longer way out than the default, at once
// and for a wallet that it claims to have: neither is taken, and no address shown.
func TestRecoveryDelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	f := w.vigil
	longer := func() []byte {
		d := f.desc
		d.RecoveryDelay, d.BoardingRecoveryDelay = ark.MaxDelay, ark.MaxDelay
		return d.Encode()
	}
	f.lie = func(_ string, a proto.Message) {
		switch a := a.(type) {
		case *vigilpb.CertifyKeygenAnswer:
			a.Descriptor_ = longer()
		case *vigilpb.RecoverAnswer:
			a.Descriptor_, a.State = longer(), "active"
		}
	}
	store, seed := secrettest.NewMemory(), w.seed()
	for _, what := range []string{"certified", "found"} {
		if d, err := client.Create(w.ctx, w.config(store), seed, client.CreateOptions{}); !errors.Is(err, client.ErrVigil) {
			t.Fatalf("%s: %v %v", what, d, err)
		}
	}
	f.set(func() {
		if f.calls["Recover"] == 0 || f.calls["AcknowledgeKeygen"] > 0 {
			t.Error(f.calls)
		}
		f.lie = func(_ string, a proto.Message) {
			if a, ok := a.(*vigilpb.RecoverAnswer); ok {
				a.State = "active" // before anybody acknowledged
			}
		}
	})
	d, err := client.Create(w.ctx, w.config(store), seed, client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.active || d.Descriptor().RecoveryDelay != descriptor.DefaultRecovery {
		t.Fatalf("acknowledged %v, recovery after %v", f.active, d.Descriptor().RecoveryDelay)
	}
}

// TestKeepAgainst has Vigil refuse, and a stranger pay dust to the script that is
// never offered: the device fetches its way out all the same, and covers the rest.
func TestKeepAgainst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	ops, err := w.op.Mint(w.output(d, 40_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		t.Fatal(err)
	}
	w.vigil.set(func() { w.vigil.refuse = func(string) bool { return true } })
	if _, err := d.Keep(w.ctx); vigil.CodeOf(err) != vigil.CodeInternal {
		t.Fatal(err)
	}
	b, err := d.Export(w.ctx)
	if err != nil || len(b.Coins) != 1 || b.Coins[0].Outpoint != ops[0].String() {
		t.Fatalf("%d coins can leave: %v", len(b.Coins), err)
	}
	w.vigil.set(func() { w.vigil.refuse = nil })
	if _, err := w.op.Mint(wire.NewTxOut(100, d.Descriptor().TwoLeaf().PkScript())); err != nil {
		t.Fatal(err)
	}
	k, err := d.Keep(w.ctx)
	if err != nil || len(k.Delegated) != 1 || !slices.Equal(k.Delegated[0].Coins, ops) || len(k.Moved) > 0 {
		t.Fatalf("%+v %v", k, err)
	}
}

// TestKeepWaitsForNoBatch: a coin that came to the script which is never offered, as
// anybody may send one there, and that no batch takes up, keeps no other coin
// uncovered. It is moved as soon as one does.
func TestKeepWaitsForNoBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{Settings: arktest.Settings{SessionDuration: time.Second, MinParticipants: 2}})
	cfg := w.config(secrettest.NewMemory())
	cfg.BatchWait = 300 * time.Millisecond
	d, err := client.Create(w.ctx, cfg, w.seed(), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := w.op.Mint(wire.NewTxOut(25_000, d.Descriptor().TwoLeaf().PkScript())); err != nil {
		t.Fatal(err)
	}
	ops, err := w.op.Mint(w.output(d, 40_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		t.Fatal(err)
	}
	k, err := d.Keep(w.ctx)
	if !errors.Is(err, client.ErrNoBatch) || len(k.Delegated) != 1 || !slices.Equal(k.Delegated[0].Coins, ops) || len(k.Moved) > 0 {
		t.Fatalf("%+v %v", k, err)
	}
	if left := w.op.Stats().Queue; len(left) > 0 {
		t.Errorf("the intent of the other stays queued: %+v", left)
	}
}

// TestRecoverWithBackup has the operator's delays changed since the wallet was
// made: the owner's backup counts, and Vigil's word only with it. Without one the
// device sees the coins, shows no address and signs nothing that pays the scripts,
// until its owner has accepted what the operator announces.
func TestRecoverWithBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, seed := w.create(client.CreateOptions{})
	now, older := d.Descriptor(), d.Descriptor()
	older.BoardingDelay, older.ExitDelay = older.BoardingDelay+1024, older.ExitDelay+512
	older.RecoveryDelay, older.BoardingRecoveryDelay = ark.MaxDelay, ark.MaxDelay
	for _, c := range []struct {
		name         string
		said, backup descriptor.Descriptor
		want         error
	}{
		{name: "no backup", said: older},
		{name: "another than the backup's", said: now, backup: older, want: client.ErrVigil},
		{name: "the same", said: older, backup: older},
	} {
		w.vigil.set(func() { w.vigil.desc, w.vigil.older = c.said, nil })
		opt := client.RecoverOptions{}
		if c.backup != (descriptor.Descriptor{}) {
			opt.Backup = &client.Backup{Descriptor: c.backup.String()}
		}
		got, err := client.Recover(w.ctx, w.config(secrettest.NewMemory()), seed, opt)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			if got.Descriptor() != c.said {
				t.Errorf("%s: %+v", c.name, got.Descriptor())
			}
			unsure := c.backup == (descriptor.Descriptor{})
			_, err := got.Address()
			if errors.Is(err, client.ErrRotated) != unsure {
				t.Errorf("%s: the address: %v", c.name, err)
			}
			if _, err = got.Send(w.ctx, now.Address(), 1_000); errors.Is(err, client.ErrRotated) != unsure {
				t.Errorf("%s: paid: %v", c.name, err)
			}
			change, err := got.OperatorChange(w.ctx)
			if err != nil || change == nil || change.Was != older || change.Next.ExitDelay != now.ExitDelay || !change.Honoured || !change.Vigil {
				t.Fatalf("%s: the change: %+v, %v", c.name, change, err)
			}
			if err := got.AcceptOperator(w.ctx, *change); err != nil {
				t.Fatal(err)
			}
			if at, err := got.Address(); err != nil || at != change.Next.Address() || len(got.Generations()) != 2 {
				t.Errorf("%s: %v, %v", c.name, at, err)
			}
			got.Close()
		}
	}
}

// TestSaidSpent has the operator say that a coin is spent: what brings it on chain
// stays until it has expired, apart from the rest, and comes back with the coin.
func TestSaidSpent(t *testing.T) {
	t.Parallel()
	clock := &moved{}
	w := newWorld(t, arktest.Config{Clock: clock})
	d, store, _ := w.create(client.CreateOptions{})
	ops := w.minted(d, 40_000, 60_000)
	to, err := d.Address()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Send(w.ctx, to, 40_000); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Keep(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	b, err := d.Export(w.ctx)
	if err != nil || len(b.Coins) != 2 || len(b.Spent) != 1 || !slices.Contains(ops, outpoint(t, b.Spent[0].Outpoint)) {
		t.Fatalf("%d coins, %d spent: %v", len(b.Coins), len(b.Spent), err)
	}
	clock.Advance(60 * day)
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	if names, err := store.List(w.ctx, "exit."+b.Spent[0].Outpoint); err != nil || len(names) > 0 {
		t.Errorf("after the end: %v, %v", names, err)
	}
}

func outpoint(t *testing.T, s string) wire.OutPoint {
	t.Helper()
	op, err := ark.ParseOutpoint(s)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// TestFeeOutOfProportion has the operator ask for a third of every coin: a device
// signs no renewal for that, unless its owner says so.
func TestFeeOutOfProportion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{Settings: arktest.Settings{Fees: arktest.Fees{OffchainInput: "amount * 0.3"}}})
	d, store, _ := w.create(client.CreateOptions{})
	if _, err := w.op.Mint(w.output(d, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Keep(w.ctx); !errors.Is(err, client.ErrFee) {
		t.Fatalf("ahead: %v", err)
	}
	if _, err := d.Renew(w.ctx); !errors.Is(err, client.ErrFee) {
		t.Fatalf("now: %v", err)
	}
	w.vigil.set(func() {
		if len(w.vigil.stored) > 0 || w.vigil.calls["Sign"] > 0 {
			t.Error("something was signed")
		}
	})
	cfg := w.config(store)
	cfg.MaxFee = 30_000
	dear, err := client.Open(w.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer dear.Close()
	if k, err := dear.Keep(w.ctx); err != nil || len(k.Delegated) != 1 || k.Delegated[0].Fee != 30_000 {
		t.Fatalf("%+v %v", k, err)
	}
}

// TestShortBatch has the operator halve the life of its batches: a device does not
// give a coin for one that it can sweep so much sooner.
func TestShortBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 40_000)
	if err := w.op.Update(func(s *arktest.Settings) { s.TreeExpiry = 1024 }); err != nil {
		t.Fatal(err)
	}
	_, err := d.Renew(w.ctx) // a batch that had begun may have the life of before
	if err == nil {
		_, err = d.Renew(w.ctx)
	}
	if !errors.Is(err, batch.ErrExpiry) {
		t.Fatal(err)
	}
}
