package arktest_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
)

// TestBatchOfMany: boarding, renewals, a recoverable coin, two inputs, two
// outputs, an on-chain output and a key shared by two intents, in one batch.
func TestBatchOfMany(t *testing.T) {
	t.Parallel()
	// Its parts end when all have answered; a busy machine needs the rest.
	op := start(t, arktest.Config{Settings: arktest.Settings{SessionDuration: 40 * time.Second}})
	ctx := deadline(t)
	var coins []coin
	var parties []*party
	for range 5 {
		p := newParty(t, op)
		parties = append(parties, p)
		coins = append(coins, p.board(ctx, 50_000))
	}
	op.MarkSwept(coins[1].at)
	minimum(t, ctx, op, 7)

	onchain := &wire.TxOut{Value: 20_000, PkScript: append([]byte{txscript.OP_0, 20}, make([]byte, 20)...)}
	type entry struct {
		p     *party
		coins []coin
		outs  []*wire.TxOut
		msg   proof.Message
	}
	restful, _ := newRestParty(t, op)
	extra := parties[3].fund(30_000)
	entries := []entry{
		{parties[0], coins[:1], []*wire.TxOut{parties[0].pay(50_000)}, parties[0].message()},
		{parties[1], coins[1:2], []*wire.TxOut{parties[1].pay(50_000)}, parties[1].message()},
		{parties[2], coins[2:3], []*wire.TxOut{parties[2].pay(20_000), parties[2].pay(30_000)}, parties[2].message()},
		{parties[3], []coin{coins[3], extra}, []*wire.TxOut{parties[3].pay(80_000)}, parties[3].message()},
		{parties[4], coins[4:5], []*wire.TxOut{parties[4].pay(30_000), onchain}, parties[4].message()},
		{restful, []coin{restful.fund(40_000)}, []*wire.TxOut{restful.pay(40_000)}, restful.message()},
	}
	entries[4].msg.Onchain = []int{1}
	shared := restful.fund(10_000)

	var wg sync.WaitGroup
	results := make([]outcome, len(entries))
	for i, e := range entries {
		all := e.coins
		if e.p == restful {
			all = append(slices.Clone(all), shared)
		}
		s := e.p.sit(ctx, all)
		s.ids = []string{e.p.mustRegister(e.p.proof(e.msg, e.coins, e.outs...))}
		if e.p == restful { // a second intent with the same cosigner key
			s.ids = append(s.ids, e.p.mustRegister(e.p.proof(e.p.message(), []coin{shared}, e.p.pay(10_000))))
		}
		wg.Go(func() {
			var err error
			if results[i], err = s.play(ctx); err != nil || results[i].failed != "" {
				t.Errorf("party %d: %v, %q", i, err, results[i].failed)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, want := range []int{1, 1, 2, 1, 1, 2} {
		if results[i].txid != results[0].txid || len(results[i].made) != want {
			t.Errorf("party %d: batch %s with %d coins, want %s with %d", i, results[i].txid, len(results[i].made), results[0].txid, want)
		}
	}
	b, _ := op.Stats().Batch(results[0].batch)
	if len(b.NeedForfeit) != 4 || len(b.Forfeits) != 4 || b.Boarding != 3 || len(b.Outputs) != 8 {
		t.Errorf("the batch needed %d forfeits, got %d, %d boarding inputs, made %d", len(b.NeedForfeit), len(b.Forfeits), b.Boarding, len(b.Outputs))
	}
	if v, _ := op.VTXO(coins[1].at); v.SpentBy != "" || v.SettledBy != results[0].txid {
		t.Errorf("the recoverable coin is %+v", v)
	}
	commitment := results[0].commitment.UnsignedTx
	if !slices.ContainsFunc(commitment.TxOut[2:], func(o *wire.TxOut) bool { return o.Value == 20_000 && string(o.PkScript) == string(onchain.PkScript) }) {
		t.Error("the on-chain output is not in the commitment")
	}
}

// TestManyAgreesWithCaptures: the tree of a batch of four has the captured
// form, seen over REST by the one with two outputs.
func TestManyAgreesWithCaptures(t *testing.T) {
	t.Parallel()
	c := loadCaptures(t)
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	restful, r := newRestParty(t, op)
	parties := []*party{restful, newParty(t, op), newParty(t, op), newParty(t, op)}
	var coins []coin
	for _, p := range parties {
		coins = append(coins, p.board(ctx, 50_000))
	}
	minimum(t, ctx, op, len(parties))
	r.frames = nil
	var wg sync.WaitGroup
	for i, p := range parties {
		outs := []*wire.TxOut{p.pay(50_000)}
		if p == restful {
			outs = []*wire.TxOut{p.pay(400), p.pay(49_600)}
		}
		s := p.sit(ctx, coins[i:i+1])
		s.ids = []string{p.mustRegister(p.proof(p.message(), coins[i:i+1], outs...))}
		wg.Go(func() {
			if out, err := s.play(ctx); err != nil || out.failed != "" {
				t.Errorf("party %d: %v, %q", i, err, out.failed)
			}
		})
	}
	wg.Wait()
	for _, w := range c.Batches["delegated-multi"].Events {
		k := indexed(t, w)
		if !slices.ContainsFunc(r.frames, func(f []byte) bool { return indexed(t, f) == k && form(t, f) == form(t, w) }) {
			t.Errorf("no %s of the form %s", k, form(t, w))
		}
	}
}

// TestFullBatch: as many participants as fit, of one key as a delegate has.
func TestFullBatch(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("signs 255 nodes")
	}
	const n = 128
	clock := arktest.NewManualClock(time.Unix(1_800_000_000, 0)) // no phase ends but by what is sent
	op := start(t, arktest.Config{Clock: clock, Settings: arktest.Settings{MinParticipants: n}})
	ctx := deadline(t)
	p := newParty(t, op)
	var coins []coin
	s := p.listen(ctx, nil, []string{hexKey(p.cosigner)})
	for range n {
		c := p.fund(10_000)
		coins = append(coins, c)
		s.ids = append(s.ids, p.mustRegister(p.proof(p.message(), []coin{c}, p.pay(10_000))))
	}
	s.coins = coins
	clock.Advance(2 * time.Second)
	out, err := s.play(ctx)
	if err != nil || out.failed != "" || len(out.made) != n {
		t.Fatalf("%v, %q, %d coins", err, out.failed, len(out.made))
	}
	if len(s.nodes) != 2*n-1 {
		t.Errorf("%d nodes, want %d", len(s.nodes), 2*n-1)
	}
}

// TestOnchainOnlyBatch: without off-chain outputs there is no tree, and the
// connectors still stand at output 1.
func TestOnchainOnlyBatch(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	m := p.message()
	m.Onchain, m.Cosigners = []int{0}, []string{}
	s := p.sit(ctx, []coin{c})
	pay := &wire.TxOut{Value: 50_000, PkScript: append([]byte{txscript.OP_0, 20}, make([]byte, 20)...)}
	s.ids = []string{p.mustRegister(p.proof(m, []coin{c}, pay))}
	out, err := s.play(ctx)
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	var kinds []string
	for _, ev := range out.events {
		kinds = append(kinds, fmt.Sprintf("%T", ev.Event)[len("*arkv1.GetEventStreamResponse_"):])
	}
	if want := []string{"BatchStarted", "TreeTx", "BatchFinalization", "BatchFinalized"}; !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	outs := out.commitment.UnsignedTx.TxOut
	if outs[0].Value != 50_000 || hex.EncodeToString(outs[1].PkScript[:2]) != "5120" || outs[1].Value != 330 {
		t.Errorf("commitment outputs %v, %v", outs[0], outs[1])
	}
}
