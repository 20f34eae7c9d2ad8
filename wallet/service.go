package wallet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
)

// Config of a Service. Zero fields but Pinned take their defaults.
type Config struct {
	// Pinned is the operator that this Vigil was set up with.
	Pinned ledger.Pinned
	// Version is the program's, OperatorURL where devices find the operator (empty:
	// not told) and Body the bytes of a request that the edge takes: for ServerInfo.
	Version     string
	OperatorURL string
	Body        int64
	// Registration says who may make a wallet.
	Registration Registration
	Limits       Limits
	// Window is how far a request's time may be off, and how long its nonce is
	// remembered; default 60 s.
	Window time.Duration
	// CoolDown passes between the announcement of a removal or deletion and its
	// confirmation; default a day.
	CoolDown time.Duration
	// ParamsAge is how long the operator's parameters serve before they are asked
	// for again; default a minute.
	ParamsAge time.Duration
	// DiskLow says that nothing new may be stored, DiskFull that no more is left than
	// renewals need, so that nothing is signed either, and Held that this ledger may
	// be of yesterday and nothing must be signed; nil: never.
	DiskLow, DiskFull, Held func() bool
	// Wake tells the renewal engine that a delegate may be due; nil: nobody.
	Wake func()
	// Withdraw takes queued intents of delegates back, so that what waits for it, a
	// cancellation or a replacement, is carried out; nil: nobody does.
	Withdraw func(ids ...vigil.DelegateID)
	Log      *slog.Logger     // nil: none
	Now      func() time.Time // nil: time.Now
}

// Limits bound what wallets may hold and ask. Zero fields take their defaults.
type Limits struct {
	Wallets      int           // known at once; default 1,000,000
	PerSource    int           // made from one source in a day, and under way at once; default 20
	Ceremonies   int           // open at once; default 1024
	Participants int           // of one key; default 16
	Devices      int           // of one wallet; default 16, which is also the most
	Tokens       int           // of one wallet; default 16, which is also the most
	Signatures   int           // of one Sign; default 512, which is also the most
	Documents    int           // of one Sign; default 64
	Prepared     int           // and not submitted, of one wallet; default 8
	PreparedFor  time.Duration // that a prepared id is good; default 1 h
	Delegates    int           // live ones of one wallet; default 64
	Inputs       int           // of one delegate; default 128
	Outputs      int           // of one delegate; default 8
	Watches      int           // open streams of one wallet; default 8
	WatchFor     time.Duration // that one may last; default 1 h
	Active       int           // wallets in memory; default 10,000
	Mailbox      int           // requests that may wait for one wallet; default 16
	Linger       time.Duration // that an idle wallet stays in memory; default 1 min
	Signing      int           // wallets that are signed for at once; default half the cores, and one
	SignWait     time.Duration // for a turn among them; default 5 s
	Audited      int           // refusals written down for one wallet in an hour; default 60
}

func or[T comparable](v *T, preset T) {
	var zero T
	if *v == zero {
		*v = preset
	}
}

