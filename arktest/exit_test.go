package arktest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// unroll puts a leaf's branch on the chain.
func unroll(t *testing.T, op *arktest.Operator, s *seat, c coin) {
	t.Helper()
	var branch []*wire.MsgTx
	for at := c.at.Hash; ; {
		n := s.nodes[at.String()]
		if n == nil {
			break
		}
		tx := n.UnsignedTx.Copy()
		tx.TxIn[0].Witness = wire.TxWitness{n.Inputs[0].TaprootKeySpendSig}
		branch = append(branch, tx)
		at = tx.TxIn[0].PreviousOutPoint.Hash
	}
	slices.Reverse(branch)
	for _, tx := range branch {
		if err := op.Chain().Broadcast(tx); err != nil {
			t.Fatal(err)
		}
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
}

// boardSeat boards and keeps the signed branch.
func boardSeat(t *testing.T, p *party, sats int64) (*seat, coin) {
	t.Helper()
	ctx := deadline(t)
	c := p.fund(sats)
	s := p.sit(ctx, []coin{c})
	s.ids = []string{p.mustRegister(p.proof(p.message(), []coin{c}, p.pay(sats)))}
	out, err := s.play(ctx)
	if err != nil || len(out.made) != 1 {
		t.Fatal(err, out.failed)
	}
	return s, out.made[0]
}

// TestUnrolledRejoins: a coin on the chain is no VTXO any more, but may board
// again.
func TestUnrolledRejoins(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	s, c := boardSeat(t, p, 50_000)
	unroll(t, op, s, c)
	await(t, ctx, op, "the exit to be seen", func(arktest.Stats) bool { v, _ := op.VTXO(c.at); return v.Unrolled })
	if _, err := p.submit(ctx, p.payment([]coin{c}, p.pay(50_000))); codeOf(err) != 7 {
		t.Errorf("an unrolled coin is spent off chain: %v", err)
	}
	out, err := p.settle(ctx, manners{}, []coin{c}, p.pay(50_000))
	if err != nil || out.failed != "" || len(out.made) != 1 {
		t.Fatal(err, out.failed)
	}
	if b, _ := op.Stats().Batch(out.batch); b.Boarding != 1 || len(b.NeedForfeit) != 0 {
		t.Errorf("%d boarding inputs, %d forfeits", b.Boarding, len(b.NeedForfeit))
	}
	if v, _ := op.VTXO(c.at); !v.Spent || v.SettledBy != out.txid {
		t.Errorf("the coin is %+v", v)
	}
}

// TestFraudIsPunished: the forfeit of a coin that is unrolled after its renewal
// is broadcast and confirms.
func TestFraudIsPunished(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	s, c := boardSeat(t, p, 50_000)
	out, err := p.settle(ctx, manners{}, []coin{c}, p.pay(50_000))
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	unroll(t, op, s, c)
	await(t, ctx, op, "the exit to be seen", func(arktest.Stats) bool { v, _ := op.VTXO(c.at); return v.Unrolled })
	sub := op.Chain().Subscribe(64)
	defer sub.Close()
	for {
		if tx, spent := op.Chain().Spender(c.at); spent {
			if v, _ := op.VTXO(c.at); tx.Txid.String() != v.SpentBy {
				t.Errorf("spent by %s, want the forfeit %s", tx.Txid, v.SpentBy)
			}
			return
		}
		select {
		case <-sub.C():
		case <-ctx.Done():
			t.Fatal("the forfeit does not come")
		}
	}
}

// TestSweep: after its expiry a batch is swept on the chain, what is left of it
// becomes recoverable, and can be renewed without a forfeit.
func TestSweep(t *testing.T) {
	t.Parallel()
	clock := arktest.NewManualClock(time.Unix(1_800_000_000, 0))
	op := start(t, arktest.Config{Clock: clock})
	ctx := deadline(t)
	p := newParty(t, op)
	go drive(ctx, op, clock)
	_, c := boardSeat(t, p, 50_000)
	change := p.send(ctx, c, 10_000, p.vtxoTree().PkScript())
	txs, err := p.ark.GetTransactionsStream(ctx, &arkv1.GetTransactionsStreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := txs.Header(); err != nil {
		t.Fatal(err)
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
	clock.Advance(3 * time.Hour)
	if v, _ := op.VTXO(change.at); v.Swept || !v.Expired(op.Now()) {
		t.Fatalf("before the sweep the coin is %+v", v)
	}
	if err := op.Chain().CatchUp(); err != nil {
		t.Fatal(err)
	}
	op.Sweep()
	await(t, ctx, op, "the sweep", func(arktest.Stats) bool { v, _ := op.VTXO(change.at); return v.Swept })
	for { // hours of heartbeats come first
		n, err := txs.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(n.GetSweepTx().GetSweptVtxos()) > 0 {
			break
		}
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
	out, err := p.settle(ctx, manners{}, []coin{change}, p.pay(40_000))
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	if b, _ := op.Stats().Batch(out.batch); len(b.NeedForfeit) != 0 {
		t.Errorf("%d forfeits were needed", len(b.NeedForfeit))
	}
}
