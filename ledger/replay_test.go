package ledger_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
)

const window = time.Minute

func (x *town) request(n int) ledger.Request {
	id := walletID(1)
	return ledger.Request{Owner: id[:], Nonce: [16]byte{byte(n), byte(n >> 8)}, Hash: [32]byte{byte(n), byte(n >> 8), 1}, Stamp: x.at}
}

func (x *town) begin(q ledger.Request) (string, error) {
	b, err := x.l.Begin(x.t.Context(), q, window)
	if err == nil && b != nil {
		return "answer " + string(b), nil
	}
	return "", err
}

func TestRequestIsCarriedOutOnce(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x := newTown(t, store)
			x.create(1)
			want := func(q ledger.Request, answer string, refusal error) {
				t.Helper()
				x.clean()
				x.reopen()
				if got, err := x.begin(q); got != answer || !errors.Is(err, refusal) {
					t.Errorf("%q, %v; want %q, %v", got, err, answer, refusal)
				}
			}
			q := x.request(1)
			want(q, "", nil)
			want(q, "", ledger.ErrBegun)
			x.must(x.l.Finish(t.Context(), q, []byte("done")))
			want(q, "answer done", nil)
			x.must(x.l.Finish(t.Context(), q, []byte("again"))) // the first answer is what left
			want(q, "answer done", nil)
			other := q
			other.Hash[0]++
			want(other, "", ledger.ErrReplayed)
			if err := x.l.Finish(t.Context(), other, nil); !errors.Is(err, ledger.ErrReplayed) {
				t.Error(err)
			}
			// An empty answer is one; one that is too long is none.
			empty, long := x.request(2), x.request(3)
			want(empty, "", nil)
			x.must(x.l.Finish(t.Context(), empty, nil))
			want(empty, "answer ", nil)
			want(long, "", nil)
			x.must(x.l.Finish(t.Context(), long, []byte(strings.Repeat("x", ledger.MaxAnswer+1))))
			want(long, "", ledger.ErrBegun)
			full := x.request(4)
			want(full, "", nil)
			x.must(x.l.Finish(t.Context(), full, []byte(strings.Repeat("x", ledger.MaxAnswer))))
			want(full, "answer "+strings.Repeat("x", ledger.MaxAnswer), nil)
			// The same nonce of another owner is another request.
			stranger := q
			host := pubkey('s', 1)
			stranger.Owner = host[:]
			want(stranger, "", nil)
			nobody := q
			none := walletID(9)
			nobody.Owner = none[:]
			want(nobody, "", ledger.ErrNotFound)
		})
	}
}

