// Package arktest owns a faithful Ark operator in one process, for tests, the
// demo and development: the public API of arkd over gRPC, REST and SSE on one
// port, batches, off-chain transactions and indexer on a chain in memory,
// arkd's quirks included, and lies and faults on request. It must use none of
// Vigil's validators (ark/script, ark/intent, ark/forfeit, ark/tree) nor
// ark/batch, so that the two cannot share a mistake.
package arktest

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/internal/fees"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

// ErrConfig is returned by Start for settings that contradict each other.
var ErrConfig = errors.New("arktest: impossible settings")

// Fees are the operator's four CEL fee programs; an empty one costs nothing.
type Fees = fees.Programs

// DeprecatedSigner is an earlier signer key; a zero Cutoff never passes.
type DeprecatedSigner = tapscript.Deprecated

// Settings are the operator's parameters. Zero values mean the default given
// with each field. They can be changed while it runs (Operator.Update), which
// changes the digest. Delays count blocks below 512, seconds from 512 on, and
// then are rounded down to a multiple of 512.
type Settings struct {
	Version         string        // reported version; default "v0.9.15-arktest"
	SessionDuration time.Duration // default 10 s
	TreeExpiry      uint32        // batch expiry; default 2048
	ExitDelay       uint32        // smallest exit delay accepted; default 512
	PublicExitDelay uint32        // exit delay that GetInfo tells; default ExitDelay
	BoardingDelay   uint32        // default 4096
	CheckpointDelay uint32        // default 512
	MinParticipants int           // default 1
	MaxParticipants int           // default 128
	BanThreshold    int           // convictions that ban a script; default 3, negative: never
	BanDuration     time.Duration // default 300 s
	Dust            int64         // satoshis; default 330
	UtxoMin         int64         // default Dust
	UtxoMax         int64         // 0 means no bound; see NoBoarding
	NoBoarding      bool          // reports utxo_max_amount 0
	VtxoMin         int64         // of off-chain transactions; default 1
	VtxoMax         int64         // 0 means no bound
	MaxTxWeight     int64         // default 40000
	MaxOpReturns    int64         // default 3
	MaxAssets       int           // assets a VTXO may hold; default 50
	Fees            Fees

	// SettlementGap, when set, refuses intents over VTXOs that expire later than
	// now plus the gap.
	SettlementGap time.Duration
	// ForgiveForfeits makes a missing forfeit fail the batch without a conviction,
	// as arkd does with its live store in memory.
	ForgiveForfeits bool
	// UnrolledMargin is how long before its exit matures an unrolled VTXO is still
	// taken back; default 60 s.
	UnrolledMargin time.Duration
	// Deprecated are earlier signer keys.
	Deprecated []DeprecatedSigner
	// MinBuildVersion and RequireBuildVersion are the version guard.
	MinBuildVersion     string
	RequireBuildVersion bool
	// RequireDigest refuses calls without X-Digest.
	RequireDigest bool
	// Scheduled, when set, is a recurring window with its own session settings.
	Scheduled *ScheduledSession
}

// ScheduledSession is a window in which other session settings hold.
type ScheduledSession struct {
	Start, End      time.Time
	Period          time.Duration
	Duration        time.Duration
	MinParticipants int
	MaxParticipants int
}

