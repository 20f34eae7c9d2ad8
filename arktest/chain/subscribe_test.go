package chain_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

func TestLaggardIsCutOff(t *testing.T) {
	c, _ := newChain(t, chain.Config{})
	slow, fast := c.Subscribe(1), c.Subscribe(16)
	mine(t, c, 1)
	n := 0
	for range slow.C() {
		n++
	}
	if n != 1 || !errors.Is(slow.Err(), chain.ErrLagged) {
		t.Fatalf("%d events, %v", n, slow.Err())
	}
	fast.Close()
	fast.Close()
	n = 0
	for range fast.C() {
		n++
	}
	if n != 2 || fast.Err() != nil {
		t.Fatalf("%d events, %v", n, fast.Err())
	}
}

func TestRunMines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := chain.New(chain.Config{Blocks: 10})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, 2*time.Second, time.Minute) }()
		if _, err := c.Faucet([]byte{txscript.OP_TRUE}, 1000); err != nil {
			t.Fatal(err)
		}
		<-time.After(1500 * time.Millisecond)
		synctest.Wait()
		if h := c.Tip().Height; h != 10 {
			t.Fatalf("mined too soon: %d", h)
		}
		<-time.After(1500 * time.Millisecond)
		synctest.Wait()
		if h := c.Tip().Height; h != 11 || len(c.Mempool()) != 0 {
			t.Fatalf("not mined: %d", h)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if h := c.Tip().Height; h != 12 && h != 13 {
			t.Fatalf("no steady blocks: %d", h)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
