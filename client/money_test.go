package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/lie"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/operator"
)

// TestPaymentBrokenOff loses the operator between its answer to a payment and the
// last word: the coins are neither here nor there, until the device is back.
func TestPaymentBrokenOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	to := d.Descriptor().Address()
	w.op.Fault(arktest.Fault{Method: "FinalizeTx", Code: codes.Unavailable, Times: 1})
	if _, err := d.Send(w.ctx, to, 20_000); err == nil {
		t.Fatal("paid without the last word")
	}
	d.Close()
	d, err := client.Open(w.ctx, w.config(store))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b, err := d.Balance(w.ctx); err != nil || b.Total() != 0 {
		t.Fatalf("before: %+v, %v", b, err)
	}
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Balance(w.ctx); err != nil || b.Preconfirmed != 50_000 {
		t.Fatalf("after: %+v, %v", b, err)
	}
	if _, err := d.Send(w.ctx, to, 1_000); err != nil {
		t.Fatal(err)
	}
}

// TestPaymentLost loses the operator's answer to a payment itself.
func TestPaymentLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	w.op.Fault(arktest.Fault{Method: "SubmitTx", LoseAnswer: true, Times: 1})
	if _, err := d.Send(w.ctx, d.Descriptor().Address(), 20_000); err == nil {
		t.Fatal("paid without an answer")
	}
	if _, err := d.Send(w.ctx, d.Descriptor().Address(), 5_000); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Balance(w.ctx); err != nil || b.Preconfirmed != 50_000 {
		t.Fatalf("%+v, %v", b, err)
	}
}

// TestRegisteredCoin pays with a coin that an intent in the operator's queue
// holds: the delete proof frees it.
func TestRegisteredCoin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{Settings: arktest.Settings{MinParticipants: 2}})
	d, store, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	other, err := client.Open(w.ctx, w.config(store))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithCancel(w.ctx)
	renewed := make(chan error, 1)
	go func() { _, err := other.Renew(ctx); renewed <- err }()
	if err := w.op.Await(w.ctx, func(s arktest.Stats) bool { return s.Calls["/ark.v1.ArkService/RegisterIntent"] > 0 }); err != nil {
		t.Fatal(err, <-renewed)
	}
	if _, err := d.Send(w.ctx, d.Descriptor().Address(), 20_000); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-renewed; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestTwoLeaves moves a coin that came to a script without a recovery leaf at the
// first time that the device is online.
func TestTwoLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	if _, err := w.op.Mint(wire.NewTxOut(25_000, d.Descriptor().TwoLeaf().PkScript())); err != nil {
		t.Fatal(err)
	}
	coins, err := d.VTXOs(w.ctx)
	if err != nil || len(coins) != 1 || coins[0].WithoutVigil {
		t.Fatalf("%+v, %v", coins, err)
	}
	k, err := d.Keep(w.ctx)
	if err != nil || len(k.Moved) != 1 || len(k.Delegated) != 1 || k.Uncovered != 0 {
		t.Fatalf("%+v, %v", k, err)
	}
	if coins, err = d.VTXOs(w.ctx); err != nil || len(coins) != 1 || !coins[0].WithoutVigil || !coins[0].ExitData {
		t.Fatalf("%+v, %v", coins, err)
	}
}

// TestExit leaves Ark with everybody's help, in part and whole.
func TestExit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{Settings: arktest.Settings{
		Fees: arktest.Fees{OffchainInput: "amount * 0.001", OffchainOutput: "50.0", OnchainOutput: "200.0"},
	}})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 40_000, 60_000)
	for _, c := range []struct {
		to   string
		sats int64
		want error
	}{
		{"nonsense", 0, client.ErrAddress},
		{"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 0, client.ErrAddress},
		{somewhere, 100, client.ErrDust},
		{somewhere, 100_000, client.ErrFunds},
	} {
		if _, err := d.Exit(w.ctx, c.to, c.sats); !errors.Is(err, c.want) {
			t.Errorf("%d to %s: %v", c.sats, c.to, err)
		}
	}
	part, err := d.Exit(w.ctx, somewhere, 30_000)
	if err != nil {
		t.Fatal(err)
	}
	// One coin of 40,000 or 60,000 pays a thousandth, two outputs off chain by the
	// operator's count, and one on chain.
	if want := map[int64]bool{40 + 100 + 200: true, 60 + 100 + 200: true}; !want[part.Fee] {
		t.Errorf("the fee was %d", part.Fee)
	}
	whole, err := d.Exit(w.ctx, somewhere, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []client.Settled{part, whole} {
		if _, ok := w.op.Chain().Tx(s.Commitment); !ok {
			t.Errorf("%s is not in the chain", s.Commitment)
		}
	}
	if b, err := d.Balance(w.ctx); err != nil || b.Total() != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := d.Exit(w.ctx, somewhere, 0); !errors.Is(err, client.ErrFunds) {
		t.Errorf("an empty wallet: %v", err)
	}
}

// TestSendRefuses pays nobody who is not of this operator, and nothing that is not
// there.
func TestSendRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 10_000)
	to := d.Descriptor().Address()
	foreign, _ := newKey(t)
	stranger, mainnet := to, to
	stranger.Signer = foreign.PubKey().XOnly()
	mainnet.HRP = "ark"
	for _, c := range []struct {
		to   ark.Address
		sats int64
		want error
	}{
		{stranger, 1_000, client.ErrAddress}, {mainnet, 1_000, client.ErrAddress},
		{to, 0, client.ErrFunds}, {to, -1, client.ErrFunds}, {to, 10_001, client.ErrFunds},
	} {
		if _, err := d.Send(w.ctx, c.to, c.sats); !errors.Is(err, c.want) {
			t.Errorf("%d: %v", c.sats, err)
		}
	}
	if _, err := d.Send(w.ctx, to, 10_000); err != nil {
		t.Errorf("everything: %v", err)
	}
}

