package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// told is a line of history in short.
func told(e ledger.Entry) string {
	return fmt.Sprintf("%s %d/%d in %d out %d at %d", e.Type, e.Amount, e.Fee, len(e.Inputs), len(e.Leaves), e.At-start)
}

func (x *town) wantLines(w int, want ...string) {
	x.t.Helper()
	var got []string
	for _, e := range x.lines(w) {
		got = append(got, told(e))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		x.t.Errorf("history:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	x.clean()
}

func (x *town) holding(w, v int) *ledger.Holding {
	x.t.Helper()
	all, err := x.l.VTXOsOf(x.t.Context(), walletID(w))
	x.must(err)
	for i := range all {
		if all[i].Outpoint == outpoint(v) {
			return &all[i]
		}
	}
	return nil
}

// spentIn is a coin that went in a transaction of that number.
func spentIn(v ark.VTXO, tx byte) ark.VTXO {
	v.Spent, v.ArkTxid, v.SpentBy = true, chainhash.Hash{tx, 0xaa}.String(), "checkpoint"
	return v
}

// from is a coin that transaction tx made.
func from(v ark.VTXO, tx byte) ark.VTXO {
	v.Outpoint.Hash = chainhash.Hash{tx, 0xaa}
	return v
}

func inBatch(v ark.VTXO, commitment byte) ark.VTXO {
	v.Preconfirmed, v.CommitmentTxs = false, []chainhash.Hash{{commitment, 0xba}}
	return v
}

func settledBy(v ark.VTXO, commitment byte) ark.VTXO {
	v.Spent, v.SettledBy, v.SpentBy = true, chainhash.Hash{commitment, 0xba}.String(), "forfeit"
	return v
}

func TestSyncTellsWhatCameAndWent(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x := newTown(t, store)
			x.create(1)
			x.create(2)
			a, b, foreign := coin(1, 1), inBatch(coin(1, 2), 7), coin(2, 3)
			s := x.sync(1, a, b, foreign)
			if len(s.New) != 2 || len(s.Gone) != 0 || s.Wallet.SyncedAt != x.at {
				t.Fatalf("%+v", s)
			}
			want := []string{"receive 1000/0 in 0 out 1 at 0", "receive 1000/0 in 0 out 1 at 0"}
			x.wantLines(1, want...)
			x.wantLines(2)
			if s := x.sync(1, a, b); len(s.New)+len(s.Gone)+len(s.Ended) != 0 {
				t.Fatalf("the same again: %+v", s)
			}
			x.wantLines(1, want...)
			// A payment with change.
			x.at += 10
			change := from(coin(1, 4), 9)
			change.Amount = 400
			s = x.sync(1, spentIn(a, 9), b, change)
			if len(s.Gone) != 1 || s.Gone[0].Outpoint != a.Outpoint || len(s.New) != 1 {
				t.Fatalf("%+v", s)
			}
			want = append(want, "send 600/0 in 1 out 1 at 10")
			x.wantLines(1, want...)
			// Renewed by the device itself, in a batch.
			x.at += 10
			fresh := inBatch(coin(1, 5), 8)
			fresh.Amount = 1390
			x.sync(1, spentIn(a, 9), settledBy(b, 8), settledBy(change, 8), fresh)
			want = append(want, "settle 1400/10 in 2 out 1 at 20")
			x.wantLines(1, want...)
			// Somebody unrolls it.
			x.at += 10
			fresh.Unrolled = true
			x.sync(1, fresh)
			x.wantLines(1, append(want, "unroll 1390/0 in 1 out 0 at 30")...)
			if h := x.holding(1, 5); h.Fate != ledger.Unrolled {
				t.Fatalf("%+v", h)
			}
			if _, err := x.l.PutVTXOs(t.Context(), walletID(9), nil); !errors.Is(err, ledger.ErrNotFound) {
				t.Fatal(err)
			}
		})
	}
}

