package wallet_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/wallet"
)

// gate is a signer that waits, the first time, to be let go on.
type gate struct {
	*signer.Signer
	met      atomic.Bool
	at, open chan struct{}
}

func (g *gate) Sign(ctx context.Context, r signer.SignRequest) ([]signer.Part, error) {
	if !g.met.Swap(true) {
		close(g.at)
		<-g.open
	}
	return g.Signer.Sign(ctx, r)
}

// However many wallets ask, no more are signed for at once than may be, whatever
// else is asked goes on, and whoever waits too long is told to come again.
func TestSigningLeavesCoresToTheOthers(t *testing.T) {
	w := newWorld(t, func(c *wallet.Config) { c.Limits.Signing, c.Limits.SignWait = 1, time.Nanosecond })
	first, second := made(w, 2, 2), made(w, 2, 2)
	v, u := first.coin(100_000), second.coin(100_000)
	w.service.Close()
	g := &gate{Signer: w.signer, at: make(chan struct{}), open: make(chan struct{})}
	release := sync.OnceFunc(func() { close(g.open) })
	w.service = wallet.New(w.cfg, wallet.Ports{
		Ledger: w.ledger, Keys: g, Host: w.hostKey(), Operator: w.op, Hub: w.hub,
		Ceremonies: w.signer.Ceremonies(signer.CeremonyLimits{}, func() int64 { return w.clock.now().Unix() }),
	})
	t.Cleanup(release) // before the world ends
	slow, quick := first.ask(both(), first.renewal(v)), second.ask(both(), second.renewal(u))
	signed := make(chan error, 1)
	go func() { _, err := slow.send(); signed <- err }()
	<-g.at
	before := len(w.decisions())
	_, err := quick.send()
	refusedWith(t, err, vigil.CodeWalletBusy)
	if n := len(w.decisions()); n != before {
		t.Fatal("a request that found no turn was decided on")
	}
	if _, err := second.list(); err != nil {
		t.Fatalf("looking is free: %v", err)
	}
	release()
	if err := <-signed; err != nil {
		t.Fatal(err)
	}
	usable(t, second)
}
