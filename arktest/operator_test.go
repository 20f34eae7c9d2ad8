package arktest_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil/arktest"
)

// TestMain lets more tests wait at a time than there are cores: they wait for
// the clock, not for the processor.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "12")
	}
	goleak.VerifyTestMain(m)
}

// deadline ends what hangs; under the race detector curve arithmetic is some
// twenty times slower.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// minimum changes how many participants a batch wants, and waits for a round
// that knows it: a running one keeps what it began with.
func minimum(t *testing.T, ctx context.Context, op *arktest.Operator, n int) {
	t.Helper()
	if err := op.Update(func(s *arktest.Settings) { s.MinParticipants = n }); err != nil {
		t.Fatal(err)
	}
	old := op.Stats().RoundID
	if err := op.Await(ctx, func(s arktest.Stats) bool { return s.RoundID != old && s.Phase == arktest.PhaseRegistration }); err != nil {
		t.Fatal(err)
	}
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

// drive moves a manual clock on after every registration, so that a batch
// begins.
func drive(ctx context.Context, op *arktest.Operator, clock *arktest.ManualClock) {
	for n := 1; ; n++ {
		err := op.Await(ctx, func(s arktest.Stats) bool { return s.Registered >= n && s.Phase == arktest.PhaseRegistration })
		if err != nil {
			return
		}
		clock.WaitTimers(1)
		clock.Advance(2 * time.Second)
	}
}

// TestManualClock: nothing happens until the clock is moved.
func TestManualClock(t *testing.T) {
	t.Parallel()
	clock := arktest.NewManualClock(time.Unix(1_800_000_000, 0))
	op := start(t, arktest.Config{Clock: clock})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.fund(50_000)
	s := p.sit(ctx, []coin{c})
	s.ids = []string{p.mustRegister(p.proof(p.message(), []coin{c}, p.pay(50_000)))}
	if n := len(op.Stats().Batches); n != 0 {
		t.Fatalf("%d batches without time", n)
	}
	clock.Advance(10 * time.Second / 6)
	out, err := s.play(ctx) // every phase ends early
	if err != nil || out.txid == "" {
		t.Fatal(err, out.failed)
	}
	if !op.Now().Equal(time.Unix(1_800_000_000, 0).Add(10 * time.Second / 6)) {
		t.Errorf("the clock shows %v", op.Now())
	}
}