// TestAnExitIsNoFee: what an intent of the wallet's paid on chain is told as that, once
// exactly what it left came back; and what became of the coins otherwise, as always.
func TestAnExitIsNoFee(t *testing.T) {
	leaving := func(x *town, paid, staying int64, coins ...ark.VTXO) {
		x.t.Helper()
		l := ledger.Leaving{Paid: paid, Staying: staying}
		for _, v := range append(coins, coin(1, 99)) { // and one that nobody knows yet
			l.Inputs = append(l.Inputs, v.Outpoint)
		}
		x.must(x.l.Decide(t.Context(), walletID(1), 0, func(ledger.Spending) (ledger.Verdict, error) {
			return ledger.Verdict{Leaves: []ledger.Leaving{l}}, nil
		}))
	}
	for name, c := range map[string]struct {
		paid, staying, back int64
		want                string
	}{
		"part":                  {700, 290, 290, "exit 700/10 in 1 out 1 at 10"},
		"all":                   {1000, 0, 0, "exit 1000/0 in 1 out 0 at 10"},
		"all but the fee":       {950, 0, 0, "exit 950/50 in 1 out 0 at 10"},
		"renewed instead":       {700, 290, 990, "settle 1000/10 in 1 out 1 at 10"},
		"more than there was":   {1001, 290, 290, "settle 1000/710 in 1 out 1 at 10"},
		"left by another share": {700, 290, 280, "settle 1000/720 in 1 out 1 at 10"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTown(t, nil)
			x.create(1)
			a := inBatch(coin(1, 1), 7)
			x.sync(1, a)
			leaving(x, 1, 2, a) // an attempt before
			leaving(x, c.paid, c.staying, a)
			x.reopen()
			x.at += 10
			seen := []ark.VTXO{settledBy(a, 8)}
			if c.back > 0 {
				rest := inBatch(coin(1, 5), 8)
				rest.Amount = c.back
				seen = append(seen, rest)
			}
			x.sync(1, seen...)
			x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", c.want)
		})
	}
}

// TestSyncLearnsInPieces: what is learned later of a transaction that is told of
// goes into the same line.
func TestSyncLearnsInPieces(t *testing.T) {
	x := newTown(t, nil)
	x.create(1)
	a, change := coin(1, 1), from(coin(1, 4), 9)
	change.Amount = 400
	x.sync(1, a)
	x.at += 10
	x.sync(1, change)
	x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", "receive 400/0 in 0 out 1 at 10")
	x.at += 10
	x.sync(1, spentIn(a, 9))
	x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", "send 600/0 in 1 out 1 at 10")
	// The operator names another transaction, or takes its word back.
	x.at += 10
	x.sync(1, spentIn(a, 11))
	x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", "receive 400/0 in 0 out 1 at 10", "send 1000/0 in 1 out 0 at 30")
	x.at += 10
	x.sync(1, a)
	x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", "receive 400/0 in 0 out 1 at 10")
	if h := x.holding(1, 1); h.Fate != ledger.Unspent || h.SpentBy != "" {
		t.Fatalf("%+v", h)
	}
	x.sync(1, spentIn(a, 9))
	x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", "send 600/0 in 1 out 1 at 10")
}

// TestCoinMovesToAnotherLine when the operator says that another batch made it.
func TestCoinMovesToAnotherLine(t *testing.T) {
	x := newTown(t, nil)
	x.create(1)
	a, b := inBatch(coin(1, 1), 7), inBatch(coin(1, 2), 7)
	x.sync(1, a, b)
	x.wantLines(1, "receive 2000/0 in 0 out 2 at 0")
	x.at += 10
	x.sync(1, a, inBatch(b, 8))
	x.wantLines(1, "receive 1000/0 in 0 out 1 at 0", "receive 1000/0 in 0 out 1 at 10")
	x.at += 10
	x.sync(1, a, b)
	x.wantLines(1, "receive 2000/0 in 0 out 2 at 0")
}

