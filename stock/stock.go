// Package stock owns the delegate service for stock Arkade wallets (spec
// section 11): what such a wallet may submit, list and cancel. It composes the
// operator's parameters and indexer, the intake checks, the ledger and a
// wake-up of the renewal engine, and knows nothing of transports or keys.
package stock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// Operator is what intake asks of the Ark operator; *operator.Client implements
// it. Every call has a deadline of its own.
type Operator interface {
	operator.Announcer
	// VTXOs returns what the indexer knows of outpoints, unknown ones left out.
	VTXOs(ctx context.Context, outpoints []wire.OutPoint) ([]ark.VTXO, error)
	// DeleteIntent takes queued intents back that spend an input of the proof.
	DeleteIntent(ctx context.Context, proof, message string) error
}

// Ledger is where delegates are kept; *ledger.Ledger implements it.
type Ledger interface {
	Delegate(ctx context.Context, id vigil.DelegateID) (*delegate.Record, error)
	List(ctx context.Context, f ledger.Filter, limit int, from ledger.Cursor) ([]*delegate.Record, ledger.Cursor, error)
	Submit(ctx context.Context, s ledger.Submission) (ledger.Receipt, error)
	Cancel(ctx context.Context, prev *delegate.Record, deleted bool, garbage ...string) (*delegate.Record, error)
}

// Config of a Service. Zero fields but Keys and Signer take their defaults.
type Config struct {
	// Keys are the service keys: the first is the one that wallets are told to
	// name, the others are older ones whose delegates are still taken.
	Keys []bip340.PubKey
	// Signer is the operator's signer key that this Vigil was set up with.
	Signer bip340.PubKey
	// Fee is what a delegate pays, in satoshis; 0 for nothing.
	Fee int64
	// FeeAddress is the Ark address that the fee goes to, of a key that Vigil never
	// holds. Required with a Fee.
	FeeAddress string
	// FeeSlack is how many satoshis a delegate may pay the operator beyond a
	// quarter more than its fee programs ask for.
	FeeSlack int64
	// AnyDestination accepts outputs to scripts that are none of the inputs'.
	AnyDestination bool
	// Inputs, Outputs and PerScript bound a delegate, and the live delegates of one
	// script; default 128, 8 and 64.
	Inputs, Outputs, PerScript int
	// ParamsAge is how long parameters serve intake before they are asked for
	// again; default a minute.
	ParamsAge time.Duration
	// DiskLow says that nothing new may be stored; nil: never.
	DiskLow func() bool
	// Wake tells the renewal engine that a delegate may be due; nil: nobody is told.
	Wake func()
	Log  *slog.Logger     // nil: none
	Now  func() time.Time // nil: time.Now
}

func (c Config) withDefaults() Config {
	if c.Inputs <= 0 {
		c.Inputs = 128
	}
	if c.Outputs <= 0 {
		c.Outputs = 8
	}
	if c.PerScript <= 0 {
		c.PerScript = 64
	}
	if c.ParamsAge <= 0 {
		c.ParamsAge = time.Minute
	}
	if c.DiskLow == nil {
		c.DiskLow = func() bool { return false }
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// ErrConfig is returned for a configuration that cannot serve anybody.
var ErrConfig = errors.New("stock: invalid configuration")

// Service is vigil.Delegates for stock wallets. It is safe for concurrent use
// and has no goroutine of its own.
type Service struct {
	cfg     Config
	op      Operator
	ledger  Ledger
	address ark.Address // of the fee; zero without one

	announced *operator.Announced
}

var _ vigil.Delegates = (*Service)(nil)

// New makes the service. It asks nothing of the operator; Ready does.
func New(cfg Config, op Operator, led Ledger) (*Service, error) {
	s := &Service{cfg: cfg.withDefaults(), op: op, ledger: led}
	s.announced = operator.NewAnnounced(op, s.cfg.Signer, s.cfg.ParamsAge, s.cfg.Now)
	switch {
	case len(cfg.Keys) == 0:
		return nil, fmt.Errorf("%w: no service key", ErrConfig)
	case cfg.Fee < 0 || cfg.FeeSlack < 0:
		return nil, fmt.Errorf("%w: a fee or its slack is negative", ErrConfig)
	case cfg.Fee > 0 && cfg.FeeAddress == "":
		return nil, fmt.Errorf("%w: a fee of %d satoshis needs an address to go to, of a key that is not on this server", ErrConfig, cfg.Fee)
	case cfg.FeeAddress != "":
		var err error
		if s.address, err = ark.ParseAddress(cfg.FeeAddress); err != nil {
			return nil, fmt.Errorf("%w: fee address: %w", ErrConfig, err)
		}
	}
	return s, nil
}

// Ready says whether the operator is the one that this Vigil was set up with and
// the fee one that it lets be paid: what a start and a readiness check ask.
func (s *Service) Ready(ctx context.Context) error {
	p, err := s.announced.Current(ctx)
	if err != nil {
		return err
	}
	if s.cfg.Fee > 0 && s.cfg.Fee < p.Dust {
		return fmt.Errorf("%w: the fee of %d satoshis is below the operator's dust of %d, so no wallet could pay it", ErrConfig, s.cfg.Fee, p.Dust)
	}
	if s.address == (ark.Address{}) {
		return nil
	}
	if hrp := p.Network.HRP(); s.address.HRP != hrp {
		return fmt.Errorf("%w: the fee address begins with %q; this network's begin with %q", ErrConfig, s.address.HRP, hrp)
	}
	if s.address.Signer != p.SignerKey.XOnly() {
		return fmt.Errorf("%w: the fee address is one of another operator", ErrConfig)
	}
	for _, key := range s.cfg.Keys {
		own, err := ownAddress(key, p)
		if err != nil {
			return err
		}
		if own == s.address {
			return fmt.Errorf("%w: the fee address is of a key that is on this server; use an address of a wallet of yours", ErrConfig)
		}
	}
	return nil
}

// Terms tells the key that scripts and cosigners must name, and the fee.
func (s *Service) Terms(ctx context.Context) (vigil.Terms, error) {
	terms := vigil.Terms{Key: s.cfg.Keys[0].String(), Fee: s.cfg.Fee, Address: s.cfg.FeeAddress}
	if terms.Address != "" {
		return terms, nil
	}
	p, err := s.announced.Current(ctx)
	if err != nil {
		return vigil.Terms{}, err
	}
	own, err := ownAddress(s.cfg.Keys[0], p)
	if err != nil {
		return vigil.Terms{}, err
	}
	terms.Address = own.String()
	return terms, nil
}

// ownAddress is the address of a service key and the operator. Stock wallets
// want to be shown one even when there is no fee; nothing is meant to arrive.
func ownAddress(key bip340.PubKey, p ark.Params) (ark.Address, error) {
	tree, err := script.Default(key.XOnly(), p.SignerKey.XOnly(), p.ExitDelay)
	if err != nil {
		return ark.Address{}, fmt.Errorf("stock: own address: %w", err)
	}
	return ark.Address{HRP: p.Network.HRP(), Signer: p.SignerKey.XOnly(), Key: tree.OutputKey()}, nil
}

// signers are the operator's keys: what they sign proves nothing of an owner.
func signers(p ark.Params) []bip340.XOnly {
	keys := []bip340.XOnly{p.SignerKey.XOnly()}
	for _, d := range p.DeprecatedSigners {
		keys = append(keys, d.Key.XOnly())
	}
	return keys
}

func (s *Service) serves(key bip340.PubKey) bool { return slices.Contains(s.cfg.Keys, key) }
