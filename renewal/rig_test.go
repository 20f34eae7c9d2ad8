package renewal_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/internal/memnet"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
)

// rig is an operator, a Vigil without its edge, and devices, in one process and
// inside a bubble of testing/synctest: they talk over a network in memory, and the
// clock moves on when all of them wait. So a session of seconds takes none, and a
// busy machine misses no window.
type rig struct {
	t       *testing.T
	ctx     context.Context
	net     *memnet.Net
	op      *arktest.Operator
	kv      *kvtest.Memory
	secrets *secrettest.Memory
	ledger  *ledger.Ledger
	signer  *signer.Signer
	service bip340.PubKey
	pace    renewal.Pace
	log     *slog.Logger
	grace   time.Duration
	chain   renewal.Chain // nil: the operator's word

	tell func(*delegate.Record) // hears of what becomes of delegates; nil: nobody

	window  int                                     // 0: the engine's own
	now     func() time.Time                        // the engine's clock; nil: time.Now
	setBack func()                                  // hears of a clock that was set back; nil: nobody
	led     *ledger.Ledger                          // the engine's; nil: ledger
	via     func(renewal.Operator) renewal.Operator // between engine and operator; nil: nothing

	stop    context.CancelFunc
	stopped chan error
	client  *operator.Client
	engine  *renewal.Engine
}

// sessions adapts the signer's concrete session to the engine's port.
type sessions struct{ *signer.Signer }

func (s sessions) Open(ctx context.Context, recs []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	return s.Signer.Open(ctx, recs)
}