// TestSyncEndsDelegates over what is gone, uncovers the rest of theirs, and leaves
// to the engine what its own renewal may have spent.
func TestSyncEndsDelegates(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.sync(1, coin(1, 1), coin(1, 2), coin(1, 3), coin(1, 4))
	x.submit(1, 1, 1, 2)
	s := x.sync(1, spentIn(coin(1, 1), 9))
	if len(s.Ended) != 1 || s.Ended[0].ID != delegateID(1) || s.Ended[0].State != delegate.Spent {
		t.Fatalf("%+v", s)
	}
	if h := x.holding(1, 2); h.Cover != (vigil.DelegateID{}) || h.Fate != ledger.Unspent {
		t.Fatalf("%+v", h)
	}
	x.clean()
	broken := x.submit(1, 2, 2)
	unrolled := coin(1, 2)
	unrolled.Unrolled = true
	if s := x.sync(1, unrolled); len(s.Ended) != 1 || s.Ended[0].State != delegate.Broken || s.Ended[0].ID != broken.ID {
		t.Fatalf("%+v", s)
	}
	x.clean()
	// In flight: left, also when it is due again and still watches a commitment.
	flying := x.drive(x.submit(1, 3, 3), toCommitment...)
	gone := coin(1, 3)
	gone.Spent, gone.SettledBy = true, flying.Commitment.String()
	left := func(state delegate.State) {
		t.Helper()
		s := x.sync(1, gone)
		if len(s.Left) != 1 || len(s.Ended)+len(s.Gone) != 0 {
			t.Fatalf("%+v", s)
		}
		if r, err := x.l.Delegate(ctx, flying.ID); err != nil || r.State != state {
			t.Fatal(r, err)
		}
		if h := x.holding(1, 3); h.Fate != ledger.Unspent || h.Cover != flying.ID {
			t.Fatalf("%+v", h)
		}
		x.clean()
	}
	left(delegate.Unconfirmed)
	flying = x.drive(flying, delegate.Conflict)
	left(delegate.Due)
	// While it is in flight, whatever it is that spent the coin.
	queued := x.drive(x.submit(1, 4, 4), delegate.Ripe, delegate.Register)
	if s := x.sync(1, spentIn(coin(1, 4), 13)); len(s.Left) != 1 || len(s.Ended)+len(s.Gone) != 0 {
		t.Fatalf("%+v", s)
	}
	if r, err := x.l.Delegate(ctx, queued.ID); err != nil || r.State != delegate.Registering {
		t.Fatal(r, err)
	}
	// Spent by something else, it ends.
	if s := x.sync(1, spentIn(coin(1, 3), 12)); len(s.Ended) != 1 || s.Ended[0].State != delegate.Spent {
		t.Fatalf("%+v", s)
	}
	x.clean()
}

