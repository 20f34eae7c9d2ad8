package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/upkeep"
	"github.com/vigil-ark/vigil/wallet"
)

// hurried is the wall clock, moved ahead at will, whose shortest waits are
// shortened further: the operator's registration takes the least that it allows, a
// second, and nobody is late for it. It ends when the clock is moved, so that no
// round begins in one time and ends in another.
type hurried struct {
	moved
	mu    sync.Mutex
	short map[*time.Timer]func()
}

func (h *hurried) AfterFunc(d time.Duration, f func()) func() {
	if d > time.Second {
		return h.moved.AfterFunc(d, f)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var t *time.Timer
	t = time.AfterFunc(d/6, func() {
		h.mu.Lock()
		delete(h.short, t)
		h.mu.Unlock()
		f()
	})
	h.short[t] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		t.Stop()
		delete(h.short, t)
	}
}

// Advance moves the clock.
func (h *hurried) Advance(d time.Duration) {
	h.moved.Advance(d)
	h.mu.Lock()
	defer h.mu.Unlock()
	for t, f := range h.short {
		if t.Stop() {
			go f()
		}
		delete(h.short, t)
	}
}

// fuse kills a process at its n-th durable write from when it was armed: just
// before the write, or just after it, when nobody hears of it any more. 0 is
// never.
type fuse struct {
	mu    sync.Mutex
	left  int
	after bool
	dead  bool
}

func (f *fuse) arm(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.after = n, after
}

func (f *fuse) blow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

func (f *fuse) blown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

var errBlown = errors.New("killed")

// write runs one durable write, or none.
func (f *fuse) write(down error, write func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errors.Join(down, errBlown)
	}
	last := f.left == 1
	f.left = max(f.left-1, 0)
	if last && !f.after {
		f.dead = true
		return errors.Join(down, errBlown)
	}
	err := write()
	if last {
		f.dead = true
		return errors.Join(down, errBlown)
	}
	return err
}

func (f *fuse) read(down error) error {
	if f.blown() {
		return errors.Join(down, errBlown)
	}
	return nil
}

// tape keeps every byte that was ever written to a store or a log.
type tape struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// fusedKV is a kv.Store of one process, with all that it writes on tape.
type fusedKV struct {
	*kvtest.Memory
	fuse *fuse
	tape *tape
}

func (s *fusedKV) View(ctx context.Context, f func(kv.Reader) error) error {
	if err := s.fuse.read(kv.ErrUnavailable); err != nil {
		return err
	}
	return s.Memory.View(ctx, f)
}

func (s *fusedKV) Update(ctx context.Context, f func(kv.Writer) error) error {
	return s.fuse.write(kv.ErrUnavailable, func() error {
		return s.Memory.Update(ctx, func(w kv.Writer) error { return f(tapedWriter{w, s.tape}) })
	})
}

type tapedWriter struct {
	kv.Writer
	tape *tape
}

func (w tapedWriter) Put(tree string, key, value []byte) error {
	_, _ = w.tape.Write(append(append([]byte{'\n'}, key...), ' '))
	_, _ = w.tape.Write(value)
	return w.Writer.Put(tree, key, value)
}

// known are all secrets that were ever stored, by name.
type known struct {
	mu   sync.Mutex
	list map[string][]secret.Bytes
}

func (k *known) add(name string, value secret.Bytes) {
	_ = value.Use(func(b []byte) error { // a burned one is stored by nobody
		k.mu.Lock()
		defer k.mu.Unlock()
		k.list[name] = append(k.list[name], secret.New(bytes.Clone(b)))
		return nil
	})
}

// fusedSecrets is a secret.Store of one process.
type fusedSecrets struct {
	*secrettest.Memory
	fuse  *fuse
	known *known
}

func (s *fusedSecrets) Get(ctx context.Context, name string) (secret.Bytes, error) {
	if err := s.fuse.read(secret.ErrUnavailable); err != nil {
		return secret.Bytes{}, err
	}
	return s.Memory.Get(ctx, name)
}

func (s *fusedSecrets) List(ctx context.Context, prefix string) ([]string, error) {
	if err := s.fuse.read(secret.ErrUnavailable); err != nil {
		return nil, err
	}
	return s.Memory.List(ctx, prefix)
}

func (s *fusedSecrets) Put(ctx context.Context, name string, value secret.Bytes) error {
	s.known.add(name, value)
	return s.fuse.write(secret.ErrUnavailable, func() error { return s.Memory.Put(ctx, name, value) })
}

func (s *fusedSecrets) Delete(ctx context.Context, name string) error {
	return s.fuse.write(secret.ErrUnavailable, func() error { return s.Memory.Delete(ctx, name) })
}

// site is a Vigil whose process comes and goes while its stores and its address
// stay.
type site struct {
	clock    *hurried
	operator string
	kv       *kvtest.Memory
	sec      *secrettest.Memory
	known    *known
	tape     *tape // of the key-value store
	log      *tape
	http     *httptest.Server
	starts   int

	mu  sync.RWMutex // held for reading by every request
	run *process     // nil: down
}

// process is one life of a Vigil.
type process struct {
	fuse    *fuse
	client  *operator.Client
	ledger  *ledger.Ledger
	secrets *fusedSecrets
	host    bip340.PubKey
	hub     *notify.Hub
	service *wallet.Service
	engine  *renewal.Engine
	edge    *rpc.Server
	stop    context.CancelFunc
	stopped chan error
	answers atomic.Int64 // that are to be lost
}