// TestRoundTrips counts what a delegate over 20 coins costs: 43 signatures in one
// round trip, one to submit, its id having come with an earlier answer.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 1_000) // its delegate's answer carries the id for the next
	outs := make([]*wire.TxOut, 20)
	for i := range outs {
		outs[i] = w.output(d, 10_000)
	}
	ops, err := w.op.Mint(outs...)
	if err != nil {
		t.Fatal(err)
	}
	w.vigil.mu.Lock()
	clear(w.vigil.calls)
	clear(w.vigil.nonces)
	w.vigil.mu.Unlock()
	list, err := d.Delegate(w.ctx, client.DelegateOptions{Coins: ops})
	if err != nil || len(list) != 1 || len(list[0].Coins) != 20 {
		t.Fatalf("%+v, %v", list, err)
	}
	w.vigil.mu.Lock()
	defer w.vigil.mu.Unlock()
	if c := w.vigil.calls; c["Sign"] != 1 || c["SubmitDelegate"] != 1 || c["PrepareDelegates"] != 0 || c["ListVtxos"] != 1 || len(c) != 3 {
		t.Errorf("calls %v", c)
	}
	if len(w.vigil.nonces) != 43 {
		t.Errorf("%d signatures", len(w.vigil.nonces))
	}
}

// TestAssets carries what a coin holds beside its sats through a renewal and a
// delegate, and pays nobody with it. What it adds to a proof parts a group that would
// weigh more than half of what the operator takes.
func TestAssets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{Settings: arktest.Settings{MaxTxWeight: 4_000}}) // two coins, and nothing else
	d, _, _ := w.create(client.CreateOptions{})
	c, err := operator.Dial(operator.Config{URL: w.op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	key, _ := newKey(t)
	issuer := wallet.New(c, key, nil)
	theirs, err := issuer.Address(w.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.op.Mint(wire.NewTxOut(30_000, theirs.PkScript())); err != nil {
		t.Fatal(err)
	}
	if _, _, err := issuer.Issue(w.ctx, d.Descriptor().Address(), 5_000, 77); err != nil {
		t.Fatal(err)
	}
	w.minted(d, 20_000)
	held := func() (n uint64) {
		t.Helper()
		coins, err := d.VTXOs(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range coins {
			for _, a := range v.Assets {
				n += a.Amount
			}
		}
		return n
	}
	if held() != 77 {
		t.Fatalf("%d units came", held())
	}
	if _, err := d.Send(w.ctx, theirs, 21_000); !errors.Is(err, client.ErrFunds) {
		t.Fatalf("assets were spent: %v", err)
	}
	list, err := d.Delegate(w.ctx, client.DelegateOptions{At: time.Now().Add(time.Minute)})
	if err != nil || len(list) != 2 || len(list[0].Coins) != 1 || len(list[1].Coins) != 1 {
		t.Fatalf("parted: %+v, %v", list, err)
	}
	if _, err := d.Renew(w.ctx); err != nil {
		t.Fatal(err)
	}
	if held() != 77 {
		t.Fatalf("%d units are left", held())
	}
	if list, err := d.Delegate(w.ctx, client.DelegateOptions{At: time.Now().Add(time.Minute)}); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
}

// TestBoardNothing says so, and what it needs.
func TestBoardNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	if _, err := d.Board(w.ctx); !errors.Is(err, client.ErrFunds) {
		t.Errorf("nothing: %v", err)
	}
	at, err := d.BoardingAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.op.Faucet(at, 10_000); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Balance(w.ctx); err != nil || b.Boarding != 10_000 {
		t.Errorf("%+v, %v", b, err)
	}
	d.Close()
	cfg := w.config(store)
	cfg.Esplora = ""
	if d, err = client.Open(w.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Board(w.ctx); !errors.Is(err, client.ErrConfig) {
		t.Errorf("without an Esplora: %v", err)
	}
}

// TestPinned refuses another Vigil than the one of the store, and an operator that
// became another.
func TestPinned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	w.minted(d, 10_000)
	cfg := w.config(store)
	_, cfg.HostKey = newKey(t)
	if _, err := client.Open(w.ctx, cfg); !errors.Is(err, client.ErrPinned) {
		t.Errorf("another host key: %v", err)
	}
	// With another signer nothing is signed any more, and all that is needed to leave
	// can be read: also of a coin that came later.
	ops, err := w.op.Mint(w.output(d, 20_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.op.Mine(1), w.op.RotateSigner(time.Time{})); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d, err = client.Open(w.ctx, w.config(store))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.Send(w.ctx, d.Descriptor().Address(), 1_000)
	if !errors.Is(err, client.ErrPinned) || !errors.Is(err, client.ErrRotated) || !strings.Contains(err.Error(), "exit --unilateral") {
		t.Errorf("another signer: %v", err)
	}
	if _, err := d.Keep(w.ctx); !errors.Is(err, client.ErrRotated) { // there is a coin to be covered
		t.Errorf("kept: %v", err)
	}
	coins, err := d.VTXOs(w.ctx)
	if err != nil || len(coins) != 2 || !coins[0].ExitData || !coins[1].ExitData {
		t.Errorf("read %+v, %v", coins, err)
	}
	if b, err := d.Export(w.ctx); err != nil || len(b.Coins) != 2 {
		t.Errorf("%d coins can leave without %s: %v", len(b.Coins), ops[0], err)
	}
	if _, err := client.Open(w.ctx, client.Config{}); !errors.Is(err, client.ErrConfig) {
		t.Errorf("no configuration: %v", err)
	}
}

// TestBatchFails takes an intent on to the next batch when one fails, on chain and
// off: one intent, and for Vigil one spend.
func TestBatchFails(t *testing.T) {
	t.Parallel()
	clock := &moved{}
	w := newWorld(t, arktest.Config{Clock: clock})
	d, _, seed := w.create(client.CreateOptions{})
	ops := w.minted(d, 30_000)
	// kept are the coins that a backup brings on chain, and those set apart.
	kept := func() (coins, apart int) {
		t.Helper()
		b, err := d.Export(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(b.Coins), len(b.Spent)
	}
	w.op.Lie(lie.FailedAfterForfeits)
	s, err := d.Renew(w.ctx, ops...)
	if err != nil || s.Amount != 30_000 || len(s.Coins) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if n := w.op.Stats().Calls["/ark.v1.ArkService/RegisterIntent"]; n < 2 {
		t.Errorf("registered %d times", n)
	}
	// What a batch would have given that failed by the operator's word is set apart,
	// as the coin that is spent, until it would have expired.
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	if coins, apart := kept(); coins != 1 || apart != 2 {
		t.Errorf("exit data of %d coins and %d are kept", coins, apart)
	}
	w.fruitless(d, seed)
	// Vigil signs the intent and no forfeit: nothing can come of the batch.
	asked := 0
	w.vigil.set(func() {
		w.vigil.refuse = func(method string) bool {
			if method == "Sign" {
				asked++
			}
			return method == "Sign" && asked == 2
		}
	})
	if _, err := d.Renew(w.ctx); vigil.CodeOf(err) != vigil.CodeInternal {
		t.Fatal(err)
	}
	if coins, apart := kept(); coins != 1 || apart != 2 {
		t.Errorf("no forfeit left, and exit data of %d coins and %d are kept", coins, apart)
	}
	w.vigil.set(func() { w.vigil.refuse = nil })
	clock.Advance(40 * 24 * time.Hour)
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	if coins, apart := kept(); coins != 1 || apart != 0 {
		t.Errorf("exit data of %d coins and %d are kept after they have expired", coins, apart)
	}
}

// fruitless has a device unroll all of its backup, what is set apart too: a coin
// whose batch never came about is said to be one.
func (w *world) fruitless(d *client.Wallet, seed client.Seed) {
	w.Helper()
	b, err := d.Export(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	b.Coins = append(b.Coins, b.Spent...)
	l, err := client.NewLeave(client.LeaveConfig{Backup: b, Esplora: w.esplora}, seed)
	if err != nil {
		w.Fatal(err)
	}
	defer l.Burn()
	list, err := l.Unroll(w.ctx)
	if !errors.Is(err, client.ErrFeeCoin) || len(list) != 3 {
		w.Fatalf("%+v, %v", list, err)
	}
	none := 0
	for _, p := range list {
		if errors.Is(p.Err, client.ErrNoCommitment) {
			none++
		} else if p.Waiting == "" {
			w.Errorf("%+v waits for nothing", p)
		}
	}
	if none != 1 {
		w.Errorf("%d coins have no commitment transaction: %+v", none, list)
	}
}