// TestRenewalIsToldOnce: Settle's line tells of a renewal, in whatever order the
// indexer and the chain are heard.
func TestRenewalIsToldOnce(t *testing.T) {
	leaf := func(r *delegate.Record) ark.VTXO {
		v := coin(1, 0)
		v.Outpoint, v.Amount, v.Preconfirmed, v.CommitmentTxs = leafOf(r), 990, false, []chainhash.Hash{r.Commitment}
		return v
	}
	gone := func(r *delegate.Record) ark.VTXO {
		v := coin(1, 1)
		v.Spent, v.SettledBy = true, r.Commitment.String()
		return v
	}
	const renewal = "settle 1000/10 in 1 out 1 at 20"
	for name, order := range map[string]func(x *town, r *delegate.Record) *delegate.Record{
		"settled first": func(x *town, r *delegate.Record) *delegate.Record {
			x.at += 20
			r = x.drive(r, delegate.Confirmed)
			x.sync(1, gone(r), leaf(r))
			return r
		},
		"seen first": func(x *town, r *delegate.Record) *delegate.Record {
			x.at += 10
			x.sync(1, gone(r), leaf(r))
			x.wantLines(1, "receive 1000/0 in 0 out 1 at 0")
			x.at += 10
			return x.drive(r, delegate.Confirmed)
		},
		"seen while it seemed to have failed": func(x *town, r *delegate.Record) *delegate.Record {
			c := r.Commitment
			r = x.drive(r, delegate.Conflict)
			r.Commitment = c
			x.at += 10
			x.sync(1, gone(r), leaf(r))
			x.wantLines(1, "receive 1000/0 in 0 out 1 at 0")
			late, err := x.l.Transition(x.t.Context(), r, delegate.Late, func(r *delegate.Record) { r.Commitment = c })
			x.must(err)
			x.at += 10
			return x.drive(late, delegate.Confirmed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTown(t, nil)
			x.create(1)
			x.sync(1, coin(1, 1))
			r := order(x, x.drive(x.submit(1, 1, 1), toCommitment...))
			want := []string{"receive 1000/0 in 0 out 1 at 0", renewal}
			x.wantLines(1, want...)
			x.at += 10
			x.sync(1, gone(r), leaf(r))
			x.wantLines(1, want...)
			all, err := x.l.VTXOsOf(t.Context(), walletID(1))
			if err != nil || len(all) != 2 {
				t.Fatal(all, err)
			}
			for _, h := range all {
				switch h.Outpoint {
				case outpoint(1):
					if h.Renewed != r.ID || h.Fate != ledger.Spent {
						t.Errorf("%+v", h)
					}
				case leafOf(r):
					if h.Fate != ledger.Unspent || h.Cover != (vigil.DelegateID{}) || h.Origin != r.ID || h.ExitData {
						t.Errorf("%+v", h)
					}
				}
			}
			// Nor does a device whose record of it was pruned, with an old body.
			x.at += 3600
			if _, err := x.l.Prune(t.Context(), unix(x.at), 10); err != nil {
				t.Fatal(err)
			}
			x.prepare(1, 2)
			if _, err := x.l.Submit(t.Context(), ledger.Submission{Record: x.signed(1, 2, 1)}); vigil.CodeOf(err) != vigil.CodeInputSpent {
				t.Errorf("over a coin that was renewed: %v", err)
			}
			// An indexer that is behind revives nothing.
			x.sync(1, coin(1, 1))
			if h := x.holding(1, 1); h.Fate != ledger.Spent {
				t.Errorf("%+v", h)
			}
			x.wantLines(1, want...)
			x.at += 31 * 86_400
			x.sync(1, gone(r), leaf(r))
			if x.holding(1, 1) != nil {
				t.Error("kept for ever")
			}
			x.wantLines(1, want...)
			for range 2 {
				x.sync(1, spentIn(leaf(r), 33))
				x.at += 31 * 86_400
			}
			if all, err := x.l.VTXOsOf(t.Context(), walletID(1)); err != nil || len(all) != 0 || len(x.lines(1)) != 3 {
				t.Errorf("%+v, %v", all, err)
			}
			x.clean()
		})
	}
}

// TestLeafOfAnotherWallet is that wallet's, whoever's renewal made it.
func TestLeafOfAnotherWallet(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.create(2)
	r := x.drive(x.submit(1, 1, 1), toCommitment...)
	leaves := []ledger.VTXO{{Outpoint: outpoint(50), Amount: 5, Script: scriptOf(2)}, {Outpoint: outpoint(51), Amount: 5, Script: []byte("nobody's")}}
	if _, err := x.l.Settle(ctx, r, leaves); err != nil {
		t.Fatal(err)
	}
	if x.holding(2, 50) == nil || x.holding(1, 50) != nil || x.holding(1, 51) != nil {
		t.Fatal("held by the wrong one")
	}
	x.clean()
}

