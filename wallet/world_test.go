package wallet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/wallet"
)

// start is the time at which every test begins.
const start = 1_890_000_000

// world is a Vigil in memory with an operator that knows what it is told, whose
// process a test may kill at any durable write and start again.
type world struct {
	t      testing.TB
	clock  *clock
	op     *fakeOperator
	chain  wallet.Chain // nil: none
	panics bool         // the operator is one at which work panics
	crash  *crash
	mem    *kvtest.Memory
	sec    *secrettest.Memory
	cfg    wallet.Config

	signer    *signer.Signer
	ledger    *ledger.Ledger
	hub       *notify.Hub
	service   port
	woken     int
	withdrawn []vigil.DelegateID
}

// port is what a device reaches: the service itself, or one over the wire.
type port interface {
	rpc.Wallets
	rpc.Replay
	HostKey() bip340.PubKey
	Close()
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func key(t testing.TB, b byte) *bip340.Key {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func fresh(t testing.TB) *bip340.Key {
	t.Helper()
	k, scalar, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	scalar.Burn()
	return k
}

func params(t testing.TB) ark.Params {
	return ark.Params{
		Network: ark.Regtest, SignerKey: key(t, 2).PubKey(), ForfeitKey: key(t, 3).PubKey(),
		ForfeitScript: append([]byte{0x00, 0x14}, bytes.Repeat([]byte{0xcc}, 20)...),
		CheckpointScript: script.CSVMultisig{
			Multisig: script.Multisig{PubKeys: []bip340.XOnly{key(t, 3).PubKey().XOnly()}}, Sequence: ark.Delay(512).Sequence(),
		}.Script(),
		SessionSeconds: 30, ExitDelay: 512, BoardingDelay: 4096, UtxoMax: -1, VtxoMax: -1, Dust: 330, MaxTxWeight: 40_000, Digest: "d1",
	}
}

// newWorld starts a Vigil that anybody may have a wallet at; with changes the
// configuration.
func newWorld(t testing.TB, with ...func(*wallet.Config)) *world {
	t.Helper()
	w := &world{
		t: t, clock: &clock{at: time.Unix(start, 0)}, crash: &crash{},
		op:  &fakeOperator{params: params(t), coins: map[wire.OutPoint]ark.VTXO{}},
		mem: kvtest.NewMemory(), sec: secrettest.NewMemory(),
	}
	w.cfg = wallet.Config{
		Pinned:       ledger.Pinned{Signer: w.op.params.SignerKey, Network: ark.Regtest, URL: "http://operator"},
		Registration: wallet.Registration{Mode: wallet.Open}, Now: w.clock.now,
		Wake: func() { w.woken++ }, Withdraw: func(ids ...vigil.DelegateID) { w.withdrawn = append(w.withdrawn, ids...) },
	}
	for _, f := range with {
		f(&w.cfg)
	}
	if err := ledger.Create(t.Context(), w.mem, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.New(w.sec).AddHostKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() { w.crash.revive(); w.service.Close(); w.hub.Close() })
	return w
}

// open starts the process over what the stores hold.
func (w *world) open() {
	w.t.Helper()
	secrets := &crashSecrets{w.sec, w.crash}
	w.signer = signer.New(secrets)
	host, err := w.signer.Host(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger, err = ledger.Open(w.t.Context(), &crashKV{w.mem, w.crash}, ledger.Options{Now: w.clock.now, Garbage: signer.Garbage})
	if err != nil {
		w.t.Fatal(err)
	}
	w.hub = notify.NewHub(notify.Limits{}, nil)
	var op wallet.Operator = w.op
	if w.panics {
		op = panicking{w.op}
	}
	w.service = wallet.New(w.cfg, wallet.Ports{
		Ledger: w.ledger, Keys: w.signer, Host: host, Operator: op, Chain: w.chain, Hub: w.hub,
		Ceremonies: w.signer.Ceremonies(signer.CeremonyLimits{}, func() int64 { return w.clock.now().Unix() }),
	})
}

// restart kills the process and starts another.
func (w *world) restart() {
	w.t.Helper()
	w.crash.revive()
	w.service.Close()
	w.hub.Close()
	w.mem, w.sec = w.mem.Reopen(), w.sec.Reopen()
	w.open()
}

// fsck holds both stores to each other.
func (w *world) fsck() {
	w.t.Helper()
	names, err := w.sec.List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	report, err := fsck.Check(w.t.Context(), w.mem, &fsck.Secrets{Names: names, Service: map[bip340.PubKey]string{}})
	if err != nil {
		w.t.Fatal(err)
	}
	if !report.Clean() {
		w.t.Fatalf("fsck: %s", report)
	}
}

// secrets returns the names in the secret store.
func (w *world) secrets() []string {
	w.t.Helper()
	names, err := w.sec.List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// crash kills a process at its n-th durable write of either store: just before
// the write, or just after it, when nobody hears of it any more.
type crash struct {
	mu    sync.Mutex
	n, at int
	after bool
	dead  bool
}

// arm lets the n-th write from here on be the last.
func (c *crash) arm(n int, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n, c.at, c.after, c.dead = 0, n, after, false
}

func (c *crash) revive() { c.arm(0, false) }

func (c *crash) died() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *crash) reads() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errKilled
	}
	return nil
}

var errKilled = errors.New("killed")

// write runs one durable write.
func (c *crash) write(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errKilled
	}
	c.n++
	last := c.n == c.at
	if last && !c.after {
		c.dead = true
		return errKilled
	}
	err := f()
	if last {
		c.dead = true
		return errKilled
	}
	return err
}