// TestForgottenRequestIsNotFreshAgain: a request is remembered while it is fresh,
// and when it is forgotten no clock makes it fresh again.
func TestForgottenRequestIsNotFreshAgain(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	q := x.request(1)
	ahead := x.request(2)
	ahead.Stamp += 60 // from a device whose clock is a minute ahead
	for _, q := range []ledger.Request{q, ahead} {
		if _, err := x.begin(q); err != nil {
			t.Fatal(err)
		}
		x.must(x.l.Finish(ctx, q, []byte("done")))
	}
	for range 4 {
		n, err := x.l.PruneReplay(ctx, 100)
		if err != nil || n != 0 {
			t.Fatalf("%d forgotten %d s after they were made: %v", n, x.at-start, err)
		}
		for _, q := range []ledger.Request{q, ahead} {
			if got, err := x.begin(q); got != "answer done" || err != nil {
				t.Fatal(got, err)
			}
		}
		x.at += 40
	}
	x.at += 200
	if n, err := x.l.PruneReplay(ctx, 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	x.clean()
	if n, err := x.l.PruneReplay(ctx, 100); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	x.clean()
	for _, back := range []int64{0, 200, 360} {
		x.at -= back
		x.reopen()
		for _, q := range []ledger.Request{q, ahead} {
			if _, err := x.begin(q); !errors.Is(err, ledger.ErrStale) {
				t.Fatalf("a request of before was let through again: %v", err)
			}
		}
		x.at += back
	}
	if _, err := x.begin(x.request(3)); err != nil {
		t.Fatalf("a new one: %v", err)
	}
}

// TestClockThatWasAhead: what was forgotten while it was is stale for as long as it
// was ahead, and at most for an hour.
func TestClockThatWasAhead(t *testing.T) {
	for ahead, refusal := range map[int64]error{1000: ledger.ErrStale, 86_400 * 365: nil} {
		x, ctx := newTown(t, nil), t.Context()
		x.create(1)
		x.at += ahead
		if _, err := x.begin(x.request(1)); err != nil {
			t.Fatal(err)
		}
		x.at += 500
		if n, err := x.l.PruneReplay(ctx, 10); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		x.at -= ahead + 400
		if _, err := x.begin(x.request(2)); !errors.Is(err, refusal) {
			t.Errorf("%d s ahead: %v", ahead, err)
		}
		x.at += 1200
		if _, err := x.begin(x.request(3)); err != nil {
			t.Errorf("later: %v", err)
		}
		x.clean()
	}
}

// TestAbandonedRequestsAreBounded: thousands of requests that nobody finishes, and
// of strangers, take no more room than they may and are forgotten.
func TestAbandonedRequestsAreBounded(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.create(2)
	let := 0
	for n := range 2 * ledger.MaxRequests {
		if _, err := x.begin(x.request(n)); err == nil {
			let++
		} else if !errors.Is(err, ledger.ErrTooMany) {
			t.Fatal(err)
		}
	}
	if let != ledger.MaxRequests {
		t.Fatalf("%d were let through", let)
	}
	id := walletID(2)
	if _, err := x.begin(ledger.Request{Owner: id[:], Stamp: x.at}); err != nil {
		t.Fatalf("another wallet: %v", err)
	}
	for n := range 300 {
		host := pubkey('s', n)
		if _, err := x.begin(ledger.Request{Owner: host[:], Stamp: x.at}); err != nil {
			t.Fatal(err)
		}
	}
	x.clean()
	x.at += 1000
	for more := 100; more == 100; {
		var err error
		more, err = x.l.PruneReplay(ctx, 100)
		x.must(err)
	}
	if n := x.count("replay") + x.count("replay_times") + x.count("answers"); n != 0 {
		t.Fatalf("%d rows are left", n)
	}
	x.clean()
	if _, err := x.begin(x.request(5000)); err != nil {
		t.Fatal(err)
	}
	for _, owner := range [][]byte{nil, make([]byte, 65)} {
		if _, err := x.begin(ledger.Request{Owner: owner}); err == nil {
			t.Errorf("an owner of %d bytes", len(owner))
		}
	}
}

// TestSlowRequestIsFinished after it was forgotten, without a trace.
func TestSlowRequestIsFinished(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	q := x.request(1)
	if _, err := x.begin(q); err != nil {
		t.Fatal(err)
	}
	x.at += 1000
	if n, err := x.l.PruneReplay(ctx, 10); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	x.must(x.l.Finish(ctx, q, []byte("late")))
	x.clean()
}

func TestDecisionAndRecordAreOneWrite(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			x, ctx := newTown(t, store), t.Context()
			x.create(1)
			x.create(2)
			x.sync(1, coin(1, 1))
			refused := errors.New("refused")
			spend := func(n byte, amount int64) error {
				return x.l.Decide(ctx, walletID(1), x.at-3600, func(s ledger.Spending) (ledger.Verdict, error) {
					if _, known := s.Each[[32]byte{n}]; !known && s.Amount+amount > 1000 {
						return ledger.Verdict{}, refused
					}
					return ledger.Verdict{
						Audit:  []ledger.Link{entry(x.at, "sign"), entry(x.at, "sign")},
						Spends: []ledger.Spend{{Sighash: [32]byte{n}, Amount: amount}},
						Signed: []wire.OutPoint{outpoint(1), outpoint(99)},
					}, nil
				})
			}
			spent := func(since, want int64) {
				t.Helper()
				x.reopen()
				s, err := x.l.SpentSince(ctx, walletID(1), since)
				if err != nil || s.Amount != want {
					t.Errorf("%+v, %v; want %d", s, err, want)
				}
				x.clean()
			}
			x.must(spend(1, 600))
			x.must(spend(1, 600)) // a retry costs nothing twice
			spent(0, 600)
			entries := x.entries()
			if err := spend(2, 500); !errors.Is(err, refused) {
				t.Fatal(err)
			}
			if x.entries() != entries {
				t.Fatal("a refusal wrote something")
			}
			x.at += 1800
			x.must(spend(3, 400))
			spent(start, 1000)
			spent(start+1, 400)
			x.at += 1801
			x.must(spend(4, 600)) // the first has left the window
			if v, err := x.l.VTXOsOf(ctx, walletID(1)); err != nil || len(v) != 1 || v[0].SignedAt != x.at {
				t.Fatalf("%+v %v", v, err)
			}
			x.at += 30 * 86_400
			x.must(spend(5, 1000))
			if n := x.count("spend_windows"); n != 1 {
				t.Fatalf("%d spends of weeks ago stay", n-1)
			}
			if s, err := x.l.SpentSince(ctx, walletID(2), 0); err != nil || len(s.Each) != 0 {
				t.Fatal(s, err)
			}
			if err := x.l.Decide(ctx, walletID(7), 0, nil); !errors.Is(err, ledger.ErrNotFound) {
				t.Fatal(err)
			}
		})
	}
}

