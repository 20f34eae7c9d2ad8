package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
)

var (
	// ErrPinned is returned when the server or operator is not the one that the
	// wallet was made with.
	ErrPinned = errors.New("client: not the server or operator that is pinned")
	// ErrRotated is returned, with ErrPinned, for whatever would sign anew while the
	// operator has another signer key than the wallet's scripts name, until its owner
	// has accepted that: AcceptOperator. Reading goes on: Keep fetches exit data, and
	// Export gives what Leave brings the coins on chain with.
	ErrRotated = errors.New("client: the operator signs with another key than the wallet's scripts name")
	// ErrPending is returned for what a wallet may not do before Vigil has taken its
	// acknowledgment, such as showing an address. Create again.
	ErrPending = errors.New("client: the wallet is not confirmed yet")
	// ErrConfig is returned for a Config that lacks something.
	ErrConfig = errors.New("client: incomplete configuration")
)

// The numbers of a key's participants; cold shares are numbered from 2.
const (
	deviceID = 0
	vigilID  = 1
)

// Config says with whom a device speaks. Server, HostKey, Operator and Store are
// required.
type Config struct {
	// Server is Vigil's URL, HostKey its key, known from elsewhere: a pairing code,
	// or whoever runs it. Nothing that is not signed by it is believed.
	Server  string
	HostKey bip340.PubKey
	// Operator is the Ark operator's URL.
	Operator string
	// Esplora is the URL of a chain's API; boarding and exits need it.
	Esplora string
	// MaxFee is what the operator may take for one settlement, in satoshis, beyond
	// what a device pays in any case: a tenth of the coins, or 5,000 sats a coin.
	MaxFee int64
	// Store keeps the device's keys and state: secret/sealed in a directory of its
	// own. It stays the caller's to close.
	Store secret.Store
	// HTTP makes the calls to Vigil; nil is a client of its own.
	HTTP connect.HTTPClient
	// Now is the clock; nil is the wall clock.
	Now func() time.Time
	// RetryWait is how long a call waits before it is made again that got no answer,
	// or met a busy server; the waits double. 0 is 300 ms.
	RetryWait time.Duration
	// BatchWait is how long Keep waits for a batch that moves coins before it goes on to
	// the rest. 0 is twelve of the operator's sessions, and five minutes at least.
	BatchWait time.Duration
	// Log receives what happens without being asked for; nil discards it.
	Log *slog.Logger
}

