package renewal_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
)

// slow is a ledger that takes its time to write down intent ids: until released.
type slow struct {
	*ledger.Ledger
	released chan struct{}
}

func (s *slow) Apply(ctx context.Context, changes ...ledger.Change) ([]ledger.Outcome, error) {
	for _, c := range changes {
		if c.Event == delegate.Accepted {
			<-s.released
		}
	}
	return s.Ledger.Apply(ctx, changes...)
}

// telling is a stream that closes a channel once the engine has taken the
// announcement of a batch.
type telling struct {
	*operator.Stream
	out  chan operator.Event
	told chan struct{}
}

func (s *telling) C() <-chan operator.Event { return s.out }

func (s *telling) forward() {
	defer close(s.out)
	told := false
	for ev := range s.Stream.C() {
		s.out <- ev
		if _, ok := ev.(batch.Started); ok && !told {
			close(s.told)
			told = true
		}
	}
}

// TestLateIdsJoin: a batch is announced while the ids of all its intents are
// still being written down. None is known at that moment, and all must join.
func TestLateIdsJoin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		const n = 5
		devices := make([]*wallet.Wallet, n)
		for i := range devices {
			devices[i] = r.device()
		}
		coins := r.boardAll(devices, 50_000)
		var recs []*delegate.Record
		for i, d := range devices {
			recs = append(recs, r.submit(d, wallet.DelegateOptions{}, coins[i]))
		}
		r.alone(n)
		client, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext, Log: r.log})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		ctx, stop := context.WithCancel(r.ctx)
		defer stop()
		stream, err := client.Events(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s := &telling{Stream: stream, out: make(chan operator.Event), told: make(chan struct{})}
		go s.forward()
		led := &slow{Ledger: r.ledger, released: s.told}
		engine := renewal.New(renewal.Config{Pace: r.pace, Log: r.log}, client, s, led, sessions{r.signer}, nil, nil)
		ended := make(chan error, 1)
		go func() { ended <- engine.Run(ctx) }()
		for _, rec := range recs {
			r.awaitState(rec.ID, delegate.Settled)
		}
		stop()
		<-ended
		first := r.op.Stats().Batches
		b := first[len(first)-1]
		if len(b.Joined) != n || len(b.Intents) != n {
			t.Errorf("%d of %d joined the batch", len(b.Joined), len(b.Intents))
		}
		r.forfeited(1, coins...)
	})
}