func TestSignaturesInAWindowAreBounded(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	sign := func(from, n int) error {
		return x.l.Decide(ctx, walletID(1), x.at-3600, func(ledger.Spending) (v ledger.Verdict, err error) {
			for i := range n {
				v.Spends = append(v.Spends, ledger.Spend{Sighash: [32]byte{byte(from + i), byte((from + i) >> 8), 1}, Amount: 1})
			}
			return v, nil
		})
	}
	x.must(sign(0, ledger.MaxSpends))
	x.must(sign(0, ledger.MaxSpends))
	if err := sign(ledger.MaxSpends, 1); !errors.Is(err, ledger.ErrTooMany) {
		t.Fatal(err)
	}
	x.clean()
}

// TestAuditIsOneChain over many writers and wallets, and stays one when its oldest
// entries are forgotten.
func TestAuditIsOneChain(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	for n := range 20 {
		x.create(n)
		x.must(x.l.Audit(ctx, entry(x.at, "refuse"), entry(x.at, "refuse")))
	}
	x.reopen()
	x.clean()
	if x.entries() != 60 {
		t.Fatal(x.entries())
	}
	for _, want := range []int{25, 10, 0} {
		if n, err := x.l.PruneAudit(ctx, 25, 25); n != want || err != nil {
			t.Fatalf("forgot %d, %v; want %d", n, err, want)
		}
		x.clean()
	}
	base, first, err := x.l.AuditBase(ctx)
	if err != nil || first != 36 || base == [32]byte{} {
		t.Fatal(base, first, err)
	}
	x.must(x.l.Audit(ctx, entry(x.at, "more")))
	x.clean()
	if err := x.l.Audit(ctx, entry(x.at, "one"), func(uint64, [32]byte) ([32]byte, []byte, error) {
		return [32]byte{}, nil, errors.New("cannot")
	}); err == nil || x.entries() != 26 {
		t.Fatal("half of a write", err, x.entries())
	}
}

// TestTokens are bounded and replaced by their text.
func TestTokens(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	for n := range ledger.MaxTokens {
		x.must(x.l.SetToken(ctx, walletID(1), ledger.Token{Kind: "fcm", Text: strings.Repeat("t", n+1)}))
	}
	x.must(x.l.SetToken(ctx, walletID(1), ledger.Token{Kind: "apns", Text: "t"}))
	if err := x.l.SetToken(ctx, walletID(1), ledger.Token{Text: "other"}); !errors.Is(err, ledger.ErrTooMany) {
		t.Fatal(err)
	}
	x.must(x.l.DropToken(ctx, walletID(1), "tt"))
	x.must(x.l.DropToken(ctx, walletID(1), "tt"))
	x.must(x.l.SetToken(ctx, walletID(1), ledger.Token{Text: "other"}))
	s, err := x.l.WalletSnapshot(ctx, walletID(1), 10)
	if err != nil || len(s.Tokens) != ledger.MaxTokens {
		t.Fatal(s, err)
	}
	if err := x.l.SetToken(ctx, walletID(3), ledger.Token{Text: "x"}); !errors.Is(err, ledger.ErrNotFound) {
		t.Fatal(err)
	}
	x.clean()
}

