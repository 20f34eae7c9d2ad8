package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/client"
)

// priced serves an Esplora whose fee estimates are rate's.
func (w *world) priced(rate *atomic.Int64) string {
	w.Helper()
	at, err := url.Parse(w.esplora)
	if err != nil {
		w.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(at)
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/fee-estimates") {
			fmt.Fprintf(out, `{"3":%d}`, rate.Load())
			return
		}
		proxy.ServeHTTP(out, r)
	}))
	w.Cleanup(s.Close)
	return s.URL
}

// TestOutbid has a step of an exit wait in the mempool: its child is replaced when
// it has waited too long or fees have risen, and not otherwise.
func TestOutbid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{BlockAfter: -1, BlockEvery: -1}) // blocks come when the test says so
	d, _, seed := w.create(client.CreateOptions{})
	w.minted(d, 40_000)
	backup, err := d.Export(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var rate atomic.Int64
	rate.Store(2)
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.priced(&rate)}, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Burn()
	at, err := l.FeeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.op.Faucet(at, 20_000); err != nil {
		t.Fatal(err)
	}
	c := w.op.Chain()
	mine := func(n int, with bool) {
		t.Helper()
		for range n {
			err := c.MineTxs()
			if with {
				err = c.Mine(1)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	mine(1, true)
	// step unrolls and gives the child that waits then, with the rate of the two.
	step := func(want error) (child chain.Tx, paid int64) {
		t.Helper()
		list, err := l.Unroll(w.ctx)
		if !errors.Is(err, want) || len(list) != 1 || list[0].Err != nil || list[0].Waiting == "" {
			t.Fatalf("%+v, %v", list, err)
		}
		pool := c.Mempool()
		if len(pool) != 2 || pool[0].Fee != 0 {
			t.Fatalf("%d transactions wait", len(pool))
		}
		return pool[1], pool[1].Fee * 4 / (pool[0].Weight + pool[1].Weight)
	}
	first, paid := step(nil)
	if paid != 2 {
		t.Errorf("paid %d sat/vB", paid)
	}
	mine(2, false)
	if again, _ := step(nil); again.Txid != first.Txid {
		t.Error("replaced after two blocks")
	}
	mine(1, false)
	second, paid := step(nil)
	if second.Txid == first.Txid || paid != 3 {
		t.Errorf("after three blocks %d sat/vB are paid", paid)
	}
	if again, _ := step(nil); again.Txid != second.Txid {
		t.Error("replaced twice in a block")
	}
	rate.Store(20)
	third, paid := step(nil)
	if third.Txid == second.Txid || paid != 20 {
		t.Errorf("of 20 sat/vB %d are paid", paid)
	}
	rate.Store(500)
	if again, _ := step(client.ErrFeeCoin); again.Txid != third.Txid {
		t.Error("replaced by what it could not pay")
	}
	rate.Store(1)
	mine(3, false)
	if again, _ := step(nil); again.Txid != third.Txid {
		t.Error("outbid far beyond the estimate")
	}
	mine(1, true)
	if list, err := l.Unroll(w.ctx); err != nil || !list[0].OnChain() {
		t.Fatalf("%+v, %v", list, err)
	}
}
