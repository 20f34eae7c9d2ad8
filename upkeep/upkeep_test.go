package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/upkeep"
)

const now = 1_700_000_000

func newLedger(t *testing.T) *ledger.Ledger {
	t.Helper()
	store := kvtest.NewMemory()
	if err := ledger.Create(t.Context(), store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), store, ledger.Options{Now: func() time.Time { return time.Unix(now, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func key(n byte) bip340.PubKey { return bip340.PubKey{0: 2, 32: n} }

// submit stores delegate n over coin n.
func submit(t *testing.T, l *ledger.Ledger, n int) *delegate.Record {
	t.Helper()
	r := &delegate.Record{
		Kind: delegate.Stock, Network: ark.Regtest, ProofTxid: chainhash.Hash{byte(n), byte(n >> 8), 1}, Owners: []bip340.XOnly{{7}},
		Message: "message", Proof: []byte("proof"), NextAttempt: now + 100, CreatedAt: now, Dust: 330, ForfeitScript: []byte("forfeit"), SignerKey: key(1),
		Inputs: []delegate.Input{{Outpoint: coin(n), Amount: 1000, Script: []byte{byte(n), byte(n >> 8)}, ExpiresAt: now + 10_000, Forfeit: []byte("f")}},
	}
	r.ID = delegate.StockID(r.ProofTxid)
	receipt, err := l.Submit(t.Context(), ledger.Submission{Record: r})
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Record
}

func coin(n int) wire.OutPoint { return wire.OutPoint{Hash: chainhash.Hash{byte(n), byte(n >> 8), 2}} }

// TestRunRepeatsAndStops holds the loop to its times, to going on after an
// error, and to ending with its context.
func TestRunRepeatsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		runs, done := 0, make(chan struct{})
		go func() {
			defer close(done)
			upkeep.Run(ctx, nil, upkeep.Job{Name: "job", Every: time.Minute, Run: func(context.Context) error {
				runs++
				return errors.New("failed")
			}})
		}()
		time.Sleep(10*time.Minute + time.Second) // the bubble's clock
		synctest.Wait()
		if runs < 9 || runs > 10 {
			t.Errorf("%d runs in ten minutes", runs)
		}
		cancel()
		<-done
	})
}

// TestSecretsAreDeletedOnce works rows off although the store fails in between,
// and leaves everything else.
func TestSecretsAreDeletedOnce(t *testing.T) {
	l, store := newLedger(t), secrettest.NewMemory()
	for i := range 300 {
		rec := submit(t, l, i)
		name := fmt.Sprintf("tree-secret.%d", i)
		if err := store.Put(t.Context(), name, secret.New([]byte{1, 2, 3})); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue // still needed
		}
		if _, err := l.Cancel(t.Context(), rec, false, name); err != nil {
			t.Fatal(err)
		}
	}
	work := upkeep.Secrets(l, store)
	store.Fail(secret.ErrUnavailable)
	if err := work(t.Context()); !errors.Is(err, secret.ErrUnavailable) {
		t.Fatalf("with the store down: %v", err)
	}
	store.Fail(nil)
	for range 2 {
		if err := work(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	left, err := store.List(t.Context(), "")
	if err != nil || !slices.Equal(left, []string{"tree-secret.0"}) {
		t.Fatalf("%d secrets left, %v", len(left), err)
	}
	if rows, err := l.SecretGarbage(t.Context(), 10); err != nil || len(rows) != 0 {
		t.Fatalf("rows left: %v, %v", rows, err)
	}
}

// indexer answers for coins.
type indexer struct {
	coins map[wire.OutPoint]ark.VTXO
	asked int
}

func (i *indexer) VTXOs(_ context.Context, outpoints []wire.OutPoint) (list []ark.VTXO, err error) {
	i.asked++
	for _, op := range outpoints {
		if v, ok := i.coins[op]; ok {
			list = append(list, v)
		}
	}
	return list, nil
}

// TestTombstones forgets those whose coins are gone, page by page, and no other.
func TestTombstones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, op := newLedger(t), &indexer{coins: map[wire.OutPoint]ark.VTXO{}}
		const n = 300
		for i := range n {
			if _, err := l.Cancel(t.Context(), submit(t, l, i), false); err != nil {
				t.Fatal(err)
			}
			v := ark.VTXO{Outpoint: coin(i)}
			switch i % 4 {
			case 0:
				v.Spent, v.SettledBy = true, "commitment"
			case 1:
				v.Unrolled = true
			case 3:
				continue // unknown to the operator
			}
			op.coins[v.Outpoint] = v
		}
		if err := upkeep.Tombstones(l, op)(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, _, err := l.Tombstones(t.Context(), n, nil)
		if err != nil || len(left) != n/2 || op.asked != 3 {
			t.Fatalf("%d left of %d, asked %d times, %v", len(left), n, op.asked, err)
		}
		for _, o := range left {
			if v, ok := op.coins[o]; ok && (v.Spent || v.Unrolled) {
				t.Errorf("%s is gone and still buried", o)
			}
		}
	})
}