func (c *Config) check() error {
	if c.Server == "" || c.Operator == "" || c.Store == nil || c.HostKey == (bip340.PubKey{}) {
		return fmt.Errorf("%w: Server, HostKey, Operator and Store are needed", ErrConfig)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.RetryWait == 0 {
		c.RetryWait = retryWait
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Wallet is the device's side of a wallet. Its methods are safe for concurrent
// use.
type Wallet struct {
	cfg   Config
	store store
	vigil *vigilConn
	op    *operator.Client
	chain *esplora.Client // nil without an Esplora

	spending sync.Mutex // one payment, settlement or delegation at a time: they share coins

	mu       sync.Mutex
	st       *state // read by current, once others know of the wallet
	scripts  *scripts
	behind   bool // Vigil knows an earlier generation of scripts as the current one
	identity *bip340.Key
	share    *frost.Share
	context  *frost.Context
	known    []ark.VTXO // as last seen
	cold     *coldSigner
}

// Open takes up the wallet of a store, or returns ErrNoWallet. It talks to
// nobody yet.
func Open(ctx context.Context, cfg Config) (*Wallet, error) {
	w, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if len(w.st.Wallet) == 0 {
		w.Close()
		return nil, fmt.Errorf("%w: its key was not made to the end; create it again", ErrPending)
	}
	return w, nil
}

// open takes up whatever is in the store.
func open(ctx context.Context, cfg Config) (*Wallet, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	w := &Wallet{cfg: cfg, store: store{cfg.Store}}
	var err error
	if w.st, err = w.store.load(ctx); err != nil {
		return nil, err
	}
	if string(w.st.Server) != string(cfg.HostKey[:]) {
		return nil, fmt.Errorf("%w: the host key is %x, not %s", ErrPinned, w.st.Server, cfg.HostKey)
	}
	if err := w.connect(); err != nil {
		return nil, err
	}
	if err := w.reload(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// connect opens the ways to operator, chain and Vigil.
func (w *Wallet) connect() (err error) {
	if w.cfg.Esplora != "" {
		if w.chain, err = esplora.New(w.cfg.Esplora, nil); err != nil {
			return err
		}
	}
	w.vigil = dialVigil(w.cfg, w.st.Network)
	w.op, err = operator.Dial(operator.Config{URL: w.cfg.Operator, Log: w.cfg.Log})
	return err
}

// reload makes keys and scripts of what the state says.
func (w *Wallet) reload(ctx context.Context) error {
	scalar, err := w.store.Get(ctx, nameIdentity)
	if err != nil {
		return fmt.Errorf("client: identity key: %w", err)
	}
	defer scalar.Burn()
	if w.identity, err = bip340.NewKey(scalar); err != nil {
		return err
	}
	if len(w.st.Wallet) == 0 {
		return nil
	}
	g, err := descriptor.DecodeGenerations(w.st.Descriptor, w.st.Older)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	w.describe(g)
	return w.loadShare(ctx)
}

// describe gives the wallet its scripts.
func (w *Wallet) describe(g descriptor.Generations) {
	s := newScripts(g)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scripts = s
}

// loadShare loads the share of the active epoch. Its caller holds the lock, or is
// alone with the wallet.
func (w *Wallet) loadShare(ctx context.Context) error {
	e, err := w.st.active()
	if err != nil {
		return err
	}
	info, err := e.info()
	if err != nil {
		return err
	}
	scalar, err := w.store.Get(ctx, named(nameShare, e.Number))
	if err != nil {
		return fmt.Errorf("client: share of epoch %d: %w", e.Number, err)
	}
	defer scalar.Burn()
	share, err := frost.NewShare(info, w.st.ID, scalar)
	if err != nil {
		return err
	}
	signers, err := info.Signers(signerIDs(w.st.ID)...)
	if err != nil {
		return err
	}
	w.share, w.context = share, signers.Untweaked()
	return nil
}

// signerIDs are the device and Vigil, ascending.
func signerIDs(own int) []int {
	if own < vigilID {
		return []int{own, vigilID}
	}
	return []int{vigilID, own}
}

// Close ends all connections and wipes the keys from memory.
func (w *Wallet) Close() {
	if w.op != nil {
		_ = w.op.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.identity != nil {
		w.identity.Burn()
	}
	if w.share != nil {
		w.share.Burn()
	}
}

// ID is the wallet's id.
func (w *Wallet) ID() vigil.WalletID { return vigil.WalletID(w.current().Wallet) }

// Descriptor is the public description of the wallet's current scripts.
func (w *Wallet) Descriptor() descriptor.Descriptor { return w.own().Descriptor }

// Generations are the descriptors that the wallet has had, the current one last.
func (w *Wallet) Generations() descriptor.Generations { return slices.Clone(w.own().gens) }

// Address is where the wallet receives in Ark. Before Vigil has taken the
// device's acknowledgment it is ErrPending: coins paid earlier could be lost. It is
// ErrRotated for a device that was recovered with scripts that the operator has no
// more, before its owner accepted others.
func (w *Wallet) Address() (ark.Address, error) {
	if err := w.receives(); err != nil {
		return ark.Address{}, err
	}
	return w.own().Address(), nil
}

// BoardingAddress is the on-chain address whose coins Board takes into Ark.
func (w *Wallet) BoardingAddress() (string, error) {
	if err := w.receives(); err != nil {
		return "", err
	}
	return w.own().BoardingAddress(), nil
}

// receives says whether an address may be shown.
func (w *Wallet) receives() error {
	if err := w.confirmed(); err != nil {
		return err
	}
	if w.current().Unsure {
		return errUnsure()
	}
	return nil
}

// errUnsure is for whatever would pay scripts that Vigil alone told of.
func errUnsure() error {
	return fmt.Errorf("%w: %w: the wallet's scripts are not those that the operator announces, and no backup vouched for them: "+
		"see what it announces, and accept it (vigil wallet accept-operator)", ErrPinned, ErrRotated)
}

func (w *Wallet) confirmed() error {
	if !w.current().Acknowledged {
		return ErrPending
	}
	return nil
}

func (w *Wallet) now() time.Time { return w.cfg.Now() }

// params are the operator's parameters for whatever is signed: its signer must be
// the one that the wallet's scripts name.
func (w *Wallet) params(ctx context.Context) (ark.Params, error) {
	p, err := w.op.Params(ctx)
	if err != nil {
		return p, err
	}
	st := w.current()
	if p.Network != st.Network {
		return p, fmt.Errorf("%w: the operator is on %s", ErrPinned, p.Network)
	}
	if st.Unsure {
		return p, errUnsure()
	}
	signer := w.own().Signer
	if signer == (bip340.XOnly{}) { // its key is being made
		key, err := bip340.ParsePubKey(st.Signer)
		if err != nil {
			return p, fmt.Errorf("%w: the operator's signer: %w", ErrState, err)
		}
		signer = key.XOnly()
	}
	return p, signsFor(p, signer)
}

// signsFor says whether the operator's signer is the one that scripts name, and
// what to do when it is not.
func signsFor(p ark.Params, signer bip340.XOnly) error {
	if p.SignerKey.XOnly() == signer {
		return nil
	}
	if !slices.ContainsFunc(p.DeprecatedSigners, func(d ark.DeprecatedSigner) bool { return d.Key.XOnly() == signer }) {
		return fmt.Errorf("%w: %w: the operator's signer is %s, the wallet's %s, for which it signs no more: look at the operator's URL; "+
			"if its people say that the key is theirs, accept it (vigil wallet accept-operator), "+
			"and bring the coins of before on chain before they expire (vigil wallet exit --unilateral)",
			ErrPinned, ErrRotated, p.SignerKey, signer)
	}
	return fmt.Errorf("%w: %w: it is %s, and no longer %s, so nothing new is signed: ask the operator's people whether the key is theirs, "+
		"and accept it (vigil wallet accept-operator); the coins are moved then. If it is not, bring them on chain before they expire "+
		"(vigil wallet descriptor --backup, then vigil wallet exit --unilateral)",
		ErrPinned, ErrRotated, p.SignerKey, signer)
}

// signing is the share with the set of signers that it signs in.
func (w *Wallet) signing() (*frost.Share, *frost.Context, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.share == nil || !w.st.Acknowledged {
		return nil, nil, ErrPending
	}
	return w.share, w.context, nil
}

func (w *Wallet) signers() []uint32 {
	ids := signerIDs(w.current().ID)
	return []uint32{uint32(ids[0]), uint32(ids[1])}
}

// ask makes a call in the name of the device's identity key. A call whose
// repetition is not harmless is Sign, which takes care of that by itself.
func (w *Wallet) ask(ctx context.Context, method string, payload, answer proto.Message) error {
	who := w.caller()
	if method == "Sign" {
		return w.vigil.once(ctx, method, who, payload, answer)
	}
	return w.vigil.ask(ctx, method, who, payload, answer)
}

func (w *Wallet) caller() caller {
	w.mu.Lock()
	defer w.mu.Unlock()
	return caller{w.st.Wallet, w.identity, w.st.Cutover.Active}
}

// askHost makes a call in the name of the host key of the active epoch, a second
// time when Vigil had to be told of that epoch first.
func (w *Wallet) askHost(ctx context.Context, method string, payload, answer proto.Message) error {
	err := w.askEpoch(ctx, w.caller().epoch, method, payload, answer)
	if !behind(err) {
		return err
	}
	if err := w.catchUp(ctx, err); err != nil {
		return err
	}
	return w.askEpoch(ctx, w.caller().epoch, method, payload, answer)
}

func (w *Wallet) askEpoch(ctx context.Context, epoch uint32, method string, payload, answer proto.Message) error {
	key, err := w.hostKey(ctx, epoch)
	if err != nil {
		return err
	}
	defer key.Burn()
	return w.vigil.ask(ctx, method, caller{w.current().Wallet, key, epoch}, payload, answer)
}

func (w *Wallet) hostKey(ctx context.Context, epoch uint32) (*bip340.Key, error) {
	scalar, err := w.store.Get(ctx, named(nameHost, epoch))
	if err != nil {
		return nil, fmt.Errorf("client: host key of epoch %d: %w", epoch, err)
	}
	defer scalar.Burn()
	return bip340.NewKey(scalar)
}

// current is the state as it is now. It does not change any more: update makes
// another.
func (w *Wallet) current() *state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.st
}

// update changes the state durably, or not at all.
func (w *Wallet) update(ctx context.Context, change func(*state) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := *w.st
	next.Epochs = append([]epoch(nil), w.st.Epochs...)
	next.Prepared = append([]prepared(nil), w.st.Prepared...)
	if err := change(&next); err != nil {
		return err
	}
	if err := w.store.save(ctx, &next); err != nil {
		return err
	}
	w.st = &next
	return nil
}

// seen are the coins as last read.
func (w *Wallet) seen() []ark.VTXO {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known
}