// TestGoneCoinsAreForgotten after a month, and not told of again, though the indexer
// tells of them for ever.
func TestGoneCoinsAreForgotten(t *testing.T) {
	x := newTown(t, nil)
	x.create(1)
	a, b := coin(1, 1), coin(1, 2)
	x.sync(1, a, b)
	x.sync(1, spentIn(a, 9), b)
	want := []string{"receive 1000/0 in 0 out 1 at 0", "receive 1000/0 in 0 out 1 at 0", "send 1000/0 in 1 out 0 at 0"}
	for range 3 {
		x.at += 31 * 86_400
		x.sync(1, spentIn(a, 9), b)
		x.wantLines(1, want...)
		if x.holding(1, 1) != nil || x.holding(1, 2) == nil {
			t.Fatal("kept or lost")
		}
	}
	if n := x.count("vtxos"); n != 1 {
		t.Fatal(n)
	}
	x.at -= 200 * 86_400 // a clock that is set back
	x.sync(1, spentIn(a, 9), b)
	x.wantLines(1, want...)
	// Ended delegates' pruning leaves a wallet's coins to its syncs.
	x.at += 200 * 86_400
	x.submit(1, 1, 2)
	x.sync(1, spentIn(b, 10))
	if _, err := x.l.Prune(t.Context(), unix(x.at+1), 10); err != nil || x.holding(1, 2) == nil {
		t.Fatal(err)
	}
	x.clean()
}

func TestDustOfStrangersIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand VTXOs")
	}
	x := newTown(t, nil)
	x.create(1)
	var dust []ark.VTXO
	for v := range ledger.MaxHoldings + 500 {
		c := coin(1, 1)
		c.Outpoint = wire.OutPoint{Hash: chainhash.Hash{1}, Index: uint32(v)}
		dust = append(dust, c)
	}
	x.sync(1, dust...)
	if n := x.count("wallet_vtxos"); n != ledger.MaxHoldings {
		t.Fatal(n)
	}
	if lines := x.lines(1); len(lines) != 1 || lines[0].Amount != 1000*ledger.MaxHoldings {
		t.Fatalf("%d lines", len(lines))
	}
	if x.holding(1, 2) != nil {
		t.Fatal("there was room")
	}
	// What went makes room for what comes, and is not told of again.
	gone := []ark.VTXO{coin(1, 1), coin(1, 1)}
	for i := range gone {
		gone[i].Outpoint = wire.OutPoint{Hash: chainhash.Hash{1}, Index: uint32(i)}
		gone[i] = spentIn(gone[i], 9)
	}
	x.sync(1, gone...)
	for range 2 {
		x.sync(1, append(gone, coin(1, 2))...)
	}
	if n := x.count("wallet_vtxos"); n != ledger.MaxHoldings-1 || x.holding(1, 2) == nil {
		t.Fatal(n)
	}
	if n := len(x.lines(1)); n != 3 {
		t.Fatalf("%d lines", n)
	}
}

// watched counts what is read inside updates, which are serialised.
type watched struct {
	kv.Store
	reads int
}

type watchedWriter struct {
	kv.Writer
	of *watched
}

func (w watchedWriter) Get(tree string, key []byte) ([]byte, error) {
	w.of.reads++
	return w.Writer.Get(tree, key)
}

func (w *watched) Update(ctx context.Context, f func(kv.Writer) error) error {
	return w.Store.Update(ctx, func(kw kv.Writer) error { return f(watchedWriter{kw, w}) })
}

// TestSyncOfNothingNewHoldsUpNobody: it reads a wallet's many VTXOs on a snapshot,
// and in its write only the wallet.
func TestSyncOfNothingNewHoldsUpNobody(t *testing.T) {
	store := &watched{Store: kvtest.NewMemory()}
	x := newTown(t, store)
	x.create(1)
	var coins []ark.VTXO
	for v := range 200 {
		coins = append(coins, coin(1, v))
	}
	x.sync(1, coins...)
	for range 3 {
		x.at += 10
		store.reads = 0
		if s := x.sync(1, coins...); s.Wallet.SyncedAt != x.at || store.reads > 5 {
			t.Fatalf("%d rows were read in the write", store.reads)
		}
	}
	x.clean()
}