// announcer tells parameters.
type announcer struct{ params ark.Params }

func (a *announcer) Info(context.Context) (ark.Params, error) { return a.params, nil }

// TestFit changes the operator's forfeit address and back: every waiting record
// says so while it lasts, stays armed, and what is in flight or has ended is
// left alone.
func TestFit(t *testing.T) {
	l := newLedger(t)
	op := &announcer{ark.Params{
		Network: ark.Regtest, SignerKey: key(1), Dust: 330, ForfeitScript: []byte("forfeit"), VtxoMax: -1, Digest: "one",
	}}
	const n = 600 // more than a stint
	for i := range n {
		submit(t, l, i)
	}
	records := func() (list []*delegate.Record) {
		t.Helper()
		if err := l.Each(t.Context(), func(r *delegate.Record) error { list = append(list, r); return nil }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	all := records()
	cancelled, err := l.Cancel(t.Context(), all[0], false)
	if err != nil {
		t.Fatal(err)
	}
	flying, err := l.Transition(t.Context(), all[1], delegate.Ripe, nil)
	if err != nil {
		t.Fatal(err)
	}
	if flying, err = l.Transition(t.Context(), flying, delegate.Register, nil); err != nil {
		t.Fatal(err)
	}
	var told map[string]int
	fit := &upkeep.Fit{
		Records: l, Operator: op, Observe: func(m map[string]int) { told = m }, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(now, 0) },
	}
	run := func(want map[string]int) {
		t.Helper()
		told = nil
		if err := fit.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(told) != len(want) || told[delegate.MisfitForfeit] != want[delegate.MisfitForfeit] {
			t.Fatalf("told %v, want %v", told, want)
		}
	}
	run(map[string]int{})
	versions := records()
	run(nil) // nothing new: nobody is looked at
	op.params.ForfeitScript, op.params.Digest = []byte("another"), "two"
	run(map[string]int{delegate.MisfitForfeit: n - 1})
	for i, r := range records() {
		switch r.ID {
		case cancelled.ID, flying.ID:
			if r.Version != versions[i].Version {
				t.Errorf("%s is %s and was touched", r.ID, r.State)
			}
		default:
			if r.State != delegate.Armed || r.LastError.Code != delegate.MisfitForfeit {
				t.Errorf("%s: %s %q", r.ID, r.State, r.LastError.Code)
			}
		}
	}
	op.params.ForfeitScript, op.params.Digest = []byte("forfeit"), "three"
	run(map[string]int{})
	for _, r := range records() {
		if r.LastError.Code != "" {
			t.Errorf("%s still says %q", r.ID, r.LastError.Code)
		}
	}
}

// TestFitLeavesOtherFailures keeps what went wrong for another reason.
func TestFitLeavesOtherFailures(t *testing.T) {
	l := newLedger(t)
	rec, err := l.Transition(t.Context(), submit(t, l, 1), delegate.Note, func(r *delegate.Record) { r.Fail("BATCH_FAILED", "another failure", now) })
	if err != nil {
		t.Fatal(err)
	}
	op := &announcer{ark.Params{Network: ark.Regtest, SignerKey: key(1), Dust: 330, ForfeitScript: []byte("forfeit"), VtxoMax: -1, Digest: "one"}}
	fit := &upkeep.Fit{Records: l, Operator: op, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(now, 0) }}
	if err := fit.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Delegate(t.Context(), rec.ID); err != nil || got.LastError.Code != "BATCH_FAILED" || got.Version != rec.Version {
		t.Fatalf("%+v, %v", got.LastError, err)
	}
}

