package arktest_test

import (
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
)

// TestMint: minted coins are as good as others: renewed, spent on, unrolled.
func TestMint(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{NoEsplora: true})
	ctx := deadline(t)
	p := newParty(t, op)
	tree := p.vtxoTree()
	outs := make([]*wire.TxOut, 450)
	for i := range outs {
		outs[i] = &wire.TxOut{Value: int64(1000 + i), PkScript: tree.PkScript()}
	}
	made, err := op.Mint(outs...)
	if err != nil || len(made) != len(outs) {
		t.Fatalf("%d coins (%v)", len(made), err)
	}
	at := func(i int) coin { return coin{at: made[i], out: outs[i], tree: tree, key: p.key} }
	if v, ok := op.VTXO(made[449]); !ok || v.Amount != 1449 || v.Spent {
		t.Errorf("the last coin is %+v", v)
	}
	out, err := p.settle(ctx, manners{}, []coin{at(0), at(300)}, p.pay(2300))
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	p.send(ctx, at(7), 400, p.vtxoTree().PkScript())
}

// TestManyRenewals: several full batches of one delegate key; what the operator
// needs for one is reported by -v.
func TestManyRenewals(t *testing.T) {
	if testing.Short() {
		t.Skip("renews hundreds of coins")
	}
	t.Parallel()
	const n, batches = 64, 3
	clock := arktest.NewManualClock(time.Unix(1_800_000_000, 0))
	op := start(t, arktest.Config{Clock: clock, NoEsplora: true, Settings: arktest.Settings{MinParticipants: n, MaxParticipants: n}})
	ctx := deadline(t)
	p := newParty(t, op)
	tree := p.vtxoTree()
	outs := make([]*wire.TxOut, n*batches)
	for i := range outs {
		outs[i] = p.pay(5000)
	}
	made, err := op.Mint(outs...)
	if err != nil {
		t.Fatal(err)
	}
	topics := []string{hexKey(p.cosigner)}
	for _, at := range made {
		topics = append(topics, at.String())
	}
	s := p.listen(ctx, nil, topics)
	for i, at := range made {
		c := coin{at: at, out: outs[i], tree: tree, key: p.key}
		s.coins = append(s.coins, c)
		s.ids = append(s.ids, p.mustRegister(p.proof(p.message(), []coin{c}, outs[i])))
	}
	if got := len(op.Stats().Queue); got != n*batches {
		t.Fatalf("%d queued", got)
	}
	begun := time.Now()
	for i := range batches {
		await(t, ctx, op, "a round", func(s arktest.Stats) bool { return s.Phase == arktest.PhaseRegistration })
		clock.Advance(2 * time.Second)
		out, err := s.play(ctx)
		if err != nil || out.failed != "" {
			t.Fatalf("batch %d: %v, %q", i, err, out.failed)
		}
		s.signing = false
	}
	t.Logf("%d coins in %v, the participant's work included", n*batches, time.Since(begun))
	if got := len(op.Stats().Finalized()); got != batches {
		t.Errorf("%d batches, want %d", got, batches)
	}
}
