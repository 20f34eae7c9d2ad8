package client_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
)

// moved is the wall clock, moved ahead: sessions take as long as ever, and delays
// of months pass at once.
type moved struct {
	arktest.SystemClock
	ahead atomic.Int64
}

func (m *moved) Now() time.Time          { return time.Now().Add(time.Duration(m.ahead.Load())) }
func (m *moved) Advance(d time.Duration) { m.ahead.Add(int64(d)) }

const somewhere = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

// minted gives the wallet coins without a batch, and the exit data of all.
func (w *world) minted(d *client.Wallet, sats ...int64) []wire.OutPoint {
	w.Helper()
	var outs []*wire.TxOut
	for _, n := range sats {
		outs = append(outs, w.output(d, n))
	}
	ops, err := w.op.Mint(outs...)
	if err != nil {
		w.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		w.Fatal(err)
	}
	if _, err := d.Keep(w.ctx); err != nil {
		w.Fatal(err)
	}
	return ops
}

// output pays the wallet's address.
func (w *world) output(d *client.Wallet, sats int64) *wire.TxOut {
	w.Helper()
	to, err := d.Address()
	if err != nil {
		w.Fatal(err)
	}
	return wire.NewTxOut(sats, to.PkScript())
}

// TestLeaveAlone brings coins out with Vigil and operator dead: from the seed, the
// backup and a chain.
func TestLeaveAlone(t *testing.T) {
	t.Parallel()
	clock := &moved{}
	w := newWorld(t, arktest.Config{Clock: clock})
	d, _, seed := w.create(client.CreateOptions{})
	w.minted(d, 40_000, 60_000)
	w.minted(d, 30_000)
	backup, err := d.Export(w.ctx)
	if err != nil || len(backup.Coins) != 3 {
		t.Fatalf("%d coins, %v", len(backup.Coins), err)
	}
	d.Close()
	w.vigil.http.Close()
	w.op.Down()

	if _, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.esplora}, w.seed()); !errors.Is(err, client.ErrSeed) {
		t.Fatalf("with another seed: %v", err)
	}
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.esplora, Now: clock.Now}, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Burn()
	if _, err := l.Unroll(w.ctx); !errors.Is(err, client.ErrFeeCoin) {
		t.Fatalf("without a fee coin: %v", err)
	}
	at, err := l.FeeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.op.Faucet(at, 50_000); err != nil {
		t.Fatal(err)
	}
	mine := func() {
		t.Helper()
		if err := w.op.Chain().Mine(1); err != nil {
			t.Fatal(err)
		}
	}
	mine()
	for range 30 {
		list, err := l.Unroll(w.ctx)
		if err != nil { // one fee coin pays for all: its change comes with every block
			t.Fatal(err)
		}
		out := true
		for _, p := range list {
			if p.Err != nil {
				t.Fatal(p.Err)
			}
			out = out && p.OnChain()
		}
		if out {
			break
		}
		mine()
	}
	if _, err := l.Sweep(w.ctx, somewhere); !errors.Is(err, client.ErrTooEarly) {
		t.Fatalf("swept before its time: %v", err)
	}
	m, err := l.Maturing(w.ctx)
	if err != nil || len(m) != 3 {
		t.Fatalf("maturing %+v, %v", m, err)
	}
	clock.Advance(91 * 24 * time.Hour)
	if err := w.op.Chain().CatchUp(); err != nil {
		t.Fatal(err)
	}
	s, err := l.Sweep(w.ctx, somewhere)
	if err != nil {
		t.Fatal(err)
	}
	mine()
	if n, ok := w.op.Chain().Confirmations(s.Txid); !ok || n != 1 || s.Amount+s.Fee != 130_000 {
		t.Fatalf("swept %+v with %d confirmations", s, n)
	}
}

// TestLeaveDeep brings a coin out that lies under a tree of several levels and two
// payments: every transaction on the way is a step of its own, of a parent without
// a fee and the child that pays for it.
func TestLeaveDeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, seed := w.create(client.CreateOptions{})
	outs := []*wire.TxOut{w.output(d, 90_000)}
	for len(outs) < 801 { // five leaves, of which the operator's tree has four beside ours
		outs = append(outs, wire.NewTxOut(1_000, ark.PayToTaproot(script.NUMS)))
	}
	if _, err := w.op.Mint(outs...); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		t.Fatal(err)
	}
	for _, sats := range []int64{50_000, 20_000} {
		if _, err := d.Send(w.ctx, d.Descriptor().Address(), sats); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	backup, err := d.Export(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	w.vigil.http.Close()
	w.op.Down()
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.esplora}, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Burn()
	at, err := l.FeeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.op.Faucet(at, 100_000); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for ; ; steps++ {
		if err := w.op.Chain().Mine(1); err != nil {
			t.Fatal(err)
		}
		list, err := l.Unroll(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 || steps > 60 {
			t.Fatalf("after %d steps %+v", steps, list)
		}
		if !slices.ContainsFunc(list, func(p client.Progress) bool { return p.Err != nil || !p.OnChain() }) {
			break
		}
		if i := slices.IndexFunc(list, func(p client.Progress) bool { return p.Err != nil }); i >= 0 {
			t.Fatal(list[i].Err)
		}
	}
	t.Logf("%d coins in %d steps", len(backup.Coins), steps)
	if steps < 6 {
		t.Errorf("on chain after %d steps: the coin was not deep", steps)
	}
}

// TestClaim takes coins that have expired out by the recovery key, with Vigil dead
// and the operator at work.
func TestClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, seed := w.create(client.CreateOptions{})
	ops := w.minted(d, 40_000, 60_000)
	w.minted(d, 30_000)
	backup, err := d.Export(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	w.vigil.http.Close()
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.esplora, Operator: w.op.URL()}, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Burn()
	if _, err := l.Claim(w.ctx, somewhere); !errors.Is(err, client.ErrFunds) {
		t.Fatalf("live coins claimed: %v", err)
	}
	w.op.Expire(ops...)
	if err := w.op.RotateSigner(time.Time{}); err != nil { // of which an expired coin knows nothing
		t.Fatal(err)
	}
	s, err := l.Claim(w.ctx, somewhere)
	if err != nil {
		t.Fatal(err)
	}
	if tx, ok := w.op.Chain().Tx(s.Commitment); !ok {
		t.Fatal("no commitment transaction")
	} else if at := slicesIndex(tx.Msg.TxOut, 100_000-s.Fee); at < 0 {
		t.Fatalf("%d sats are not in %v", 100_000-s.Fee, tx.Msg.TxOut)
	}
}

func slicesIndex(outs []*wire.TxOut, sats int64) int {
	for i, o := range outs {
		if o.Value == sats {
			return i
		}
	}
	return -1
}