func TestExitDataAndSweeps(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.create(2)
	a := coin(1, 1)
	a.Assets = []ark.AssetAmount{{AssetID: "asset", Amount: 7}}
	x.sync(1, a)
	x.must(x.l.MarkExitData(ctx, walletID(1), []wire.OutPoint{a.Outpoint, outpoint(50)}))
	x.must(x.l.MarkExitData(ctx, walletID(2), []wire.OutPoint{a.Outpoint}))
	h := x.holding(1, 1)
	if !h.ExitData || x.holding(2, 1) != nil || len(h.Assets) != 1 || h.Recoverable(start) {
		t.Fatalf("%+v", h)
	}
	a.Swept = true
	if s := x.sync(1, a); len(s.Swept) != 1 {
		t.Fatalf("%+v", s)
	}
	if s := x.sync(1, a); len(s.Swept) != 0 {
		t.Fatalf("%+v", s)
	}
	if h := x.holding(1, 1); !h.Recoverable(start) || !h.ExitData {
		t.Fatalf("%+v", h)
	}
	x.clean()
}

// TestSnapshotIsOneState: everything of a wallet, and nothing of others.
func TestSnapshotIsOneState(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x, ctx := newTown(t, store), t.Context()
			w := x.create(1)
			x.create(2)
			for n := range 2 {
				x.sync(n+1, coin(n+1, 10*n+1), coin(n+1, 10*n+2))
				x.submit(n+1, n+1, 10*n+1)
				x.prepare(n+1, 100+n)
				x.must(x.l.SetToken(ctx, walletID(n+1), ledger.Token{Kind: "fcm", Text: "token"}))
			}
			ended := x.submit(1, 7, 2)
			_, err := x.l.Cancel(ctx, ended, false)
			x.must(err)
			_, err = x.l.UpdateWallet(ctx, w, nil, ledger.Extras{Policy: &ledger.Policy{Current: []byte("p"), Next: []byte("q"), NextAt: 5}})
			x.must(err)
			for range 30 {
				x.at += 86_400
				c := coin(1, int(x.at/86_400)%1000+100)
				c.Outpoint.Hash[5] = 1
				x.sync(1, c)
			}
			s, err := x.l.WalletSnapshot(ctx, walletID(1), 12)
			x.must(err)
			if s.Wallet.Version != 2 || s.Policy == nil || s.Policy.NextAt != 5 || len(s.VTXOs) != 32 || len(s.Tokens) != 1 {
				t.Errorf("%+v", s)
			}
			if len(s.Delegates) != 1 || s.Delegates[0].ID != delegateID(1) {
				t.Errorf("delegates: %+v", s.Delegates)
			}
			if len(s.History) != 12 || s.History[11].At != x.at || s.History[0].At != x.at-11*86_400 {
				t.Errorf("history: %+v", s.History)
			}
			if len(s.Prepared) != 0 {
				t.Errorf("prepared a month ago: %+v", s.Prepared)
			}
			x.prepare(1, 200)
			if s, err = x.l.WalletSnapshot(ctx, walletID(1), 1000); err != nil || len(s.Prepared) != 1 || s.Prepared[0].TreeKey != pubkey('t', 200) || len(s.History) != 32 {
				t.Errorf("%+v %v", s, err)
			}
			lines, rest, err := x.l.HistoryOf(ctx, walletID(1), 20, nil)
			x.must(err)
			more, last, err := x.l.HistoryOf(ctx, walletID(1), 20, rest)
			x.must(err)
			if last != nil || !reflect.DeepEqual(append(lines, more...), s.History) {
				t.Error("the pages are not the whole")
			}
			if _, _, err := x.l.HistoryOf(ctx, walletID(2), 20, rest); !errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("a cursor of another wallet: %v", err)
			}
			if _, err := x.l.WalletSnapshot(ctx, walletID(3), 1); !errors.Is(err, ledger.ErrNotFound) {
				t.Error(err)
			}
		})
	}
}