// Config says how an operator is started; the zero value gives one that is
// good for regtest and real time.
type Config struct {
	Settings

	// Clock is the operator's and the chain's; nil is the wall clock.
	Clock Clock
	// Chain is used instead of a new one when set.
	Chain *chain.Chain
	// Addr and EsploraAddr are where to listen; default "127.0.0.1:0".
	Addr, EsploraAddr string
	// NoEsplora leaves the Esplora port closed.
	NoEsplora bool
	// Listen opens those addresses; nil is TCP. A network in memory lets the
	// operator run inside testing/synctest.
	Listen func(addr string) (net.Listener, error)
	// SignerKey, ForfeitKey are random when nil.
	SignerKey, ForfeitKey *btcec.PrivateKey
	// Liquidity is what the operator's wallet holds at the start, in satoshis;
	// default 200 BTC. Outputs of a batch at or above it make the intents vanish.
	Liquidity int64
	// BlockAfter is how old a mempool transaction gets before a block is mined by
	// itself, and BlockEvery how often one is mined anyway. Default with the wall
	// clock: 1 s and 30 s; with another clock, or negative: never (Operator.Mine).
	BlockAfter, BlockEvery time.Duration
	// Heartbeat is how long a stream is silent before one is sent; default 60 s.
	Heartbeat time.Duration
	// FinalizeLag is how long after the answer to FinalizeTx its VTXOs are there;
	// until then the payment counts as pending. arkd takes some milliseconds.
	FinalizeLag time.Duration
	// Log gets debug lines; nil discards them.
	Log *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.Settings = c.Settings.withDefaults()
	manual := c.Clock != nil
	if c.Clock == nil {
		c.Clock = SystemClock{}
	}
	if c.Listen == nil {
		c.Listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	or(&c.Addr, "127.0.0.1:0")
	or(&c.EsploraAddr, "127.0.0.1:0")
	or(&c.Liquidity, 200e8)
	or(&c.Heartbeat, time.Minute)
	if !manual {
		or(&c.BlockAfter, time.Second)
		or(&c.BlockEvery, 30*time.Second)
	}
	c.BlockAfter, c.BlockEvery = max(c.BlockAfter, 0), max(c.BlockEvery, 0)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, c.Settings.check()
}

func (s Settings) withDefaults() Settings {
	or(&s.Version, "v0.9.15-arktest")
	or(&s.SessionDuration, 10*time.Second)
	or(&s.TreeExpiry, 2048)
	or(&s.ExitDelay, 512)
	or(&s.PublicExitDelay, s.ExitDelay)
	or(&s.BoardingDelay, 4096)
	or(&s.CheckpointDelay, 512)
	or(&s.MinParticipants, 1)
	or(&s.MaxParticipants, 128)
	or(&s.BanThreshold, 3)
	or(&s.BanDuration, 300*time.Second)
	or(&s.Dust, 330)
	s.UtxoMin = max(s.UtxoMin, s.Dust)
	or(&s.UtxoMax, -1)
	or(&s.VtxoMin, 1)
	or(&s.VtxoMax, -1)
	or(&s.MaxTxWeight, 40000)
	or(&s.MaxOpReturns, 3)
	or(&s.MaxAssets, 50)
	or(&s.UnrolledMargin, time.Minute)
	s.Deprecated = slices.Clone(s.Deprecated)
	return s
}

func (s Settings) check() error {
	if s.ExitDelay == s.BoardingDelay {
		return fmt.Errorf("%w: exit and boarding delay are equal", ErrConfig)
	}
	blocks := s.TreeExpiry < 512
	for _, d := range []uint32{s.ExitDelay, s.PublicExitDelay, s.BoardingDelay, s.CheckpointDelay} {
		if (d < 512) != blocks {
			return fmt.Errorf("%w: delays of both kinds", ErrConfig)
		}
	}
	if s.MaxParticipants < s.MinParticipants {
		return fmt.Errorf("%w: at most %d and at least %d participants", ErrConfig, s.MaxParticipants, s.MinParticipants)
	}
	return nil
}

func or[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

func (s Settings) treeExpiry() tapscript.Delay { return tapscript.NewDelay(s.TreeExpiry) }
func (s Settings) exitDelay() tapscript.Delay  { return tapscript.NewDelay(s.ExitDelay) }
func (s Settings) boardingDelay() tapscript.Delay {
	return tapscript.NewDelay(s.BoardingDelay)
}

// blocksAllowed says whether block-typed locks are taken at all.
func (s Settings) blocksAllowed() bool { return s.TreeExpiry < 512 }