type crashKV struct {
	*kvtest.Memory
	crash *crash
}

func (s *crashKV) View(ctx context.Context, f func(kv.Reader) error) error {
	if err := s.crash.reads(); err != nil {
		return errors.Join(kv.ErrUnavailable, err)
	}
	return s.Memory.View(ctx, f)
}

func (s *crashKV) Update(ctx context.Context, f func(kv.Writer) error) error {
	var own error
	err := s.crash.write(func() error { own = s.Memory.Update(ctx, f); return own })
	if errors.Is(err, errKilled) {
		return errors.Join(kv.ErrUnavailable, err)
	}
	return own
}

type crashSecrets struct {
	*secrettest.Memory
	crash *crash
}

func (s *crashSecrets) Get(ctx context.Context, name string) (secret.Bytes, error) {
	if err := s.crash.reads(); err != nil {
		return secret.Bytes{}, errors.Join(secret.ErrUnavailable, err)
	}
	return s.Memory.Get(ctx, name)
}

func (s *crashSecrets) Put(ctx context.Context, name string, value secret.Bytes) error {
	if err := s.crash.write(func() error { return s.Memory.Put(ctx, name, value) }); err != nil {
		return errors.Join(secret.ErrUnavailable, err)
	}
	return nil
}

func (s *crashSecrets) Delete(ctx context.Context, name string) error {
	if err := s.crash.write(func() error { return s.Memory.Delete(ctx, name) }); err != nil {
		return errors.Join(secret.ErrUnavailable, err)
	}
	return nil
}

// fakeOperator knows some coins.
type fakeOperator struct {
	mu     sync.Mutex
	params ark.Params
	coins  map[wire.OutPoint]ark.VTXO
	down   error
}

func (o *fakeOperator) Params(context.Context) (ark.Params, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.params, o.down
}

func (o *fakeOperator) Info(ctx context.Context) (ark.Params, error) { return o.Params(ctx) }

func (o *fakeOperator) VTXOs(_ context.Context, ops []wire.OutPoint) (list []ark.VTXO, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range ops {
		if v, ok := o.coins[op]; ok {
			list = append(list, v)
		}
	}
	return list, o.down
}

func (o *fakeOperator) VTXOsByScript(_ context.Context, scripts [][]byte, _ operator.Filter) (list []ark.VTXO, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range o.coins {
		for _, s := range scripts {
			if bytes.Equal(v.Script, s) {
				list = append(list, v)
			}
		}
	}
	return list, o.down
}

func (o *fakeOperator) set(f func(*fakeOperator)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(o)
}

// caller is one signed request as the edge hands it on.
func (w *world) caller(method string, k bip340.PubKey, id vigil.WalletID, epoch uint32) auth.Call {
	c := auth.Call{Method: "/vigil.v1.WalletService/" + method, Key: k, Epoch: epoch, At: w.clock.now()}
	if c.Wallet = id; id == (vigil.WalletID{}) {
		c.Host = k
	}
	_, _ = rand.Read(c.Nonce[:])
	_, _ = rand.Read(c.Hash[:])
	return c
}

// carry takes a request through the port as the edge does: permit, begin, call,
// finish.
func carry[A any](w *world, c auth.Call, call func(context.Context, auth.Call) (A, error)) (a A, err error) {
	ctx := w.t.Context()
	if c.Method == "halt" {
		return a, vigil.Errorf(vigil.CodeStopping, "the device stops here")
	}
	if err := w.service.Permit(ctx, c); err != nil {
		return a, err
	}
	if _, err := w.service.Begin(ctx, c); err != nil {
		return a, err
	}
	if a, err = call(ctx, c); err != nil {
		return a, err
	}
	return a, w.service.Finish(ctx, c, []byte("answer"))
}

// refusedWith holds an error to its documented code.
func refusedWith(t testing.TB, err error, want vigil.Code) {
	t.Helper()
	if got := vigil.CodeOf(err); err == nil || got != want {
		t.Fatalf("refused with %s (%v), want %s", got, err, want)
	}
}

// local is the service in this process.
func (w *world) local() *wallet.Service { return w.service.(*wallet.Service) }

func (w *world) hostKey() *signer.Host {
	w.t.Helper()
	host, err := w.signer.Host(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return host
}
