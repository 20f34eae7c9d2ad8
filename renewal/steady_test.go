package renewal_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
)

// steady is an operator with sessions of a second that knows the coins of stored
// and takes registrations as it is told.
type steady struct {
	*quiet
	mu         sync.Mutex
	coins      map[wire.OutPoint]ark.VTXO
	registered int
	refuse     error
	chain      renewal.Chain
}

func (s *steady) Params(context.Context) (ark.Params, error) {
	return ark.Params{SessionSeconds: 1}, nil
}

func (s *steady) VTXOs(_ context.Context, ops []wire.OutPoint) (out []ark.VTXO, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		if v, ok := s.coins[op]; ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// made is a coin that a renewal of rec made.
func (s *steady) made(op wire.OutPoint, rec *delegate.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coins[op] = ark.VTXO{Outpoint: op, Amount: rec.Outputs[0].Value, Script: rec.Outputs[0].PkScript}
}

// settle says that a coin was settled by a commitment.
func (s *steady) settle(op wire.OutPoint, by chainhash.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.coins[op]
	v.Spent, v.SettledBy = true, by.String()
	s.coins[op] = v
}

func (s *steady) RegisterIntent(context.Context, string, string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registered++
	return "intent-" + strconv.Itoa(s.registered), s.refuse
}

func (s *steady) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered
}

// blank signs nothing.
type blank struct{ renewal.Session }

func (blank) Open(context.Context, []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	return blank{}, nil
}
func (blank) Proof(vigil.DelegateID) (string, error) { return "proof", nil }
func (blank) Close()                                 {}

// looked counts readings of the due index.
type looked struct {
	*ledger.Ledger
	mu sync.Mutex
	n  int
}

func (l *looked) Due(ctx context.Context, upTo time.Time, limit int, from ledger.Cursor) ([]ledger.Due, ledger.Cursor, error) {
	l.mu.Lock()
	l.n++
	l.mu.Unlock()
	return l.Ledger.Due(ctx, upTo, limit, from)
}

func (l *looked) looks() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// still runs an engine on the bubble's clock over one stored delegate, due at the
// time given from now.
func still(t *testing.T, in time.Duration) (*steady, *looked, *kvtest.Memory, *delegate.Record, func()) {
	t.Helper()
	store := kvtest.NewMemory()
	if err := ledger.Create(t.Context(), store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	led, err := ledger.Open(t.Context(), store, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := led.Submit(t.Context(), ledger.Submission{Record: stored(1, time.Now().Add(in).Unix())})
	if err != nil {
		t.Fatal(err)
	}
	rec, look := receipt.Record, &looked{Ledger: led}
	op := &steady{quiet: newQuiet(), coins: map[wire.OutPoint]ark.VTXO{}}
	for _, c := range rec.Inputs {
		op.coins[c.Outpoint] = ark.VTXO{Outpoint: c.Outpoint, Amount: c.Amount, Script: c.Script, ExpiresAt: c.ExpiresAt}
	}
	return op, look, store, rec, func() {
		ctx, cancel := context.WithCancel(t.Context())
		engine := renewal.New(renewal.Config{}, op, op, look, blank{}, op.chain, nil)
		ended := make(chan error, 1)
		go func() { ended <- engine.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
	}
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestConstantBatchesHideNothing: every batch of the operator holds two intents of
// strangers. That may be all it takes, or all there is; an intent of ours that none
// of them lists is asked after within a few sessions.
func TestConstantBatchesHideNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, led, _, rec, run := still(t, 0)
		run()
		op.events <- operator.StreamUp{}
		for i := range 12 {
			pass(time.Second)
			op.events <- batch.Started{BatchID: strconv.Itoa(i), IntentHashes: []string{"a", "b"}}
		}
		if n := op.calls(); n != 1 {
			t.Errorf("registered %d times in twelve sessions", n)
		}
		for i := range 12 {
			pass(time.Second)
			op.events <- batch.Started{BatchID: strconv.Itoa(100 + i), IntentHashes: []string{"a", "b"}}
		}
		if n := op.calls(); n != 2 {
			t.Errorf("registered %d times, want twice", n)
		}
		if now, err := led.Delegate(t.Context(), rec.ID); err != nil || now.State != delegate.Registered || now.IntentID != "intent-2" {
			t.Errorf("%s with %s, %v", now.State, now.IntentID, err)
		}
	})
}

// TestStrayDueRow: a row of the due index that its record does not ask for is
// removed when it is met, and neither followed nor looked at for ever.
func TestStrayDueRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, led, store, rec, run := still(t, 0)
		const due = "renewal_due"
		type row struct{ key, value []byte }
		rows := func() (all []row) {
			if err := store.View(t.Context(), func(r kv.Reader) error {
				return r.Scan(due, nil, nil, func(k, v []byte) error {
					all = append(all, row{bytes.Clone(k), bytes.Clone(v)})
					return nil
				})
			}); err != nil {
				t.Fatal(err)
			}
			return all
		}
		old := rows()
		rec, err := led.Transition(t.Context(), rec, delegate.Note, func(r *delegate.Record) { r.NextAttempt += 3600 })
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Update(t.Context(), func(w kv.Writer) error { return w.Put(due, old[0].key, old[0].value) }); err != nil {
			t.Fatal(err)
		}
		run()
		pass(time.Minute)
		if now, err := led.Delegate(t.Context(), rec.ID); err != nil || now.Version != rec.Version || op.calls() != 0 {
			t.Errorf("it was followed: %v, %v, registered %d times", now.State, err, op.calls())
		}
		if n := len(rows()); n != 1 || led.looks() > 5 {
			t.Errorf("%d rows are left, and the index was read %d times in a minute", n, led.looks())
		}
	})
}

// TestCancelledIsNotRegisteredAgain: a registration may or may not be queued, and is
// repeated. When its owner has cancelled it, and the intent at the operator, no
// further one leaves.
func TestCancelledIsNotRegisteredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, led, _, rec, run := still(t, 0)
		op.refuse = errors.New("no answer")
		run()
		pass(time.Second)
		before := op.calls()
		now, err := led.Delegate(t.Context(), rec.ID)
		if err != nil || now.State != delegate.Registering || before == 0 {
			t.Fatalf("%v, %v, registered %d times", now.State, err, before)
		}
		if _, err := led.Cancel(t.Context(), now, true); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if n := op.calls(); n != before {
			t.Errorf("registered %d times after it was cancelled", n-before)
		}
	})
}
