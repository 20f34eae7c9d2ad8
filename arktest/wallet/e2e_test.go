package wallet_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

// world is an operator on real time, with sessions as short as they get.
type world struct {
	t   *testing.T
	op  *arktest.Operator
	ctx context.Context
}

func newWorld(t *testing.T, set arktest.Settings) *world {
	t.Helper()
	set.SessionDuration = 3 * time.Second
	op, err := arktest.Start(arktest.Config{Settings: set})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(func() { cancel(); op.Close() })
	return &world{t, op, ctx}
}

func (w *world) wallet() *wallet.Wallet {
	w.t.Helper()
	c, err := operator.Dial(operator.Config{URL: w.op.URL()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	key, _, err := bip340.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	return wallet.New(c, key, nil)
}

func (w *world) address(d *wallet.Wallet, delegate *bip340.PubKey) ark.Address {
	w.t.Helper()
	a, err := d.Address(w.ctx, delegate)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// board gives the wallet one VTXO of about sats.
func (w *world) board(d *wallet.Wallet, to ark.Address, sats int64) ark.VTXO {
	w.t.Helper()
	addr, err := d.BoardingAddress(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := w.op.Faucet(addr, sats)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		w.t.Fatal(err)
	}
	out, ok := w.op.Chain().Output(at)
	if !ok {
		w.t.Fatal("the faucet's output is not on chain")
	}
	s, err := d.Board(w.ctx, to, wallet.BoardingCoin{Outpoint: at, Out: &out})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.only(d, s.Outputs[0].Outpoint)
}

// only holds that the wallet has one coin, at op.
func (w *world) only(d *wallet.Wallet, op wire.OutPoint) ark.VTXO {
	w.t.Helper()
	list, err := d.VTXOs(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(list) != 1 || list[0].Outpoint != op {
		w.t.Fatalf("coins %+v, want %s alone", list, op)
	}
	return list[0]
}

func TestLifeOfAWallet(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // last, after the world's own
	w := newWorld(t, arktest.Settings{})
	alice, bob := w.wallet(), w.wallet()
	service, _, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	delegate := service.PubKey()
	to := w.address(alice, &delegate)
	v := w.board(alice, to, 100_000)
	if v.Amount != 100_000 || v.Preconfirmed || v.Swept {
		t.Fatalf("boarded %+v", v)
	}

	s, err := alice.Renew(w.ctx, to, v)
	if err != nil {
		t.Fatal(err)
	}
	renewed := w.only(alice, s.Outputs[0].Outpoint)
	if len(s.Branch) == 0 || renewed.CommitmentTxs[0] != s.Commitment || renewed.Amount != 100_000 {
		t.Fatalf("renewed %+v by %+v", renewed, s)
	}

	paid, err := alice.Send(w.ctx, w.address(bob, nil), 30_000)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.only(bob, paid); got.Amount != 30_000 || !got.Preconfirmed {
		t.Fatalf("bob has %+v", got)
	}
	change := w.only(alice, wire.OutPoint{Hash: paid.Hash, Index: 1})
	if change.Amount != 70_000 {
		t.Fatalf("alice has %+v", change)
	}
	if _, err := alice.Send(w.ctx, w.address(bob, nil), 70_001); !errors.Is(err, wallet.ErrFunds) {
		t.Fatalf("more than she has: %v", err)
	}

	// What she signs ahead somebody else carries out, without her.
	info := wallet.DelegateInfo{Key: delegate, Address: w.address(bob, nil), Fee: 400}
	req, err := alice.Delegate(w.ctx, []ark.VTXO{change}, info, wallet.DelegateOptions{ValidAt: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := operator.Dial(operator.Config{URL: w.op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := (&carrier{op: client, key: service}).carry(w.ctx, req); err != nil {
		t.Fatal(err)
	}
	w.await(alice, 69_600)
	w.await(bob, 400, 30_000)
}

// await waits until the wallet has coins of just these amounts.
func (w *world) await(d *wallet.Wallet, want ...int64) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := d.VTXOs(w.ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		var got []int64
		for _, v := range list {
			got = append(got, v.Amount)
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.t.Fatalf("coins of %v, want %v", got, want)
		}
	}
}

func TestUnrollAndExit(t *testing.T) {
	w := newWorld(t, arktest.Settings{TreeExpiry: 400, ExitDelay: 20, BoardingDelay: 30, CheckpointDelay: 10})
	alice, bob := w.wallet(), w.wallet()
	w.board(alice, w.address(alice, nil), 100_000)
	to := w.address(bob, nil)
	paid, err := alice.Send(w.ctx, to, 40_000)
	if err != nil {
		t.Fatal(err)
	}
	v := w.only(bob, paid)
	exit, err := bob.ExitTx(v, to.PkScript(), 500)
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Unroll(w.ctx, paid, w.op.Chain().Broadcast); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Mine(18); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Chain().Broadcast(exit); !errors.Is(err, chain.ErrSequenceLock) {
		t.Fatalf("before the exit delay: %v", err)
	}
	if err := w.op.Mine(2); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Chain().Broadcast(exit); err != nil {
		t.Fatal(err)
	}
}

func TestOperatorsFeesArePaid(t *testing.T) {
	w := newWorld(t, arktest.Settings{Fees: arktest.Fees{
		OnchainInput: "200.0", OffchainInput: "inputType == 'vtxo' ? 30.0 : 0.0", OffchainOutput: "0.5",
	}})
	alice := w.wallet()
	to := w.address(alice, nil)
	v := w.board(alice, to, 100_000)
	if v.Amount != 99_799 {
		t.Fatalf("boarded %d", v.Amount)
	}
	s, err := alice.Renew(w.ctx, to, v)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.only(alice, s.Outputs[0].Outpoint); got.Amount != 99_768 {
		t.Fatalf("renewed %d", got.Amount)
	}
}

func TestAssetsAreCarried(t *testing.T) {
	w := newWorld(t, arktest.Settings{})
	alice := w.wallet()
	service, _, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	delegate := service.PubKey()
	to := w.address(alice, &delegate)
	w.board(alice, to, 50_000)
	_, gold, err := alice.Issue(w.ctx, to, 20_000, 7)
	if err != nil {
		t.Fatal(err)
	}
	list, err := alice.VTXOs(w.ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	// Both coins by herself, then the one that is left by her delegate.
	s, err := alice.Renew(w.ctx, to, list...)
	if err != nil {
		t.Fatal(err)
	}
	v := w.only(alice, s.Outputs[0].Outpoint)
	want := []ark.AssetAmount{{AssetID: gold.String(), Amount: 7}}
	if !slices.Equal(v.Assets, want) {
		t.Fatalf("renewed with %v", v.Assets)
	}
	if _, err := alice.Send(w.ctx, to, 1000); !errors.Is(err, wallet.ErrFunds) {
		t.Fatalf("a payment would burn the assets: %v", err)
	}
	client, err := operator.Dial(operator.Config{URL: w.op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	req, err := alice.Delegate(w.ctx, []ark.VTXO{v}, wallet.DelegateInfo{Key: delegate, Address: to, Fee: 1000},
		wallet.DelegateOptions{ValidAt: time.Now().Add(-time.Minute), FeeScript: ark.PayToTaproot(delegate.XOnly()), Fee: 600})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&carrier{op: client, key: service}).carry(w.ctx, req); err != nil {
		t.Fatal(err)
	}
	w.await(alice, 49_400)
	list, err = alice.VTXOs(w.ctx)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Assets, want) {
		t.Fatalf("carried: %+v, %v", list, err)
	}
}