// TestAnswersOfOneOwnerAreBounded: one wallet that asks for long answers as fast as
// it may keeps its megabyte, and others keep theirs.
func TestAnswersOfOneOwnerAreBounded(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	x.create(1)
	x.create(2)
	long := []byte(strings.Repeat("x", ledger.MaxAnswer))
	answered := func(q ledger.Request) bool {
		t.Helper()
		if _, err := x.begin(q); err != nil {
			t.Fatal(err)
		}
		x.must(x.l.Finish(ctx, q, long))
		got, err := x.begin(q)
		if err != nil && !errors.Is(err, ledger.ErrBegun) {
			t.Fatal(err)
		}
		return got != ""
	}
	kept := 0
	for n := range 20 {
		if answered(x.request(n)) {
			kept += len(long)
		}
	}
	if kept > ledger.MaxAnswers || kept+len(long) <= ledger.MaxAnswers {
		t.Fatalf("%d bytes of answers are kept, of at most %d", kept, ledger.MaxAnswers)
	}
	other, id := x.request(1), walletID(2)
	other.Owner = id[:]
	if !answered(other) {
		t.Error("another wallet's answer is not kept")
	}
	x.clean()
	x.at += 300
	if _, err := x.l.PruneReplay(ctx, 100); err != nil {
		t.Fatal(err)
	}
	if !answered(x.request(99)) {
		t.Error("there is no room after the others were forgotten")
	}
	x.clean()
}

// TestACrowdOfStrangersKeepsNobodyFromRecovering: host keys that anybody can make
// fill what is kept for them, and those of wallets that are here have a count of
// their own, which goes down again and with the wallet.
func TestACrowdOfStrangersKeepsNobodyFromRecovering(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	w := x.create(1)
	x.must(x.l.Crowd(ctx))
	ask := func(host bip340.PubKey, n int, member bool) error {
		_, err := x.begin(ledger.Request{Owner: host[:], Member: member, Nonce: [16]byte{byte(n)}, Hash: [32]byte{byte(n)}, Stamp: x.at})
		return err
	}
	mine := w.Epochs[0].Hosts[0]
	if err := errors.Join(ask(mine, 1, true), ask(mine, 2, true)); err != nil {
		t.Fatal(err)
	}
	if err := ask(mine, 1, true); !errors.Is(err, ledger.ErrBegun) {
		t.Errorf("once more: %v", err)
	}
	if err := ask(pubkey('s', 1), 1, false); !errors.Is(err, ledger.ErrTooMany) {
		t.Errorf("one stranger more: %v", err)
	}
	if err := ask(pubkey('s', 1), 1, true); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a stranger as a member: %v", err)
	}
	x.must(x.l.DeleteWallet(ctx, x.row(1), ledger.Extras{}))
	if n := x.count("replay"); n != 0 {
		t.Errorf("%d requests are left of a wallet that is gone", n)
	}
}

func TestRequestsOfMembersAreCounted(t *testing.T) {
	x, ctx := newTown(t, nil), t.Context()
	host := x.create(1).Epochs[0].Hosts[0]
	_, err := x.begin(ledger.Request{Owner: host[:], Member: true, Stamp: x.at})
	x.must(err)
	_, err = x.begin(ledger.Request{Owner: host[:], Stamp: x.at})
	x.must(err)
	x.clean()
	x.at += 1000
	if n, err := x.l.PruneReplay(ctx, 10); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	x.clean()
}