func newRig(t *testing.T, set arktest.Settings, adjust ...func(*arktest.Config)) *rig {
	t.Helper()
	if set.SessionDuration == 0 {
		set.SessionDuration = 6 * time.Second
	}
	logs := &testLog{t: t}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(func() { cancel(); logs.close() })
	wire := &memnet.Net{}
	cfg := arktest.Config{Settings: set, Listen: wire.Listen}
	for _, f := range adjust {
		f(&cfg)
	}
	op, err := arktest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	r := &rig{
		t: t, ctx: ctx, net: wire, op: op, kv: kvtest.NewMemory(), secrets: secrettest.NewMemory(),
		log: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	r.grace = time.Millisecond
	r.pace = renewal.DefaultPace()
	r.pace.First, r.pace.Longest, r.pace.Recoverable = 200*time.Millisecond, 2*time.Second, 2*time.Second
	r.pace.Margin, r.pace.Confirm, r.pace.Ban = 200*time.Millisecond, 300*time.Millisecond, 3*time.Second
	if err := ledger.Create(ctx, r.kv, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	if r.ledger, err = ledger.Open(ctx, r.kv, ledger.Options{Garbage: signer.Garbage}); err != nil {
		t.Fatal(err)
	}
	r.signer = signer.New(r.secrets)
	key, err := r.signer.AddServiceKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.service = key.Key
	return r
}

// start runs an engine over what the stores hold.
func (r *rig) start() {
	r.t.Helper()
	client, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext, Log: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	work, cut := context.WithCancel(r.ctx) // the stream outlives the stop
	stream, err := client.Events(work)
	if err != nil {
		r.t.Fatal(err)
	}
	var op renewal.Operator = client
	if r.via != nil {
		op = r.via(op)
	}
	led := r.ledger
	if r.led != nil {
		led = r.led
	}
	// A fresh signer, as after a restart: nothing of the last one's memory.
	r.engine = renewal.New(renewal.Config{Pace: r.pace, Window: r.window, Log: r.log, Grace: r.grace, Confirmations: 1, Now: r.now, Tell: r.tell, SetBack: r.setBack}, op, stream, led, sessions{signer.New(r.secrets)}, r.chain, nil)
	r.client, r.stop, r.stopped = client, cancel, make(chan error, 1)
	engine := r.engine
	go func() {
		err := engine.Run(ctx)
		cut()
		r.stopped <- err
	}()
	r.t.Cleanup(r.halt)
}

// halt stops the engine, as a graceful stop does.
func (r *rig) halt() {
	if r.stop == nil {
		return
	}
	r.stop()
	<-r.stopped
	_ = r.client.Close()
	r.stop = nil
}

// device makes a wallet with a client of its own.
func (r *rig) device() *wallet.Wallet {
	r.t.Helper()
	c, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	key, s, err := bip340.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	s.Burn()
	return wallet.New(c, key, nil)
}

// board gives d a coin of sats at its address with Vigil as delegate.
func (r *rig) board(d *wallet.Wallet, sats int64) ark.VTXO {
	r.t.Helper()
	return r.boardAll([]*wallet.Wallet{d}, sats)[0]
}

// boardAll boards one coin for each device, in as few batches as it takes.
func (r *rig) boardAll(devices []*wallet.Wallet, sats int64) []ark.VTXO {
	r.t.Helper()
	coins := make([]ark.VTXO, len(devices))
	var group errgroup.Group
	for i, d := range devices {
		group.Go(func() error {
			to, err := d.Address(r.ctx, &r.service)
			if err != nil {
				return err
			}
			addr, err := d.BoardingAddress(r.ctx)
			if err != nil {
				return err
			}
			at, err := r.op.Faucet(addr, sats)
			if err != nil {
				return err
			}
			if err := r.op.Mine(1); err != nil {
				return err
			}
			out, _ := r.op.Chain().Output(at)
			for {
				s, err := d.Board(r.ctx, to, wallet.BoardingCoin{Outpoint: at, Out: &out})
				if err != nil && r.ctx.Err() == nil {
					continue // a busy machine misses a window of a second now and then
				}
				if err != nil {
					return err
				}
				found, err := r.vtxos(s.Outputs[0].Outpoint)
				if err != nil || len(found) != 1 {
					return fmt.Errorf("boarded %v: %w", found, err)
				}
				coins[i] = found[0]
				return nil
			}
		})
	}
	if err := group.Wait(); err != nil {
		r.t.Fatal(err)
	}
	return coins
}

// mint gives each device a coin of the operator's own money, without a batch that
// a busy machine could miss or that settings could delay.
func (r *rig) mint(devices []*wallet.Wallet, sats int64) []ark.VTXO {
	r.t.Helper()
	outs := make([]*wire.TxOut, len(devices))
	for i, d := range devices {
		to, err := d.Address(r.ctx, &r.service)
		if err != nil {
			r.t.Fatal(err)
		}
		outs[i] = wire.NewTxOut(sats, to.PkScript())
	}
	made, err := r.op.Mint(outs...)
	if err != nil {
		r.t.Fatal(err)
	}
	coins, err := r.vtxos(made...)
	if err != nil || len(coins) != len(devices) {
		r.t.Fatalf("minted %v: %v", coins, err)
	}
	byOutpoint := map[wire.OutPoint]ark.VTXO{}
	for _, c := range coins {
		byOutpoint[c.Outpoint] = c
	}
	for i, op := range made {
		coins[i] = byOutpoint[op]
	}
	return coins
}

// crash ends the engine as SIGKILL does: nothing more is written, nothing more
// is said, and its connection is gone.
func (r *rig) crash() {
	r.t.Helper()
	r.kv.Fail(kv.ErrUnavailable)
	_ = r.client.Close()
	r.stop()
	<-r.stopped
	r.stop = nil
	r.kv.Fail(nil)
}

func (r *rig) vtxos(ops ...wire.OutPoint) ([]ark.VTXO, error) {
	c, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.VTXOs(r.ctx, ops)
}

// submit signs coins ahead, takes the delegate in, and returns its record.
func (r *rig) submit(d *wallet.Wallet, opt wallet.DelegateOptions, coins ...ark.VTXO) *delegate.Record {
	r.t.Helper()
	info := wallet.DelegateInfo{Key: r.service}
	if opt.ValidAt.IsZero() {
		opt.ValidAt = time.Now().Add(-10 * time.Second)
	}
	body, err := d.Delegate(r.ctx, coins, info, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := delegate.ParseStock(delegate.StockBody{Message: body.Intent.Message, Proof: body.Intent.Proof, Forfeits: body.ForfeitTxs}, delegate.StockLimits{Inputs: 128, Outputs: 8})
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := operator.Dial(operator.Config{URL: r.op.URL(), DialContext: r.net.DialContext})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	params, err := c.Info(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	now, err := c.VTXOs(r.ctx, req.Outpoints())
	if err != nil {
		r.t.Fatal(err)
	}
	rec, err := delegate.CheckStock(req, delegate.StockTerms{Params: params, Keys: []bip340.PubKey{r.service}, VTXOs: now, Now: time.Now().Unix()})
	if err != nil {
		r.t.Fatal(err)
	}
	receipt, err := r.ledger.Submit(r.ctx, ledger.Submission{Record: rec})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.engine != nil {
		r.engine.Wake()
	}
	return receipt.Record
}

// await waits until the delegate's record satisfies cond.
func (r *rig) await(id vigil.DelegateID, what string, cond func(*delegate.Record) bool) *delegate.Record {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		rec, err := r.ledger.Delegate(r.ctx, id)
		if err != nil {
			r.t.Fatal(err)
		}
		if cond(rec) {
			return rec
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("waiting for %s: the delegate is %s, %d attempts, last error %+v", what, rec.State, rec.Attempts, rec.LastError)
		}
	}
}

func (r *rig) awaitState(id vigil.DelegateID, s delegate.State) *delegate.Record {
	r.t.Helper()
	return r.await(id, s.String(), func(rec *delegate.Record) bool { return rec.State == s })
}

// clean holds that the store is sane and that the operator has nothing of ours
// left queued.
func (r *rig) clean() {
	r.t.Helper()
	report, err := fsck.Check(r.ctx, r.kv, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if !report.Clean() {
		r.t.Errorf("fsck: %s", report)
	}
	if q := r.op.Stats().Queue; len(q) != 0 {
		r.t.Errorf("the operator's queue still holds %v", q)
	}
}

// testLog writes to the test's log until the test is over.
type testLog struct {
	mu   sync.Mutex
	t    *testing.T
	over bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.t.Log(string(bytes.TrimSpace(p)))
	}
	return len(p), nil
}

func (l *testLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// onChain asks the test chain itself.
type onChain struct{ c *chain.Chain }

func (o onChain) Confirmations(_ context.Context, txid chainhash.Hash) (int64, error) {
	n, known := o.c.Confirmations(txid)
	if !known {
		return -1, nil
	}
	return int64(n), nil
}

func (o onChain) Spender(_ context.Context, op wire.OutPoint) (chainhash.Hash, bool, error) {
	tx, ok := o.c.Spender(op)
	if !ok {
		return chainhash.Hash{}, false, nil
	}
	id := tx.Txid
	n, _ := o.c.Confirmations(id)
	return id, n > 0, nil
}