type historySessions struct{ *signer.Signer }

func (s historySessions) Open(ctx context.Context, recs []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	return s.Signer.Open(ctx, recs)
}

func newSite(ctx context.Context, clock *hurried, operatorURL string) (*site, error) {
	s := &site{
		clock: clock, operator: operatorURL, kv: kvtest.NewMemory(), sec: secrettest.NewMemory(),
		known: &known{list: map[string][]secret.Bytes{}}, tape: &tape{}, log: &tape{},
	}
	first := &fuse{}
	if err := ledger.Create(ctx, &fusedKV{s.kv, first, s.tape}, ledger.Generation{1}); err != nil {
		return nil, err
	}
	if _, err := signer.New(&fusedSecrets{s.sec, first, s.known}).AddHostKey(ctx); err != nil {
		return nil, err
	}
	s.http = httptest.NewServer(s)
	return s, nil
}

// ServeHTTP hands a request to the process that runs; one that died says nothing.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.run == nil || s.run.fuse.blown() {
		panic(http.ErrAbortHandler)
	}
	s.run.edge.ServeHTTP(w, r)
	if s.run.fuse.blown() || s.run.answers.Add(-1) >= 0 {
		panic(http.ErrAbortHandler)
	}
}

// start begins a life over what the stores hold.
func (s *site) start(ctx context.Context) (err error) {
	p := &process{fuse: &fuse{}, stopped: make(chan error, 1)}
	s.kv, s.sec, s.starts = s.kv.Reopen(), s.sec.Reopen(), s.starts+1
	p.secrets = &fusedSecrets{s.sec, p.fuse, s.known}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if p.client, err = operator.Dial(operator.Config{URL: s.operator, Log: log}); err != nil {
		return err
	}
	params, err := p.client.Info(ctx)
	if err != nil {
		return err
	}
	if p.ledger, err = ledger.Open(ctx, &fusedKV{s.kv, p.fuse, s.tape}, ledger.Options{Now: s.clock.Now, Garbage: signer.Garbage}); err != nil {
		return err
	}
	keys := signer.New(p.secrets)
	host, err := keys.Host(ctx)
	if err != nil {
		return err
	}
	p.host, p.hub = host.PubKey(), notify.NewHub(notify.Limits{}, nil)
	work, cancel := context.WithCancel(ctx)
	stream, err := p.client.Events(ctx) // a joined batch may go on for the grace
	if err != nil {
		cancel()
		return err
	}
	pace := renewal.DefaultPace()
	pace.Duplicate, pace.First, pace.Longest, pace.Recoverable = 100*time.Millisecond, 200*time.Millisecond, 2*time.Second, 2*time.Second
	pace.Margin, pace.Confirm, pace.Watch, pace.Bans = 200*time.Millisecond, 200*time.Millisecond, time.Second, 0
	p.engine = renewal.New(renewal.Config{
		Pace: pace, Grace: 2 * time.Second, Confirmations: 1, Now: s.clock.Now, Log: log,
		Tell: func(rec *delegate.Record) { p.service.Moved(nil, rec) },
	}, p.client, stream, p.ledger, historySessions{keys}, nil, nil)
	p.service = wallet.New(wallet.Config{
		Pinned:       ledger.Pinned{Signer: params.SignerKey, Network: params.Network, URL: s.operator},
		Registration: wallet.Registration{Mode: wallet.Open}, Wake: p.engine.Wake, Withdraw: p.engine.Withdraw, Now: s.clock.Now, Log: log,
	}, wallet.Ports{
		Ledger: p.ledger, Keys: keys, Host: host, Operator: p.client, Hub: p.hub,
		Ceremonies: keys.Ceremonies(signer.CeremonyLimits{}, func() int64 { return s.clock.Now().Unix() }),
	})
	p.edge, err = rpc.New(rpc.Config{
		Limits:  rpc.Limits{Rate: 1e6, Burst: 1e6, WalletRate: 1e6, WalletBurst: 1e6},
		Wallets: &rpc.WalletService{Wallets: p.service, Replay: p.service, Signer: p.service, Network: string(params.Network)},
		Now:     s.clock.Now, Log: log,
	}, nil)
	if err != nil {
		cancel()
		return err
	}
	p.stop = cancel
	go func() { p.stopped <- p.engine.Run(work) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = p
	return nil
}

// halt ends the process: with its stores, as a graceful stop does, or without
// them and without a connection, as SIGKILL does.
func (s *site) halt(killed bool) error {
	p := s.run
	if p == nil {
		return nil
	}
	if killed {
		p.fuse.blow()
		_ = p.client.Close()
	}
	p.stop()
	err := <-p.stopped
	s.mu.Lock() // once every request has ended
	s.run = nil
	s.mu.Unlock()
	p.edge.Stop()
	p.edge.Close()
	p.hub.Close()
	p.service.Close()
	_ = p.client.Close()
	if p.fuse.blown() {
		return nil // whatever it said last
	}
	return err
}

// upkeep is one round of the slow work of a running Vigil.
func (s *site) upkeep(ctx context.Context) error {
	p := s.run
	_, replay := p.ledger.PruneReplay(ctx, 1000)
	_, ended := p.ledger.Dismantle(ctx)
	p.service.Sweep()
	return errors.Join(
		replay, ended, upkeep.Lapse(p.ledger)(ctx), upkeep.Secrets(p.ledger, p.secrets)(ctx),
		upkeep.Tombstones(p.ledger, p.client)(ctx), p.service.Round(ctx, 30*time.Second),
	)
}
