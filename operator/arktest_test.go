package operator_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

// start runs the test operator on loopback, and a client of it.
func start(t *testing.T, set arktest.Settings, change func(*operator.Config)) (*arktest.Operator, *operator.Client) {
	t.Helper()
	op, err := arktest.Start(arktest.Config{Settings: set, NoEsplora: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	cfg := operator.Config{URL: op.URL(), Backoff: operator.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}}
	if change != nil {
		change(&cfg)
	}
	c, err := operator.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return op, c
}

// await takes events until one of type E, or fails when the test's context ends.
func await[E any](ctx context.Context, t *testing.T, s *operator.Stream) E {
	t.Helper()
	for {
		select {
		case ev := <-s.C():
			if e, ok := ev.(E); ok {
				return e
			}
		case <-ctx.Done():
			t.Fatalf("no %T", *new(E))
		}
	}
}

func TestWholeOperator(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	changes := make(chan ark.Params, 8)
	op, c := start(t, arktest.Settings{SessionDuration: 3 * time.Second}, func(cfg *operator.Config) {
		cfg.OnParamsChange = func(_, after ark.Params) { changes <- after }
	})
	s, err := c.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	await[operator.StreamUp](ctx, t, s)
	topic := operator.OutpointTopic(wire.OutPoint{Index: 7})
	if err := s.Add(ctx, topic); err != nil {
		t.Fatal(err)
	}

	// Changed parameters are found by the next call, which passes all the same.
	if err := op.Update(func(set *arktest.Settings) { set.Dust = 546 }); err != nil {
		t.Fatal(err)
	}
	if err := c.ConfirmRegistration(ctx, "nobody's"); operator.ClassOf(err) != operator.NextBatch {
		t.Errorf("got %v, %v", err, operator.ClassOf(err))
	}
	if after := <-changes; after.Dust != 546 {
		t.Errorf("got %+v", after)
	}

	// A restart is a StreamDown, a StreamUp with the same topics, and no more.
	op.Down()
	await[operator.StreamDown](ctx, t, s)
	if _, err := c.VTXOs(ctx, []wire.OutPoint{{}}); operator.ClassOf(err) != operator.Transient {
		t.Errorf("while it is down: %v", err)
	}
	if err := op.Up(); err != nil {
		t.Fatal(err)
	}
	await[operator.StreamUp](ctx, t, s)
	if err := s.Add(ctx, topic, operator.KeyTopic(bip340.PubKey{2})); err != nil {
		t.Error(err)
	}

	// Refusals as the operator words them.
	for name, tc := range map[string]struct {
		err  error
		want operator.Class
	}{
		"no intent":          {second(c.RegisterIntent(ctx, "", "")), operator.Rejected},
		"no PSBT":            {second(c.RegisterIntent(ctx, "xx", "{}")), operator.Rejected},
		"no proof to delete": {c.DeleteIntent(ctx, "", ""), operator.Rejected},
		"unknown tx":         {c.FinalizeTx(ctx, chainhash.Hash{1}, []string{"xx"}), operator.NotFound},
		"no forfeits":        {c.SubmitForfeits(ctx, nil, ""), operator.Rejected},
		"nonces of nobody":   {c.SubmitTreeNonces(ctx, "no batch", bip340.PubKey{2}, nil), operator.Rejected},
		"commitment":         {second(c.CommitmentTx(ctx, chainhash.Hash{1})), operator.NotFound},
	} {
		if got := operator.ClassOf(tc.err); got != tc.want {
			t.Errorf("%s: %v, %v, want %v", name, tc.err, got, tc.want)
		}
	}
	op.Fault(arktest.Fault{Method: "ConfirmRegistration", Code: codes.Unavailable, Times: 1})
	if err := c.ConfirmRegistration(ctx, "x"); operator.ClassOf(err) != operator.Transient {
		t.Errorf("got %v", err)
	}
	if got, err := c.VTXOs(ctx, []wire.OutPoint{{Hash: chainhash.Hash{1}}}); err != nil || len(got) != 0 {
		t.Errorf("an unknown outpoint: %v, %v", got, err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestIntentsOfARealCoin boards a coin and takes an intent over it through the
// answers that a renewal must tell apart.
func TestIntentsOfARealCoin(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	op, c := start(t, arktest.Settings{SessionDuration: 3 * time.Second}, nil)
	owner, _, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	service, _, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w, delegate := wallet.New(c, owner, nil), service.PubKey()
	coin := board(ctx, t, op, w, &delegate)

	// With two wanted, one intent stays queued.
	if err := op.Update(func(set *arktest.Settings) { set.MinParticipants = 2 }); err != nil {
		t.Fatal(err)
	}
	at := func(when time.Time) wallet.Intent {
		t.Helper()
		req, err := w.Delegate(ctx, []ark.VTXO{coin}, wallet.DelegateInfo{Key: delegate}, wallet.DelegateOptions{ValidAt: when})
		if err != nil {
			t.Fatal(err)
		}
		return req.Intent
	}
	now, later := at(time.Now().Add(-time.Minute)), at(time.Now().Add(time.Hour))
	register := func(in wallet.Intent) error { return second(c.RegisterIntent(ctx, in.Proof, in.Message)) }
	if err := register(later); operator.ClassOf(err) != operator.NotYet {
		t.Errorf("before valid_at: %v", err)
	}
	estimate := strings.Replace(now.Message, `"register"`, `"estimate-intent-fee"`, 1)
	if fee, err := c.EstimateFee(ctx, now.Proof, estimate); err != nil || fee != 0 {
		t.Errorf("fee %d, %v", fee, err)
	}
	if err := register(now); err != nil {
		t.Fatal(err)
	}
	if err := register(now); !errors.Is(err, operator.ErrDuplicate) {
		t.Errorf("again: %v", err)
	}
	del, err := w.DeleteIntent(0, coin)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteIntent(ctx, del.Proof, del.Message); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := c.DeleteIntent(ctx, del.Proof, del.Message); !errors.Is(err, operator.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	chain, err := c.VtxoChain(ctx, coin.Outpoint)
	if err != nil || len(chain) < 2 || chain[0].Kind != operator.KindTree || chain[len(chain)-1].Kind != operator.KindCommitment {
		t.Fatalf("chain %+v, %v", chain, err)
	}
	if txs, err := c.VirtualTxs(ctx, []chainhash.Hash{coin.Outpoint.Hash}); err != nil || txs[coin.Outpoint.Hash] == "" {
		t.Errorf("virtual transactions %v, %v", txs, err)
	}
	if com, err := c.CommitmentTx(ctx, coin.CommitmentTxs[0]); err != nil || len(com.Batches) != 1 {
		t.Errorf("commitment %+v, %v", com, err)
	}
	if got, err := c.VTXOsByScript(ctx, [][]byte{coin.Script}, operator.OnlyRenewable); err != nil || len(got) != 1 || got[0].Outpoint != coin.Outpoint {
		t.Errorf("by script: %v, %v", got, err)
	}

	if _, err := w.Send(ctx, addressOf(ctx, t, w, nil), 100_000); err != nil {
		t.Fatal(err)
	}
	if err := register(now); !errors.Is(err, operator.ErrSpent) {
		t.Errorf("after it was spent: %v", err)
	}
}

func addressOf(ctx context.Context, t *testing.T, w *wallet.Wallet, delegate *bip340.PubKey) ark.Address {
	t.Helper()
	a, err := w.Address(ctx, delegate)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// board gives w one coin of 100,000 satoshis.
func board(ctx context.Context, t *testing.T, op *arktest.Operator, w *wallet.Wallet, delegate *bip340.PubKey) ark.VTXO {
	t.Helper()
	to := addressOf(ctx, t, w, delegate)
	addr, err := w.BoardingAddress(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at, err := op.Faucet(addr, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
	out, ok := op.Chain().Output(at)
	if !ok {
		t.Fatal("the faucet's output is not on chain")
	}
	if _, err := w.Board(ctx, to, wallet.BoardingCoin{Outpoint: at, Out: &out}); err != nil {
		t.Fatal(err)
	}
	coins, err := w.VTXOs(ctx)
	if err != nil || len(coins) != 1 {
		t.Fatalf("%d coins, %v", len(coins), err)
	}
	return coins[0]
}
