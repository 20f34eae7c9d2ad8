package renewal

import (
	"context"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
)

// theHour is when these tests happen.
var theHour = time.Unix(1_900_000_000, 0)

// judge is an engine that is asked single questions.
func judge(op Operator, chain Chain) *Engine {
	return New(Config{Now: func() time.Time { return theHour }}, op, nil, nil, nil, chain, nil)
}

// depths is a chain that has some transactions, and no other.
type depths map[chainhash.Hash]int64

func (d depths) Confirmations(_ context.Context, txid chainhash.Hash) (int64, error) {
	if n, ok := d[txid]; ok {
		return n, nil
	}
	return -1, nil
}

func (depths) Spender(context.Context, wire.OutPoint) (chainhash.Hash, bool, error) {
	return chainhash.Hash{}, false, nil
}

// flying is a record in a state, over one coin.
func flying(s delegate.State) *delegate.Record {
	return &delegate.Record{
		State: s, Inputs: []delegate.Input{{Outpoint: wire.OutPoint{Hash: chainhash.Hash{1}}, Amount: 1000, ExpiresAt: theHour.Unix() + 100_000}},
		BatchEnd: theHour.Unix() - 100,
	}
}

func only(v ark.VTXO) coins { return coins{v.Outpoint: v} }

// TestOnlyItsOwnTimeExpiresADelegate: the operator's "expired" ends nothing that
// names no end, and nothing before it.
func TestOnlyItsOwnTimeExpiresADelegate(t *testing.T) {
	for _, c := range []struct {
		expireAt int64
		want     delegate.Event
	}{
		{0, delegate.Refused},
		{theHour.Unix() + 1000, delegate.Refused},
		{theHour.Unix() - 30, delegate.Refused}, // our clock may be ahead
		{theHour.Unix() - 1000, delegate.Expire},
	} {
		rec := flying(delegate.Registering)
		rec.ExpireAt = c.expireAt
		said := &operator.Error{Op: "RegisterIntent", Code: 20, GRPC: codes.InvalidArgument, Message: "proof of ownership expired"}
		if got := judge(nil, nil).registered(rec, "", said, time.Minute); operator.ClassOf(said) != operator.Expired || got.Event != c.want {
			t.Errorf("expire_at %d: %s (%v), want %s", c.expireAt, got.Event, operator.ClassOf(said), c.want)
		}
		if got, ended := judge(nil, nil).verdict(t.Context(), rec, coins{}); ended {
			t.Errorf("expire_at %d: ended by our clock alone, by %s", c.expireAt, got.Event)
		}
	}
}

// TestOurCommitmentCountsBeforeTheCoinsFate: a coin that our own commitment
// settled may be unrolled by anybody afterwards; the new coin is the owner's.
func TestOurCommitmentCountsBeforeTheCoinsFate(t *testing.T) {
	ours := chainhash.Hash{0xaa}
	rec := flying(delegate.Due)
	rec.Watch = []delegate.Watched{{Commitment: ours}}
	v := ark.VTXO{Outpoint: rec.Inputs[0].Outpoint, Spent: true, Unrolled: true, SettledBy: ours.String()}
	if got, _ := judge(nil, nil).verdict(t.Context(), rec, only(v)); got.Event != delegate.Late {
		t.Errorf("settled by a watched commitment, then unrolled: %s", got.Event)
	}
	// The operator denies the commitment that the chain has.
	rec = flying(delegate.Submitted)
	rec.Commitment = ours
	for name, v := range map[string]ark.VTXO{
		"unrolled": {Outpoint: rec.Inputs[0].Outpoint, Unrolled: true},
		"spent":    {Outpoint: rec.Inputs[0].Outpoint, Spent: true, ArkTxid: chainhash.Hash{7}.String()},
	} {
		got, err := judge(nil, depths{ours: 0}).resolveSubmitted(t.Context(), rec, only(v), map[chainhash.Hash]int64{})
		if err != nil || got.Event != delegate.Finalized {
			t.Errorf("said to be %s while our commitment is on the chain: %s, %v", name, got.Event, err)
		}
		got, err = judge(nil, depths{}).resolveSubmitted(t.Context(), rec, only(v), map[chainhash.Hash]int64{})
		if err != nil || got.Event != delegate.InputSpent && got.Event != delegate.InputUnrolled {
			t.Errorf("%s, and our commitment nowhere: %s, %v", name, got.Event, err)
		}
	}
}

// TestNoRefusedTransitionIsAskedFor: the ledger takes Late only for a watched
// commitment, and the current one is not watched.
func TestNoRefusedTransitionIsAskedFor(t *testing.T) {
	ours := chainhash.Hash{0xaa}
	rec := flying(delegate.Submitted)
	rec.Commitment = ours
	second := wire.OutPoint{Hash: chainhash.Hash{2}}
	rec.Inputs = append(rec.Inputs, delegate.Input{Outpoint: second, Amount: 1})
	found := coins{
		rec.Inputs[0].Outpoint: {Outpoint: rec.Inputs[0].Outpoint, Spent: true, SettledBy: chainhash.Hash{9}.String()},
		second:                 {Outpoint: second, Spent: true, SettledBy: ours.String()},
	}
	got, err := judge(nil, nil).resolveSubmitted(t.Context(), rec, found, map[chainhash.Hash]int64{})
	if err != nil || got.Event != delegate.Finalized {
		t.Errorf("one coin settled by our commitment, the other by another: %s, %v", got.Event, err)
	}
}

// TestDuplicatedForLongIsTold: after three sessions the queued copy is none of
// ours, and somebody should know.
func TestDuplicatedForLongIsTold(t *testing.T) {
	said := &operator.Error{Op: "RegisterIntent", Code: 0, GRPC: codes.Internal, Message: "failed to push intent: duplicated input"}
	told := &results{}
	e := judge(nil, nil)
	e.observer = told
	rec := flying(delegate.Registering)
	for _, at := range []struct {
		since time.Duration
		event delegate.Event
		code  string
	}{
		{time.Minute, delegate.Note, duplicated},
		{4 * time.Minute, delegate.Refused, elsewhere},
		{time.Second, delegate.Note, elsewhere}, // the next attempt
		{4 * time.Minute, delegate.Refused, elsewhere},
	} {
		rec.StateSince = theHour.Add(-at.since).Unix()
		c := e.registered(rec, "", said, time.Minute)
		c.Mutate(rec)
		if c.Event != at.event || rec.LastError.Code != at.code {
			t.Errorf("after %s: %s, %+v", at.since, c.Event, rec.LastError)
		}
	}
	if len(told.list) != 1 {
		t.Errorf("told %v", told.list)
	}
}

type results struct {
	silent
	list []string
}

func (r *results) Renewal(s string) { r.list = append(r.list, s) }
