package wallet_test

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
	"github.com/vigil-ark/vigil/wallet"
)

// number is a setting of a benchmark from the environment.
func number(name string, preset int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return preset
}

// heap is what is live on the heap.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkWallets keeps many wallets in an embedded store and makes some of them
// active: resident memory grows with the active ones alone. VIGIL_WALLETS and
// VIGIL_ACTIVE set how many; the full measure is 1,000,000 and 1,000.
func BenchmarkWallets(b *testing.B) {
	known, active := number("VIGIL_WALLETS", 2_000), number("VIGIL_ACTIVE", 200)
	w := newWorld(b, func(c *wallet.Config) { c.Limits.Linger, c.Limits.Active = time.Hour, active+1 })
	d := made(w, 2, 2)
	row, err := w.ledger.Wallet(b.Context(), d.id)
	if err != nil {
		b.Fatal(err)
	}
	store, err := sqlite.Create(b.Context(), b.TempDir(), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := ledger.Create(b.Context(), store, ledger.Generation{1}); err != nil {
		b.Fatal(err)
	}
	led, err := ledger.Open(b.Context(), store, ledger.Options{Now: w.clock.now})
	if err != nil {
		b.Fatal(err)
	}
	ids := fill(b, led, row, known)
	service := wallet.New(w.cfg, wallet.Ports{
		Ledger: led, Keys: w.signer, Host: w.hostKey(), Operator: w.op, Hub: w.hub, Ceremonies: w.signer.Ceremonies(signer.CeremonyLimits{}, func() int64 { return start }),
	})
	ask := func(id vigil.WalletID) {
		c := auth.Call{Method: "/vigil.v1.WalletService/Devices", Wallet: id, Key: d.identity.PubKey(), At: w.clock.now()}
		if _, err := service.Devices(context.Background(), c, &vigilpb.DevicesRequest{}); err != nil { // the callers of a benchmark do not leave
			b.Fatal(err)
		}
	}
	idle := heap()
	began := time.Now()
	for i := range active {
		ask(ids[i*len(ids)/active])
	}
	woke := time.Since(began)
	awake := heap()
	n := 0
	for b.Loop() {
		ask(ids[(n%active)*len(ids)/active])
		n++
	}
	service.Close()
	asleep := heap()
	b.ReportMetric(float64(awake-idle)/float64(active), "B/active")
	b.ReportMetric(float64(asleep-idle)/float64(known), "B/idle")
	b.ReportMetric(float64(woke.Microseconds())/float64(active), "µs/wake")
	b.ReportMetric(float64(known), "known")
}

// fill makes as many wallets as wanted out of one row.
func fill(b *testing.B, led *ledger.Ledger, row *ledger.Wallet, n int) []vigil.WalletID {
	ids := make([]vigil.WalletID, n)
	var writers sync.WaitGroup
	const together = 64
	for from := range together {
		writers.Go(func() {
			for i := from; i < n; i += together {
				w := row.Clone()
				binary.BigEndian.PutUint64(w.ID[:], uint64(i+1)*0x9e3779b97f4a7c15)
				w.Epochs[0].Hosts = append(w.Epochs[0].Hosts[:0:0], w.Epochs[0].Hosts...)
				binary.BigEndian.PutUint64(w.Epochs[0].Hosts[0][1:], uint64(i+1))
				w.Scripts = [][]byte{binary.BigEndian.AppendUint64(nil, uint64(i+1))}
				w.Secrets = nil
				if _, err := led.CreateWallet(context.Background(), w, ledger.Extras{}); err != nil { // a benchmark's own writers
					b.Error(err)
					return
				}
				ids[i] = w.ID
			}
		})
	}
	writers.Wait()
	return ids
}

// BenchmarkSign is one Sign of one delegate over twenty coins, 43 signatures, with
// both sides' work and all checks, without a disk; beside it the bare arithmetic.
func BenchmarkSign(b *testing.B) {
	w := newWorld(b)
	d := made(w, 2, 2)
	prepared, err := d.prepare(1)
	if err != nil {
		b.Fatal(err)
	}
	up := d.drawUp(prepared[0], validAt, 0, d.coins(20)...)
	var server, device time.Duration
	n := 0
	for b.Loop() {
		began := time.Now()
		q := d.ask(both(), up.docs...)
		asked := time.Now()
		a, err := q.send()
		if err != nil {
			b.Fatal(err)
		}
		answered := time.Now()
		if _, err := q.finish(a); err != nil {
			b.Fatal(err)
		}
		server += answered.Sub(asked)
		device += asked.Sub(began) + time.Since(answered)
		if n++; n%100 == 0 {
			w.clock.add(4 * time.Minute)
			if _, err := w.ledger.PruneReplay(b.Context(), 1000); err != nil {
				b.Fatal(err)
			}
		}
	}
	const signatures = 43
	b.ReportMetric(float64(server.Microseconds())/float64(n)/signatures, "µs/sig-server")
	b.ReportMetric(float64(device.Microseconds())/float64(n)/signatures, "µs/sig-device")
}
