package arktest_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil/arktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestBoardAndRenew(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 100_000)
	out, err := p.settle(ctx, manners{}, []coin{c}, p.pay(100_000))
	if err != nil || out.failed != "" || len(out.made) != 1 {
		t.Fatalf("renewal: %v, %q, %d coins", err, out.failed, len(out.made))
	}
	old, _ := op.VTXO(c.at)
	if !old.Spent || old.SettledBy != out.txid || old.SpentBy == "" {
		t.Errorf("the old coin is %+v", old)
	}
	made, ok := op.VTXO(out.made[0].at)
	if !ok || made.Spent || made.Amount != 100_000 || len(made.Commitments) != 1 || made.Commitments[0] != out.txid {
		t.Errorf("the new coin is %+v", made)
	}
	if got := len(op.Stats().Finalized()); got != 2 {
		t.Errorf("%d batches finalized, want 2", got)
	}
	if n, ok := op.Chain().Confirmations(made.Outpoint.Hash); ok {
		t.Errorf("a virtual transaction is on the chain, %d deep", n)
	}
}
