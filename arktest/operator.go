package arktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/esplora"
	"github.com/vigil-ark/vigil/arktest/internal/fees"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// ErrDown is returned by calls that need the operator up while it is down.
var ErrDown = errors.New("arktest: the operator is down")

// Operator is a running Ark operator with its chain. Its methods are safe for
// concurrent use.
type Operator struct {
	cfg    Config
	clock  Clock
	log    *slog.Logger
	chain  *chain.Chain
	store  *store
	wallet *wallet
	rec    *recorder
	faults *faults

	ctx    context.Context // ends with Close; mining and watching hang on it
	cancel context.CancelFunc
	wg     sync.WaitGroup

	esploraSrv *esplora.Server
	esploraWeb *http.Server
	esploraURL string

	mu         sync.RWMutex
	set        Settings
	signer     *keyPair
	old        []*keyPair // signers rotated out, whose keys are still here
	forfeit    *keyPair
	oldForfeit []*keyPair
	fee        *fees.Estimator
	proc       *process
	web        *frontend
	addr       string // fixed at the first start
	lies       lieQueue
}

// Start starts an operator. Close it to release ports and goroutines.
func Start(cfg Config) (*Operator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background()) // owned until Close
	op := &Operator{
		cfg: cfg, clock: cfg.Clock, log: cfg.Log, chain: cfg.Chain, store: newStore(),
		rec: newRecorder(cfg.Clock), faults: newFaults(cfg.Clock), ctx: ctx, cancel: cancel, addr: cfg.Addr,
	}
	if err := op.open(cfg); err != nil {
		op.Close()
		return nil, err
	}
	return op, nil
}

func (op *Operator) open(cfg Config) (err error) {
	if op.chain == nil {
		if op.chain, err = chain.New(chain.Config{Clock: cfg.Clock}); err != nil {
			return fmt.Errorf("starting the chain: %w", err)
		}
	}
	if op.signer, err = newKeyPair(cfg.SignerKey); err != nil {
		return err
	}
	if op.forfeit, err = newKeyPair(cfg.ForfeitKey); err != nil {
		return err
	}
	if err := op.apply(cfg.Settings); err != nil {
		return err
	}
	if op.wallet, err = newWallet(op.chain); err != nil {
		return err
	}
	if err := op.wallet.fund(cfg.Liquidity); err != nil {
		return err
	}
	if err := op.chain.Mine(1); err != nil {
		return fmt.Errorf("confirming the operator's funds: %w", err)
	}
	sub := op.chain.Subscribe(1 << 16)
	op.wg.Go(func() { op.watch(sub) })
	if cfg.BlockAfter > 0 || cfg.BlockEvery > 0 {
		op.wg.Go(func() { _ = op.chain.Run(op.ctx, cfg.BlockAfter, cfg.BlockEvery) })
	}
	if !cfg.NoEsplora {
		if err := op.openEsplora(cfg.EsploraAddr); err != nil {
			return err
		}
	}
	return op.Up()
}

// Close stops the operator and waits for its goroutines.
func (op *Operator) Close() {
	op.Down()
	op.cancel()
	if op.esploraWeb != nil {
		_ = op.esploraWeb.Close()
		op.esploraSrv.Close()
	}
	op.wg.Wait()
}