// TestFitHoldsAttemptsToTheClock: what a clock that ran ahead put off for longer
// than anything waits is due now; what waits as it should is left alone, and so is
// who waits for a far valid_at.
func TestFitHoldsAttemptsToTheClock(t *testing.T) {
	l := newLedger(t)
	op := &announcer{ark.Params{Network: ark.Regtest, SignerKey: key(1), Dust: 330, ForfeitScript: []byte("forfeit"), VtxoMax: -1, Digest: "one"}}
	hurried := 0
	fit := &upkeep.Fit{
		Records: l, Operator: op, Hurry: func() { hurried++ }, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(now, 0) },
	}
	due := func(n int, next int64) vigil.DelegateID {
		rec, err := l.Transition(t.Context(), submit(t, l, n), delegate.Ripe, func(r *delegate.Record) {
			r.NextAttempt = next
			r.Fail("OPERATOR_NOT_YET", "not yet", now)
		})
		if err != nil {
			t.Fatal(err)
		}
		return rec.ID
	}
	next := func(id vigil.DelegateID) int64 {
		rec, err := l.Delegate(t.Context(), id)
		if err != nil || rec.LastError.Code != "OPERATOR_NOT_YET" {
			t.Fatalf("%+v, %v", rec, err)
		}
		return rec.NextAttempt
	}
	far, waits := due(1, now+delegate.LongestPause+1), due(2, now+delegate.LongestPause)
	armed, err := l.Transition(t.Context(), submit(t, l, 3), delegate.Note, func(r *delegate.Record) { r.NextAttempt = now + 10*delegate.LongestPause })
	if err != nil {
		t.Fatal(err)
	}
	if err := fit.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next(far) != now || next(waits) != now+delegate.LongestPause || hurried != 1 {
		t.Fatalf("attempts at %d and %d after now; hurried %d times", next(far)-now, next(waits)-now, hurried)
	}
	if got, err := l.Delegate(t.Context(), armed.ID); err != nil || got.Version != armed.Version {
		t.Fatalf("an armed delegate was touched: %+v, %v", got, err)
	}
	later := due(4, now+9*delegate.LongestPause)
	for _, want := range []int64{now + 9*delegate.LongestPause, now} { // nothing new; then the clock was set back
		if err := fit.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := next(later); got != want {
			t.Fatalf("the next attempt is %d s after now, want %d", got-now, want-now)
		}
		fit.Again()
	}
	if hurried != 2 {
		t.Fatalf("hurried %d times", hurried)
	}
}

// prunable counts pages.
type prunable struct{ left, asked int }

func (p *prunable) Prune(_ context.Context, before time.Time, limit int) (int, error) {
	if before.Unix() != now-3600 {
		return 0, fmt.Errorf("before %d", before.Unix())
	}
	p.asked++
	n := min(p.left, limit)
	p.left -= n
	return n, nil
}

func TestPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &prunable{left: 300}
		if err := upkeep.Prune(p, time.Hour, func() time.Time { return time.Unix(now, 0) })(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.left != 0 || p.asked != 3 {
			t.Fatalf("%d left after %d pages", p.left, p.asked)
		}
	})
}

// racing moves a record just before the first note is written.
type racing struct {
	*ledger.Ledger
	t    *testing.T
	rec  *delegate.Record
	once bool
}

func (r *racing) Apply(ctx context.Context, changes ...ledger.Change) ([]ledger.Outcome, error) {
	if !r.once {
		r.once = true
		if _, err := r.Transition(ctx, r.rec, delegate.Note, func(n *delegate.Record) { n.Attempts = 7 }); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.Ledger.Apply(ctx, changes...)
}

// TestFitLooksAgain notes a misfit also in a record that was moved meanwhile,
// and counts it once.
func TestFitLooksAgain(t *testing.T) {
	l := newLedger(t)
	rec := submit(t, l, 1)
	submit(t, l, 2)
	op := &announcer{ark.Params{Network: ark.Regtest, SignerKey: key(1), Dust: 331, ForfeitScript: []byte("forfeit"), VtxoMax: -1, Digest: "one"}}
	var told map[string]int
	fit := &upkeep.Fit{
		Records: &racing{Ledger: l, t: t, rec: rec}, Operator: op, Observe: func(m map[string]int) { told = m },
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(now, 0) },
	}
	if err := fit.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := l.Delegate(t.Context(), rec.ID)
	if err != nil || got.Attempts != 7 || got.LastError.Code != delegate.MisfitDust || told[delegate.MisfitDust] != 2 {
		t.Fatalf("%+v, %v, told %v", got, err, told)
	}
}
