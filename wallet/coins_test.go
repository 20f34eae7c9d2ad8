package wallet_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/vigilpb"
)

func (d *device) coverage() *vigilpb.CoverageAnswer {
	d.t.Helper()
	a, err := carry(d.w, d.as(-1, "Coverage"), func(ctx context.Context, c auth.Call) (*vigilpb.CoverageAnswer, error) {
		return d.w.service.Coverage(ctx, c, &vigilpb.CoverageRequest{})
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

// Coverage is never later than what is known, and says how old that is.
func TestCoverageSaysUntilWhenAndHowOld(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if c := d.coverage(); c.GetCoveredUntil() != 0 || c.GetHasActiveDelegate() || c.GetLastSafeExit() != 0 {
		t.Fatalf("of an empty wallet: %v", c)
	}
	w.clock.add(time.Minute)
	v := d.coin(100_000)
	c := d.coverage()
	life := v.ExpiresAt - v.CreatedAt
	if c.GetCoveredUntil() != v.ExpiresAt || len(c.GetUncovered()) != 1 || c.GetHasActiveDelegate() || c.GetLastSafeExit() != v.ExpiresAt-min(day, life/10) {
		t.Fatalf("of a bare coin: %v", c)
	}
	if _, err := d.delegate(validAt, v); err != nil {
		t.Fatal(err)
	}
	c = d.coverage()
	if c.GetCoveredUntil() <= v.ExpiresAt || len(c.GetUncovered()) != 0 || !c.GetHasActiveDelegate() {
		t.Fatalf("of a delegated coin: %v", c)
	}
	// A dust coin without a delegate: the wallet is as safe as its least coin.
	w.clock.add(time.Minute)
	dust := d.coin(330)
	if c = d.coverage(); c.GetCoveredUntil() != dust.ExpiresAt {
		t.Fatalf("with dust: %v", c)
	}
	// The operator is down: the same, and its age.
	known := w.clock.now().Unix()
	w.op.set(func(o *fakeOperator) { o.down = errors.New("down") })
	w.clock.add(time.Hour)
	if c = d.coverage(); c.GetKnownAt() != known || c.GetCoveredUntil() != dust.ExpiresAt {
		t.Fatalf("from memory: %v", c)
	}
	// Expired coins are at the operator's mercy, whatever was signed.
	w.op.set(func(o *fakeOperator) { o.down = nil })
	w.clock.add(30 * 24 * time.Hour)
	if c = d.coverage(); c.GetCoveredUntil() != 0 || c.GetLastSafeExit() != 0 {
		t.Fatalf("of expired coins: %v", c)
	}
	a, err := d.list()
	if err != nil || a.GetVtxos()[0].GetState() != "recoverable" {
		t.Fatalf("%v, %v", a, err)
	}
}

// A stranger's dust, which nobody can renew alone, makes no covered wallet look
// bare: it is told apart. As much of it as could be renewed together is money, and
// counts, and so does all of it where nobody knows what dust is.
func TestDustIsToldApart(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	if _, err := d.delegate(validAt, v); err != nil {
		t.Fatal(err)
	}
	small := func(sats int64) ark.VTXO {
		coin := d.coin(sats)
		coin.Swept = true // as the operator keeps what is below dust
		w.op.set(func(o *fakeOperator) { o.coins[coin.Outpoint] = coin })
		w.clock.add(time.Minute)
		return coin
	}
	first := small(1)
	c := d.coverage()
	safe := c.GetCoveredUntil()
	if safe <= v.ExpiresAt || len(c.GetUncovered()) != 0 || !slices.Equal(c.GetDust(), []string{first.Outpoint.String()}) {
		t.Fatalf("with a stranger's dust: %v", c)
	}
	small(328)
	if c = d.coverage(); c.GetCoveredUntil() != safe || len(c.GetDust()) != 2 || len(c.GetUncovered()) != 0 {
		t.Fatalf("with 329 sats of it: %v", c)
	}
	last := small(1)
	if c = d.coverage(); c.GetCoveredUntil() != 0 || len(c.GetDust()) != 0 || len(c.GetUncovered()) != 3 {
		t.Fatalf("with 330 sats of it: %v", c)
	}
	// A batch takes more for it than it is worth.
	w.op.set(func(o *fakeOperator) { o.params.Fees.OffchainInput = "1.0" })
	w.clock.add(2 * time.Minute)
	if c = d.coverage(); c.GetCoveredUntil() != safe || len(c.GetDust()) != 3 {
		t.Fatalf("with a fee for each: %v", c)
	}
	w.op.set(func(o *fakeOperator) { o.params.Fees.OffchainInput = "0.0" })
	w.clock.add(2 * time.Minute)
	if c = d.coverage(); c.GetCoveredUntil() != 0 {
		t.Fatalf("without it: %v", c)
	}
	w.op.set(func(o *fakeOperator) { o.down = errors.New("down") })
	last.Spent = true
	if c = d.coverage(); c.GetCoveredUntil() != 0 || len(c.GetDust()) != 0 {
		t.Fatalf("while nobody knows what dust is: %v", c)
	}
	w.op.set(func(o *fakeOperator) { o.down, o.coins[last.Outpoint] = nil, last })
	w.clock.add(2 * time.Minute)
	if c = d.coverage(); c.GetCoveredUntil() != safe || len(c.GetDust()) != 2 {
		t.Fatalf("with 329 sats again: %v", c)
	}
	// An operator that calls money dust makes no bare coin look safe.
	bare := d.coin(50_000)
	w.op.set(func(o *fakeOperator) { o.params.Dust = 100_000 })
	w.clock.add(2 * time.Minute)
	c = d.coverage()
	if c.GetCoveredUntil() != bare.ExpiresAt || !slices.Contains(c.GetUncovered(), bare.Outpoint.String()) || slices.Contains(c.GetDust(), bare.Outpoint.String()) {
		t.Fatalf("with money called dust: %v", c)
	}
}

// A coin at the two-leaf script is the wallet's, and cannot be had without Vigil.
func TestATwoLeafCoinIsListedAndMarked(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	v.Script = d.desc.TwoLeaf().PkScript()
	w.op.set(func(o *fakeOperator) { o.coins[v.Outpoint] = v })
	a, err := d.list()
	if err != nil || len(a.GetVtxos()) != 1 || a.GetVtxos()[0].GetRecoverableWithoutVigil() {
		t.Fatalf("%v, %v", a, err)
	}
}

// A coin that is spent by nothing that Vigil signed is told as foreign; one that
// the group signed away is not.
func TestASpendThatVigilHadNoPartInIsForeign(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	ours, theirs := d.coin(100_000), d.coin(50_000)
	if _, err := d.list(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.sign(both(), d.renewal(ours)); err != nil {
		t.Fatal(err)
	}
	watch, err := w.hub.Watch(t.Context(), d.id, d.identity.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	ours.Spent, theirs.Spent = true, true
	w.op.set(func(o *fakeOperator) { o.coins[ours.Outpoint], o.coins[theirs.Outpoint] = ours, theirs })
	w.clock.add(time.Hour)
	if err := w.local().Round(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	told := map[string]notify.Kind{}
	for range 2 {
		e := <-watch.C()
		told[e.Outpoints[0]] = e.Kind
	}
	if told[ours.Outpoint.String()] != notify.Sent || told[theirs.Outpoint.String()] != notify.ForeignIntent {
		t.Fatalf("told %v", told)
	}
}

// A device that missed the word of a bare coin is woken again, at every round once the
// coin is past half of its life: not for coins that are covered, young or dust.
func TestABareCoinWakesItsDeviceAgain(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	bare, covered := d.coin(100_000), d.coin(50_000)
	bare.ExpiresAt = w.clock.now().Unix() + 40*day
	d.coin(10) // dust
	w.op.set(func(o *fakeOperator) { o.coins[bare.Outpoint] = bare })
	if _, err := d.delegate(validAt, covered); err != nil {
		t.Fatal(err)
	}
	if _, err := d.list(); err != nil {
		t.Fatal(err)
	}
	watch, err := w.hub.Watch(t.Context(), d.id, d.identity.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	round := func(after time.Duration) (told []notify.Event) {
		t.Helper()
		w.clock.add(after)
		if err := w.local().Round(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		for {
			select {
			case e := <-watch.C():
				told = append(told, e)
			default:
				return told
			}
		}
	}
	if told := round(6 * time.Hour); len(told) != 0 {
		t.Fatalf("of a young coin: %+v", told)
	}
	w.op.set(func(o *fakeOperator) { // renewed by then, as far as this goes
		v := covered
		v.ExpiresAt = bare.ExpiresAt
		o.coins[covered.Outpoint] = v
	})
	for i, after := range []time.Duration{20 * 24 * time.Hour, 6 * time.Hour, 40 * 24 * time.Hour} {
		told := round(after)
		left := max(bare.ExpiresAt-w.clock.now().Unix(), 0)
		if len(told) != 1 || told[0].Kind != notify.Uncovered || !slices.Equal(told[0].Outpoints, []string{bare.Outpoint.String()}) || told[0].TimeLeft != left {
			t.Fatalf("round %d: %+v, want %d s left", i, told, left)
		}
	}
}

// A clock that ran ahead for a moment keeps no wallet from being looked at.
func TestARoundBelievesNoClockThatRanAhead(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	coin := d.coin(100_000)
	w.clock.add(48 * time.Hour)
	if _, err := d.list(); err != nil {
		t.Fatal(err)
	}
	w.clock.add(-48 * time.Hour)
	watch, err := w.hub.Watch(t.Context(), d.id, d.identity.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	coin.Spent = true
	w.op.set(func(o *fakeOperator) { o.coins[coin.Outpoint] = coin })
	if err := w.local().Round(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-watch.C():
		if e.Kind != notify.ForeignIntent {
			t.Fatalf("told %+v", e)
		}
	default:
		t.Fatal("nobody was told of a coin that was spent")
	}
}

// What happens to delegates is told with the time left, and once.
func TestWhatTheEngineDoesIsTold(t *testing.T) {
	w := newWorld(t)
	id := vigil.WalletID{1}
	watch, err := w.hub.Watch(t.Context(), id, key(t, 9).PubKey())
	if err != nil {
		t.Fatal(err)
	}
	rec := func(state delegate.State, code string) *delegate.Record {
		return &delegate.Record{ID: vigil.DelegateID{2}, Kind: delegate.Wallet, Wallet: id, State: state, LastError: delegate.Failure{Code: code, Text: "because"},
			Inputs: []delegate.Input{{ExpiresAt: start + 500}}}
	}
	stock := rec(delegate.Settled, "")
	stock.Kind = delegate.Stock
	for _, c := range []struct {
		prev, next *delegate.Record
		want       notify.Kind
	}{
		{nil, stock, ""},
		{nil, rec(delegate.Settled, ""), notify.Renewed},
		{nil, rec(delegate.Broken, ""), notify.Unrolled},
		{nil, rec(delegate.Spent, ""), notify.Uncovered},
		{nil, rec(delegate.Quarantined, "RECORD_DAMAGED"), notify.Failed},
		{nil, rec(delegate.Due, "VTXO_BANNED"), notify.Banned},
		{nil, rec(delegate.Registering, "INTENT_HELD_ELSEWHERE"), notify.ForeignIntent},
		{nil, rec(delegate.Due, "BATCH_FAILED"), notify.Failed},
		{nil, rec(delegate.Due, delegate.Misfits()[0]), notify.OperatorChanged},
		{nil, rec(delegate.Due, "OPERATOR_UNAVAILABLE"), ""},
		{rec(delegate.Due, "BATCH_FAILED"), rec(delegate.Due, "BATCH_FAILED"), ""},
		{rec(delegate.Joining, "BATCH_FAILED"), rec(delegate.Due, "BATCH_FAILED"), ""},
		{nil, rec(delegate.Cancelled, ""), ""},
	} {
		w.local().Moved(c.prev, c.next)
		w.hub.Publish(id, notify.Event{Kind: "mark"})
		e := <-watch.C()
		if e.Kind == "mark" {
			if c.want != "" {
				t.Errorf("%s %s: nothing is told, want %s", c.next.State, c.next.LastError.Code, c.want)
			}
			continue
		}
		if e.Kind != c.want || e.Delegate != c.next.ID || e.Kind != notify.Renewed && e.TimeLeft != 500 {
			t.Errorf("%s %s: told %+v, want %s", c.next.State, c.next.LastError.Code, e, c.want)
		}
		<-watch.C()
	}
	watch.Close()
}

func TestHistoryPagesAndExitDataIsMarked(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	for range 3 {
		d.coin(10_000)
		w.clock.add(time.Minute)
		if _, err := d.list(); err != nil {
			t.Fatal(err)
		}
	}
	var from []byte
	for page := range 2 {
		a, err := carry(w, d.as(-1, "History"), func(ctx context.Context, c auth.Call) (*vigilpb.HistoryAnswer, error) {
			return w.service.History(ctx, c, &vigilpb.HistoryRequest{From: from, Limit: 2})
		})
		if err != nil || len(a.GetEntries()) != 2-page || (len(a.GetNext()) == 0) != (page == 1) {
			t.Fatalf("page %d: %v, %v", page, a, err)
		}
		from = a.GetNext()
	}
	a, err := d.list()
	if err != nil {
		t.Fatal(err)
	}
	coin := a.GetVtxos()[0].GetOutpoint()
	_, err = carry(w, d.as(-1, "AcknowledgeBranches"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeBranchesAnswer, error) {
		return w.service.AcknowledgeBranches(ctx, c, &vigilpb.AcknowledgeBranchesRequest{Outpoints: []string{coin}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, err = d.list(); err != nil || !a.GetVtxos()[0].GetExitDataOnDevice() {
		t.Fatalf("%v, %v", a, err)
	}
	_, err = carry(w, d.as(-1, "AcknowledgeBranches"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeBranchesAnswer, error) {
		return w.service.AcknowledgeBranches(ctx, c, &vigilpb.AcknowledgeBranchesRequest{Outpoints: []string{"nonsense"}})
	})
	refusedWith(t, err, vigil.CodeMalformed)
}