// Up starts the operator's process again after Down, on the same port, with
// an empty queue and a new cosigner key.
func (op *Operator) Up() error {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.proc != nil {
		return nil
	}
	if op.ctx.Err() != nil {
		return ErrDown
	}
	key, err := newKeyPair(nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(op.ctx)
	p := &process{
		op: op, ctx: ctx, cancel: cancel, key: key, queue: newQueue(),
		events: newBroker[*arkv1.GetEventStreamResponse](op.clock),
		txs:    newBroker[*arkv1.GetTransactionsStreamResponse](op.clock),
	}
	p.subs = newSubscriptions(op.clock)
	web, err := serve(op, p, op.addr)
	if err != nil {
		cancel()
		return err
	}
	op.proc, op.web, op.addr = p, web, web.addr
	p.wg.Go(p.run)
	return nil
}

// Down stops the operator's process as a crash does: streams are cut, the
// queue, the running batch and its nonces are lost; what was stored stays.
func (op *Operator) Down() {
	op.mu.Lock()
	p, web := op.proc, op.web
	op.proc, op.web = nil, nil
	op.mu.Unlock()
	if p == nil {
		return
	}
	p.cancel()
	web.close()
	p.events.closeAll()
	p.txs.closeAll()
	p.subs.closeAll()
	p.wg.Wait()
}

// Restart is Down and Up. KeepQueue keeps the registered intents, as an
// operator with its queue in Redis does.
func (op *Operator) Restart(opts ...RestartOption) error {
	op.mu.RLock()
	old := op.proc
	op.mu.RUnlock()
	op.Down()
	if err := op.Up(); err != nil {
		return err
	}
	for _, o := range opts {
		o(old, op.proc)
	}
	return nil
}

// RestartOption says what survives a restart.
type RestartOption func(old, now *process)

// KeepQueue keeps the queue over a restart.
func KeepQueue(old, now *process) {
	if old == nil {
		return
	}
	queued, _ := old.queue.view()
	now.repush(queued)
}

// URL is the operator's base URL for REST; gRPC clients dial its host.
func (op *Operator) URL() string {
	op.mu.RLock()
	defer op.mu.RUnlock()
	return "http://" + op.addr
}

// Addr is the operator's host and port.
func (op *Operator) Addr() string {
	op.mu.RLock()
	defer op.mu.RUnlock()
	return op.addr
}

// EsploraURL is the base URL of the chain's Esplora.
func (op *Operator) EsploraURL() string { return op.esploraURL }

// Chain is the operator's chain.
func (op *Operator) Chain() *chain.Chain { return op.chain }

// Mine mines n blocks.
func (op *Operator) Mine(n int) error { return op.chain.Mine(n) }

// Faucet pays sats to a regtest address; the payment is unconfirmed.
func (op *Operator) Faucet(addr string, sats int64) (wire.OutPoint, error) {
	a, err := address.DecodeAddress(addr, &chaincfg.RegressionNetParams)
	if err != nil {
		return wire.OutPoint{}, fmt.Errorf("faucet address: %w", err)
	}
	script, err := txscript.PayToAddrScript(a)
	if err != nil {
		return wire.OutPoint{}, fmt.Errorf("faucet address: %w", err)
	}
	return op.chain.Faucet(script, sats)
}

// Fund adds sats to the operator's own wallet and confirms them.
func (op *Operator) Fund(sats int64) error {
	if err := op.wallet.fund(sats); err != nil {
		return err
	}
	return op.chain.Mine(1)
}

// Settings returns the operator's current parameters.
func (op *Operator) Settings() Settings {
	op.mu.RLock()
	defer op.mu.RUnlock()
	return op.set
}

// Update changes parameters while the operator runs; a running batch keeps
// those it began with, but for the forfeit key and the fees.
func (op *Operator) Update(f func(*Settings)) error {
	op.mu.Lock()
	set := op.set
	op.mu.Unlock()
	f(&set)
	set = set.withDefaults()
	if err := set.check(); err != nil {
		return err
	}
	return op.apply(set)
}

func (op *Operator) apply(set Settings) error {
	est, err := fees.Compile(set.Fees, op.clock.Now)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.set, op.fee = set, est
	return nil
}

// RotateSigner makes a new signer key. The old one stays accepted until
// cutoff; zero means without limit.
func (op *Operator) RotateSigner(cutoff time.Time) error {
	key, err := newKeyPair(nil)
	if err != nil {
		return err
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.old = append(op.old, op.signer)
	op.set.Deprecated = append(op.set.Deprecated[:len(op.set.Deprecated):len(op.set.Deprecated)],
		DeprecatedSigner{Key: op.signer.pub, Cutoff: cutoff})
	op.signer = key
	return nil
}

// RotateForfeit makes a new forfeit key and address.
func (op *Operator) RotateForfeit() error {
	key, err := newKeyPair(nil)
	if err != nil {
		return err
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.oldForfeit = append(op.oldForfeit, op.forfeit)
	op.forfeit = key
	return nil
}

// forfeitFor returns the private key of a forfeit key, current or earlier.
func (op *Operator) forfeitFor(x [32]byte) *btcec.PrivateKey {
	op.mu.RLock()
	defer op.mu.RUnlock()
	for _, k := range op.oldForfeit {
		if k.x == x {
			return k.priv
		}
	}
	return op.forfeit.priv
}

func (op *Operator) forfeitKey() *keyPair {
	op.mu.RLock()
	defer op.mu.RUnlock()
	return op.forfeit
}

func (op *Operator) estimator() *fees.Estimator {
	op.mu.RLock()
	defer op.mu.RUnlock()
	return op.fee
}

func (op *Operator) signerPub() *btcec.PublicKey {
	op.mu.RLock()
	defer op.mu.RUnlock()
	return op.signer.pub
}

// signerKeys are the x-only signer keys, current and earlier.
func (op *Operator) signerKeys() [][32]byte {
	op.mu.RLock()
	defer op.mu.RUnlock()
	keys := [][32]byte{op.signer.x}
	for _, d := range op.set.Deprecated {
		keys = append(keys, tapscript.XOnly(d.Key))
	}
	return keys
}

// signerPrivs are the private signer keys that the operator still has.
func (op *Operator) signerPrivs() []*btcec.PrivateKey {
	op.mu.RLock()
	defer op.mu.RUnlock()
	keys := []*btcec.PrivateKey{op.signer.priv}
	for _, k := range op.old {
		keys = append(keys, k.priv)
	}
	return keys
}

// process returns the running process.
func (op *Operator) process() (*process, error) {
	op.mu.RLock()
	defer op.mu.RUnlock()
	if op.proc == nil {
		return nil, ErrDown
	}
	return op.proc, nil
}
