package stock_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/stock"
)

// clients is how many submit at once, as in the target of intake.
const clients = 64

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// spread calls f for 0 to n-1 from all clients, and returns the wall clock and
// processor time that it took.
func spread(b *testing.B, n int, f func(i int) error) (wall, used time.Duration) {
	b.Helper()
	runtime.GC()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	before, began := cpu(b), time.Now()
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	wall, used = time.Since(began), cpu(b)-before
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	return wall, used
}

// BenchmarkIntake is the durable intake of delegates with one VTXO from 64
// clients. Its floor, measured in the same run over the same bodies, is the
// work of delegate's BenchmarkIntakeVerify: to parse and check them.
func BenchmarkIntake(b *testing.B) {
	f := newFixture(b)
	dir := filepath.Join(b.TempDir(), "kv")
	store, err := sqlite.Create(b.Context(), dir, sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if err := ledger.Create(b.Context(), store, ledger.Generation{1}); err != nil {
		b.Fatal(err)
	}
	led, err := ledger.Open(b.Context(), store, ledger.Options{Now: f.now})
	if err != nil {
		b.Fatal(err)
	}
	service, err := stock.New(stock.Config{
		Keys: []bip340.PubKey{key(b, 0x33).PubKey()}, Signer: f.op.params.SignerKey, Now: f.now,
	}, f.op, led)
	if err != nil {
		b.Fatal(err)
	}
	bodies := make([]vigil.Submission, b.N)
	var w *wallet
	for i := range bodies {
		if i%4 == 0 { // a wallet has a handful of delegates, one a day of expiry
			w = walletOf(f, numbered(b, i))
		}
		bodies[i] = w.body(i)
	}
	p := f.op.params
	estimator, err := fee.Compile(p.Fees)
	if err != nil {
		b.Fatal(err)
	}
	limits := delegate.StockLimits{Inputs: 128, Outputs: 8}
	took := make([]time.Duration, b.N)

	// Floor and subject take turns, so that a machine that others use too is as
	// fast for one as for the other.
	var wall, used, floor time.Duration
	for from := 0; from < b.N; from += 1024 {
		part := bodies[from:min(from+1024, b.N)]
		_, u := spread(b, len(part), func(i int) error {
			s := part[i]
			req, err := delegate.ParseStock(delegate.StockBody{Message: s.Message, Proof: s.Proof, Forfeits: s.Forfeits}, limits)
			if err != nil {
				return err
			}
			vtxos, err := f.op.VTXOs(context.Background(), req.Outpoints())
			if err != nil {
				return err
			}
			_, err = delegate.CheckStock(req, delegate.StockTerms{
				Params: p, Estimator: estimator, Keys: f.cfg.Keys, VTXOs: vtxos, Now: f.at,
			})
			return err
		})
		floor += u
		w, u := spread(b, len(part), func(i int) error {
			began := time.Now()
			sum, err := service.Submit(b.Context(), part[i])
			took[from+i] = time.Since(began)
			if err == nil && sum.State != "armed" {
				return errors.New(sum.State)
			}
			return err
		})
		wall += w
		used += u
	}
	n, err := led.Counts(b.Context())
	if err != nil || n[delegate.Armed] != uint64(b.N) {
		b.Fatalf("%v, %v", n, err)
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // of the whole, bodies and floor included: it says nothing
	b.ReportMetric(float64(used)/float64(floor), "x-floor")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(floor.Microseconds())/float64(b.N), "floor-µs/op")
	b.ReportMetric(float64(b.N)/wall.Seconds(), "op/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
