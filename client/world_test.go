package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// world is an operator on real time with short sessions, and a fake Vigil.
type world struct {
	*testing.T
	op *arktest.Operator
	// esplora is the operator's, as devices reach it.
	esplora string
	vigil   *fake
	ctx     context.Context
}

func newWorld(t *testing.T, cfg arktest.Config) *world {
	t.Helper()
	cfg.SessionDuration = 6 * time.Second // its parts end early; a busy machine needs the rest
	op, err := arktest.Start(underCore(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(func() { cancel(); op.Close() })
	c, err := operator.Dial(operator.Config{URL: op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now
	if cfg.Clock != nil {
		now = cfg.Clock.Now
	}
	return &world{t, op, judged(t, op), newFake(t, p, now), ctx}
}

func (w *world) config(s secret.Store) client.Config {
	return client.Config{
		Server: w.vigil.http.URL, HostKey: w.vigil.host.PubKey(), Operator: w.op.URL(), Esplora: w.esplora,
		Store: s, Now: w.vigil.now, RetryWait: time.Millisecond,
	}
}

func (w *world) seed() client.Seed {
	w.Helper()
	s, err := client.NewSeed()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(s.Burn)
	return s
}

// create makes a wallet with a store in memory.
func (w *world) create(opt client.CreateOptions) (*client.Wallet, *secrettest.Memory, client.Seed) {
	w.Helper()
	store, seed := secrettest.NewMemory(), w.seed()
	d, err := client.Create(w.ctx, w.config(store), seed, opt)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(d.Close)
	return d, store, seed
}

// fund pays sats to the wallet's boarding address and boards them.
func (w *world) fund(d *client.Wallet, sats int64) client.Settled {
	w.Helper()
	at, err := d.BoardingAddress()
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.op.Faucet(at, sats); err != nil {
		w.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		w.Fatal(err)
	}
	s, err := d.Board(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	return s
}
