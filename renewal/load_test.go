//go:build unix

package renewal_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/signer"
)

// The operator of a load is a process of its own, this test binary once more,
// so that the processor time of the benchmark's process is Vigil's.
const operatorProcess = "VIGIL_LOAD_OPERATOR"

// batchSize and loadSession are arkd's participants a batch and the sessions
// that the load is measured with; loadExpiry is the coins' life in seconds, of
// which two hours are left when they are due. A block comes every loadBlock.
const (
	batchSize   = 128
	loadSession = 10 * time.Second
	loadExpiry  = 15 * 512
	loadBlock   = 2 * time.Second
)

// question is what the benchmark asks the operator's process; one JSON object a
// line.
type question struct {
	Mint []coinWanted `json:"mint,omitempty"`
}

type coinWanted struct {
	Script []byte `json:"script"`
	Amount int64  `json:"amount"`
}

// answer is what it hears: at once the URL, then one for each question.
type answer struct {
	URL     string          `json:"url,omitempty"`
	Esplora string          `json:"esplora,omitempty"`
	Error   string          `json:"error,omitempty"`
	Made    []wire.OutPoint `json:"made,omitempty"`
	Batches []batchSeen     `json:"batches,omitempty"`
	CPU     time.Duration   `json:"cpu,omitempty"`
}

type batchSeen struct {
	Phase  arktest.Phase `json:"phase"`
	Reason string        `json:"reason"`
	Listed int           `json:"listed"`
	Joined int           `json:"joined"`
}

// TestLoadOperator is no test: it is the operator's process of a load.
func TestLoadOperator(t *testing.T) {
	if os.Getenv(operatorProcess) == "" {
		t.Skip("runs only as the operator's process of BenchmarkLoad")
	}
	op, err := arktest.Start(arktest.Config{BlockEvery: loadBlock, Settings: arktest.Settings{
		SessionDuration: loadSession, MaxParticipants: batchSize, TreeExpiry: loadExpiry,
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{URL: op.URL(), Esplora: op.EsploraURL()}); err != nil {
		t.Fatal(err)
	}
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var q question
		if err := in.Decode(&q); err != nil {
			return // the benchmark is over
		}
		var a answer
		if len(q.Mint) > 0 {
			outs := make([]*wire.TxOut, len(q.Mint))
			for i, c := range q.Mint {
				outs[i] = &wire.TxOut{Value: c.Amount, PkScript: c.Script}
			}
			if a.Made, err = op.Mint(outs...); err != nil {
				a.Error = err.Error()
			}
		}
		for _, b := range op.Stats().Batches {
			a.Batches = append(a.Batches, batchSeen{Phase: b.Phase, Reason: b.Reason, Listed: len(b.Intents), Joined: len(b.Joined)})
		}
		a.CPU = processorTime()
		if err := out.Encode(a); err != nil {
			t.Fatal(err)
		}
	}
}

// processorTime is what this process has used so far, in user and kernel mode.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// remote is the operator's process as the benchmark sees it.
type remote struct {
	b        *testing.B
	url      string
	explorer string
	send     *json.Encoder
	hear     *json.Decoder
}

func startRemote(b *testing.B) *remote {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLoadOperator$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), operatorProcess+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			b.Errorf("the operator's process: %v", err)
		}
	})
	r := &remote{b: b, send: json.NewEncoder(in), hear: json.NewDecoder(out)}
	var hello answer
	if err := r.hear.Decode(&hello); err != nil {
		b.Fatal(err)
	}
	r.url, r.explorer = hello.URL, hello.Esplora
	return r
}

func (r *remote) ask(q question) answer {
	r.b.Helper()
	var a answer
	if err := r.send.Encode(q); err != nil {
		r.b.Fatal(err)
	}
	if err := r.hear.Decode(&a); err != nil {
		r.b.Fatal(err)
	}
	if a.Error != "" {
		r.b.Fatal(a.Error)
	}
	return a
}

