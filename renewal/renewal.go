// Package renewal owns the engine that carries due delegates through the
// operator's batches, many wallets at once over one event stream. It decides
// when and what, writes every step down before it is taken, and recovers from
// whatever the last process left. It never sees a key: signatures are made
// behind the Sessions port.
package renewal

import (
	"context"
	"log/slog"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
)

// Operator is what the engine asks of the Ark operator; *operator.Client
// implements it. Every call has a deadline of its own.
type Operator interface {
	// Params are the parameters as last heard; Info asks for them again.
	Params(ctx context.Context) (ark.Params, error)
	Info(ctx context.Context) (ark.Params, error)
	CommitmentTx(ctx context.Context, txid chainhash.Hash) (operator.Commitment, error)
	VTXOsByScript(ctx context.Context, scripts [][]byte, filter operator.Filter) ([]ark.VTXO, error)
	VTXOs(ctx context.Context, outpoints []wire.OutPoint) ([]ark.VTXO, error)
	RegisterIntent(ctx context.Context, proof, message string) (intentID string, err error)
	DeleteIntent(ctx context.Context, proof, message string) error
	ConfirmRegistration(ctx context.Context, intentID string) error
	SubmitTreeNonces(ctx context.Context, batchID string, key bip340.PubKey, nonces map[chainhash.Hash]musig2.PubNonce) error
	SubmitTreeSignatures(ctx context.Context, batchID string, key bip340.PubKey, sigs map[chainhash.Hash]musig2.PartialSig) error
	SubmitForfeits(ctx context.Context, forfeits []string, commitment string) error
}

// Stream is the one long-lived event stream; *operator.Stream implements it.
type Stream interface {
	C() <-chan operator.Event
	Add(ctx context.Context, topics ...string) error
	Remove(topics ...string)
}

// Chain tells how deep a commitment transaction is; without one, the
// operator's word has to do.
type Chain interface {
	// Confirmations of txid: 0 in the mempool, -1 when it is in neither chain nor
	// mempool.
	Confirmations(ctx context.Context, txid chainhash.Hash) (int64, error)
	// Spender returns the confirmed transaction that spends op, if there is one.
	Spender(ctx context.Context, op wire.OutPoint) (txid chainhash.Hash, ok bool, err error)
}

// Sessions opens stored delegates for signing. Errors that match
// delegate.ErrSecretMissing, ErrSecretWrong or ErrDamaged quarantine the
// delegate; any other is tried again.
type Sessions interface {
	// Open rebuilds the sessions of delegates that are about to be registered, or
	// that join one batch. Those that
	// cannot be opened are in the map, and the others go on.
	Open(ctx context.Context, recs []*delegate.Record) (Session, map[vigil.DelegateID]error)
}

// Session signs for our delegates in one batch. Its nonces and keys die with
// Close.
type Session interface {
	// Proof returns a delegate's proof as base64 PSBT, ready to be registered: with
	// the delegate key's signature where the proof is over a leaf that carries it.
	Proof(id vigil.DelegateID) (string, error)
	Nonces(nodes []batch.SigningNode) (map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce, error)
	Sign(nodes []batch.SignRequest) (map[bip340.PubKey]map[chainhash.Hash]musig2.PartialSig, error)
	// Forfeits completes one delegate's forfeits with their connectors and signs
	// them; base64 PSBTs in the order of the record's inputs.
	Forfeits(id vigil.DelegateID, connectors map[wire.OutPoint]batch.Connector) ([]string, error)
	Close()
}

// Ledger is the durable state that the engine reads and moves; *ledger.Ledger
// implements it.
type Ledger interface {
	InFlight(ctx context.Context) ([]ledger.Flight, error)
	Delegate(ctx context.Context, id vigil.DelegateID) (*delegate.Record, error)
	Due(ctx context.Context, upTo time.Time, limit int, from ledger.Cursor) ([]ledger.Due, ledger.Cursor, error)
	NextDue(ctx context.Context) (time.Time, bool, error)
	Watching(ctx context.Context, limit int, from ledger.Cursor) ([]*delegate.Record, ledger.Cursor, error)
	Quarantine(ctx context.Context, due ledger.Due, why string) error
	DropStray(ctx context.Context, due ledger.Due) error
	Apply(ctx context.Context, changes ...ledger.Change) ([]ledger.Outcome, error)
	Waiting(ctx context.Context, olders ...vigil.DelegateID) (map[vigil.DelegateID]*delegate.Record, error)
	Branch(ctx context.Context, id vigil.DelegateID, commitment chainhash.Hash) (*delegate.Branch, error)
	VTXO(ctx context.Context, op wire.OutPoint) (*ledger.VTXO, error)
}

// Observer is told what the metrics count. Implementations must not block.
type Observer interface {
	Renewal(result string) // "settled", "failed", "spent", …
	StreamUp(up bool)
	Batch(at time.Time, joined int)
	Violation(rule string)
}

// Config of an Engine. Zero fields take their defaults.
type Config struct {
	Pace Pace
	// Window is the most delegates that are between registration and the end of
	// their batch; the others wait in the due index. Default 512: four batches of
	// arkd's 128 participants.
	Window int
	// Calls is the most calls to the operator at once. Default 16.
	Calls int
	// Confirmations that settle a commitment, when Chain is set. Default 6.
	Confirmations int64
	// Grace is how long Run lets a joined batch go on once its context has ended.
	// Default 30 s.
	Grace time.Duration
	// Tell hears of every delegate that ended, was quarantined or met a new failure,
	// as it is stored now. It must not block. Nil: nobody.
	Tell func(rec *delegate.Record)
	// SetBack hears that the clock was set back by minutes or more, so that attempts
	// which were noted while it ran ahead lie too far off. It must not block. Nil:
	// nobody.
	SetBack func()
	Log     *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Pace == (Pace{}) {
		c.Pace = DefaultPace()
	}
	if c.Window <= 0 {
		c.Window = 512
	}
	if c.Calls <= 0 {
		c.Calls = 16
	}
	if c.Confirmations <= 0 {
		c.Confirmations = 6
	}
	if c.Grace <= 0 {
		c.Grace = 30 * time.Second
	}
	if c.SetBack == nil {
		c.SetBack = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}