func (l Limits) withDefaults() Limits {
	or(&l.Wallets, 1_000_000)
	or(&l.PerSource, 20)
	or(&l.Ceremonies, 1024)
	or(&l.Participants, 16)
	or(&l.Devices, ledger.MaxIdentities)
	or(&l.Tokens, ledger.MaxTokens)
	or(&l.Signatures, 512)
	or(&l.Documents, 64)
	or(&l.Prepared, 8)
	or(&l.PreparedFor, time.Hour)
	or(&l.Delegates, 64)
	or(&l.Inputs, 128)
	or(&l.Outputs, 8)
	or(&l.Watches, 8)
	or(&l.WatchFor, time.Hour)
	or(&l.Active, 10_000)
	or(&l.Mailbox, 16)
	or(&l.Linger, time.Minute)
	or(&l.Signing, max(1, runtime.GOMAXPROCS(0)/2))
	or(&l.SignWait, 5*time.Second)
	or(&l.Audited, 60)
	return l
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults().ceiling()
	or(&c.Window, time.Minute)
	or(&c.CoolDown, 24*time.Hour)
	or(&c.ParamsAge, time.Minute)
	if c.DiskLow == nil {
		c.DiskLow = func() bool { return false }
	}
	if c.DiskFull == nil {
		c.DiskFull = func() bool { return false }
	}
	if c.Held == nil {
		c.Held = func() bool { return false }
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	if c.Withdraw == nil {
		c.Withdraw = func(...vigil.DelegateID) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// patience is how long one command of a wallet may take: longer than any request
// waits, so that it is for what hangs.
const patience = 2 * time.Minute

// Service is what devices may ask for: it implements the ports of the edge. It
// is safe for concurrent use; every wallet's requests run one at a time.
type Service struct {
	cfg        Config
	ledger     Ledger
	keys       Keys
	ceremonies Ceremonies
	host       Host
	op         Operator
	chain      Chain // nil: nobody is asked
	hub        Hub

	wallets   *registry[state]
	founding  foundings
	admit     admissions
	turns     turns
	nonces    nonceMemory
	refusals  refusals
	strangers refusals // of keys that are none of the wallet's
	contexts  *musig2.Cache

	announced *operator.Announced

	mu  sync.Mutex
	pin ledger.Pinned
}

// Ports are what a Service works with. All but Chain are needed.
type Ports struct {
	Ledger     Ledger
	Keys       Keys
	Ceremonies Ceremonies
	Host       Host
	Operator   Operator
	Chain      Chain
	Hub        Hub
}

// New makes the service. It reads nothing and asks nobody; Close ends it.
func New(cfg Config, p Ports) *Service {
	s := &Service{
		cfg: cfg.withDefaults(), ledger: p.Ledger, keys: p.Keys, ceremonies: p.Ceremonies, host: p.Host, op: p.Operator, chain: p.Chain, hub: p.Hub,
		contexts: musig2.NewCache(contexts),
	}
	s.pin = s.cfg.Pinned
	s.announced = operator.NewAnnounced(s.op, s.pin.Signer, s.cfg.ParamsAge, s.cfg.Now)
	l := s.cfg.Limits
	s.founding = foundings{most: l.Ceremonies, perSource: l.PerSource}
	s.admit = admissions{perSource: l.PerSource}
	s.turns = newTurns(l.Signing, l.SignWait)
	s.refusals, s.strangers = refusals{most: l.Audited}, refusals{most: l.Audited}
	s.wallets = newRegistry(bounds[state]{
		load: s.load, gone: func(st *state) bool { return st.gone }, panicked: s.quarantined, mailbox: l.Mailbox, active: l.Active, linger: l.Linger, patience: patience,
	})
	return s
}

// contexts is how many keys of tree nodes are kept: a few batches' worth.
const contexts = 4096

// Close takes no more work, lets what was begun end, and wipes ceremonies.
func (s *Service) Close() {
	s.wallets.stop()
	s.ceremonies.Close()
}

// Active returns how many wallets are in memory, and how many are quarantined.
func (s *Service) Active() (active, quarantined int) { return s.wallets.count() }

// HostKey is the key that devices pin.
func (s *Service) HostKey() bip340.PubKey { return s.host.PubKey() }

// SignAnswer signs an answer's hash with the host key.
func (s *Service) SignAnswer(_ context.Context, hash [32]byte) ([64]byte, error) {
	return s.host.Sign(hash)
}

func (s *Service) now() int64 { return s.cfg.Now().Unix() }

// do runs f in the actor of the call's wallet, once its key was held to the row
// as it is then. What f refuses is audited.
func (s *Service) do(ctx context.Context, c auth.Call, f func(context.Context, *state) error) error {
	err := s.wallets.do(ctx, c.Wallet, func(ctx context.Context, st *state) error {
		err := permit(st.row, c, roleOf(c.Method))
		if err == nil {
			err = f(ctx, st)
		}
		if err == nil && path.Base(c.Method) == "BeginRefresh" { // all else that it did is in memory
			err = stored(s.ledger.Audit(ctx, s.allowed(st.row, c)))
		}
		return s.refused(ctx, st.row, c, err)
	})
	return acted(err)
}

// Repin takes up another signer of the operator's, once whoever runs this Vigil
// accepted it.
func (s *Service) Repin(p ledger.Pinned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pin = p
	s.announced.Pin(p.Signer)
}

func (s *Service) pinnedTo() ledger.Pinned {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pin
}

// held refuses what must not be done while this ledger may be of yesterday.
func (s *Service) held() error {
	if s.cfg.Held() {
		return vigil.Errorf(vigil.CodeOnHold, "this server was restored from a backup and its operator has not confirmed it yet; nothing was done")
	}
	return nil
}

// roomy refuses what is new while the disk is short.
func (s *Service) roomy() error {
	if s.cfg.DiskLow() {
		return vigil.Errorf(vigil.CodeDiskLow, "this server is short of disk and takes nothing new; what it has is kept alive")
	}
	return s.held()
}

// spare refuses, before anything of them is written, the calls of a device of which
// each leaves something on the disk, once what is left is for renewals. To look, to
// cancel, to recover and to delete goes on.
func (s *Service) spare(method string) error {
	switch path.Base(method) {
	case "Sign", "PrepareDelegates", "SubmitDelegate", "SetToken", "DropToken", "AcknowledgeBranches":
		if s.cfg.DiskFull() {
			return vigil.Errorf(vigil.CodeDiskLow, "this server's disk is full but for what renewals need; it signs nothing until there is room")
		}
	}
	return nil
}

// quarantined tells of a wallet whose work panicked.
func (s *Service) quarantined(id vigil.WalletID, why error, stack string) {
	s.cfg.Log.Error("work on a wallet panicked; the wallet is barred until the next start", "wallet", id, "err", why, "stack", stack)
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the caller is gone, and this must be written all the same
	defer cancel()
	if err := s.auditPanic(ctx, id); err != nil {
		s.cfg.Log.Error("the panic could not be audited", "wallet", id, "err", err)
	}
}

var errNoWallet = errors.New("wallet: no such wallet")

// load rehydrates a wallet.
func (s *Service) load(ctx context.Context, id vigil.WalletID) (*state, error) {
	snap, err := s.ledger.WalletSnapshot(ctx, id, lines)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, &vigil.Error{Code: vigil.CodeNotPermitted, Message: fmt.Sprintf("there is no wallet %s", id), Err: errNoWallet}
	}
	if err != nil {
		return nil, stored(err)
	}
	return newState(snap)
}
