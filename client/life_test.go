package client_test

import (
	"testing"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
)

func TestLifeOfAWallet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	alice, _, _ := w.create(client.CreateOptions{})
	if s := w.fund(alice, 100_000); s.Amount != 100_000 || len(s.Coins) != 1 {
		t.Fatalf("boarded %+v", s)
	}
	to, err := alice.Address()
	if err != nil {
		t.Fatal(err)
	}
	paid, err := alice.Send(w.ctx, to, 30_000)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := alice.Renew(w.ctx, paid); err != nil || s.Amount != 30_000 {
		t.Fatalf("renewed %+v, %v", s, err)
	}
	coins, err := alice.VTXOs(w.ctx)
	if err != nil || len(coins) != 2 {
		t.Fatalf("coins %+v, %v", coins, err)
	}
	done, err := alice.Delegate(w.ctx, client.DelegateOptions{})
	if err != nil || len(done) == 0 {
		t.Fatalf("delegated %+v, %v", done, err)
	}
}