// delegates makes n wallets with one coin each, all minted at once, and returns
// what their delegations become at intake.
func (r *remote) delegates(ctx context.Context, n int, service bip340.PubKey) []*delegate.Record {
	r.b.Helper()
	client, err := operator.Dial(operator.Config{URL: r.url})
	if err != nil {
		r.b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	params, err := client.Info(ctx)
	if err != nil {
		r.b.Fatal(err)
	}
	wallets := make([]*wallet.Wallet, n)
	wanted := make([]coinWanted, n)
	each(r.b, n, func(i int) error {
		key, s, err := bip340.GenerateKey()
		if err != nil {
			return err
		}
		s.Burn()
		wallets[i] = wallet.New(client, key, nil)
		to, err := wallets[i].Address(ctx, &service)
		wanted[i] = coinWanted{to.PkScript(), int64(10_000 + i)}
		return err
	})
	made := r.ask(question{Mint: wanted}).Made
	coins, err := client.VTXOs(ctx, made)
	if err != nil || len(coins) != n {
		r.b.Fatalf("%d coins of %d (%v)", len(coins), n, err)
	}
	at := make(map[wire.OutPoint]ark.VTXO, n)
	for _, c := range coins {
		at[c.Outpoint] = c
	}
	records := make([]*delegate.Record, n)
	each(r.b, n, func(i int) error {
		coin := []ark.VTXO{at[made[i]]}
		body, err := wallets[i].Delegate(ctx, coin, wallet.DelegateInfo{Key: service}, wallet.DelegateOptions{ValidAt: time.Now().Add(-time.Minute)})
		if err != nil {
			return err
		}
		req, err := delegate.ParseStock(delegate.StockBody{Message: body.Intent.Message, Proof: body.Intent.Proof, Forfeits: body.ForfeitTxs}, delegate.StockLimits{Inputs: 128, Outputs: 8})
		if err != nil {
			return err
		}
		records[i], err = delegate.CheckStock(req, delegate.StockTerms{Params: params, Keys: []bip340.PubKey{service}, VTXOs: coin, Now: time.Now().Unix()})
		return err
	})
	return records
}

// each runs f for 0 to n-1 on all processors.
func each(tb testing.TB, n int, f func(i int) error) {
	tb.Helper()
	var next atomic.Int64
	var group errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := f(i); err != nil {
					return fmt.Errorf("%d: %w", i, err)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		tb.Fatal(err)
	}
}

// production are the stores as `vigil serve` has them, in directories of the
// benchmark.
type production struct {
	kv      *sqlite.Store
	secrets *sealed.Store
	ledger  *ledger.Ledger
	signer  *signer.Signer
	service bip340.PubKey
}

func newProduction(b *testing.B) *production {
	b.Helper()
	dir, ctx := b.TempDir(), b.Context()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	var p production
	var err error
	p.kv, err = sqlite.Create(ctx, filepath.Join(dir, "kv"), sqlite.Options{})
	must(err)
	b.Cleanup(func() { must(p.kv.Close()) })
	must(sealed.GenerateKeyFile(filepath.Join(dir, "kek")))
	p.secrets, err = sealed.Create(ctx, filepath.Join(dir, "secrets"), sealed.KeyFile(filepath.Join(dir, "kek")), sealed.Options{})
	must(err)
	b.Cleanup(func() { must(p.secrets.Close()) })
	must(ledger.Create(ctx, p.kv, p.kv.Generation()))
	p.ledger, err = ledger.Open(ctx, p.kv, ledger.Options{})
	must(err)
	p.signer = signer.New(p.secrets)
	key, err := p.signer.AddServiceKey(ctx)
	must(err)
	p.service = key.Key
	return &p
}

// loadRate is how many become due in a second: 10,000 in a minute. A smaller
// load is as dense, and shorter.
const loadRate = 10_000 / 60.

// submit stores records, due evenly from a moment on when all are stored, which
// it returns.
func (p *production) submit(b *testing.B, records []*delegate.Record) time.Time {
	b.Helper()
	begins := time.Now().Add(5*time.Second + time.Duration(len(records))*time.Millisecond)
	var group errgroup.Group
	group.SetLimit(64)
	for i, rec := range records {
		rec.NextAttempt = begins.Add(time.Duration(float64(i) / loadRate * float64(time.Second))).Unix()
		group.Go(func() error {
			_, err := p.ledger.Submit(b.Context(), ledger.Submission{Record: rec})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	if late := time.Since(begins); late > 0 {
		b.Logf("storing took %v too long: more than planned is due at once", late)
	}
	return begins
}

// peak watches this process's heap and goroutines until it is stopped.
type peak struct {
	heap       uint64 // bytes in objects, live or not yet swept
	goroutines int
	stop, done chan struct{}
}

func watch() *peak {
	p := &peak{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			p.heap = max(p.heap, sample[0].Value.Uint64())
			p.goroutines = max(p.goroutines, runtime.NumGoroutine())
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

func (p *peak) end() {
	close(p.stop)
	<-p.done
}

// BenchmarkLoad renews delegates of as many wallets, of which 10,000 are due in
// a minute, two hours before they expire, at an operator that takes 128 a batch
// in sessions of 10 s: 1,000 of them, or as many as VIGIL_LOAD says. Processor
// time is that of this process from the first due second until the last one is
// settled: engine, ledger, stores, signer and the operator's client. The
// operator is another process, and the wallets are done before. Profiles can
// be narrowed to the same with -tagfocus=part=vigil.
//
// A renewal is settled on the operator's word, or, with VIGIL_LOAD_DEPTH, under
// as many blocks of two seconds as it says, asked of an Esplora.
func BenchmarkLoad(b *testing.B) {
	n, depth := fromEnv(b, "VIGIL_LOAD", 1000), fromEnv(b, "VIGIL_LOAD_DEPTH", 0)
	for b.Loop() {
		b.StopTimer()
		pprof.Do(b.Context(), pprof.Labels("part", "wallets"), func(ctx context.Context) { load(ctx, b, n, depth) })
		b.StartTimer()
	}
}

func fromEnv(b *testing.B, name string, otherwise int) int {
	b.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q", name, s)
	}
	return n
}

func load(ctx context.Context, b *testing.B, n, depth int) {
	far := startRemote(b)
	var p *production
	pprof.Do(ctx, pprof.Labels("part", "vigil"), func(context.Context) { p = newProduction(b) })
	begins := p.submit(b, far.delegates(ctx, n, p.service))
	runtime.GC()
	var idle runtime.MemStats
	runtime.ReadMemStats(&idle)
	theirs := far.ask(question{}).CPU
	<-time.After(time.Until(begins))

	began, used := time.Now(), processorTime()
	b.StartTimer()
	top := watch()
	pprof.Do(ctx, pprof.Labels("part", "vigil"), func(ctx context.Context) { p.renew(ctx, b, far, n, depth) })
	top.end()
	b.StopTimer()
	took, used := time.Since(began), processorTime()-used

	seen := far.ask(question{})
	sessions := 0
	for _, s := range seen.Batches {
		sessions++
		if s.Joined != batchSize || s.Phase != arktest.PhaseFinalized {
			b.Logf("batch %d: %s, %d of %d joined %s", sessions, s.Phase, s.Joined, s.Listed, s.Reason)
		}
	}
	if report, err := fsck.Check(ctx, p.kv, nil); err != nil || !report.Clean() {
		b.Errorf("fsck: %v %v", report, err)
	}
	least := (n + batchSize - 1) / batchSize
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(n) }
	b.ReportMetric(float64(n), "delegates")
	b.ReportMetric(float64(sessions), "sessions")
	b.ReportMetric(float64(sessions)/float64(least), "x-fewest")
	b.ReportMetric(per(used), "cpu-ms/delegate")
	b.ReportMetric(per(took), "ms/delegate")
	b.ReportMetric(per(seen.CPU-theirs), "operator-cpu-ms/delegate")
	b.ReportMetric(float64(idle.HeapAlloc)/1e6, "MB-before")
	b.ReportMetric(float64(top.heap)/1e6, "MB-peak")
	b.ReportMetric(float64(top.goroutines), "goroutines")
}

// renew runs an engine until n delegates are settled.
func (p *production) renew(ctx context.Context, b *testing.B, far *remote, n, depth int) {
	ctx, cancel := context.WithCancel(ctx)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	client, err := operator.Dial(operator.Config{URL: far.url, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	stream, err := client.Events(ctx)
	if err != nil {
		b.Fatal(err)
	}
	pace := renewal.DefaultPace()
	pace.Confirm = time.Second // as `vigil serve` has it on regtest
	var chain renewal.Chain
	if depth > 0 {
		if chain, err = esplora.New(far.explorer, nil); err != nil {
			b.Fatal(err)
		}
	}
	engine := renewal.New(renewal.Config{Pace: pace, Log: log, Confirmations: int64(depth)}, client, stream, p.ledger, sessions{p.signer}, chain, nil)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for settled := uint64(0); settled < uint64(n); {
		select {
		case <-tick.C:
		case err := <-ended:
			b.Fatalf("the engine ended: %v", err)
		}
		counts, err := p.ledger.Counts(ctx)
		if err != nil {
			b.Fatal(err)
		}
		settled = counts[delegate.Settled]
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	if err := client.Close(); err != nil {
		b.Fatal(err)
	}
}
