package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
)

var (
	// ErrNoWallet is returned by Open for a store that holds no wallet.
	ErrNoWallet = errors.New("client: the store holds no wallet")
	// ErrExists is returned by Create and Recover for a store that holds one.
	ErrExists = errors.New("client: the store holds a wallet already")
	// ErrState is returned for a stored state that does not decode or does not fit.
	ErrState = errors.New("client: the stored state is damaged")
)

// The names of a device's secrets. Shares and host keys carry their epoch.
const (
	nameState    = "state"
	nameIdentity = "identity"
	nameHost     = "host."
	nameShare    = "share."
	nameExit     = "exit."
)

// The versions of the stored state's encoding. One with what stateGrown has is not
// read by earlier versions of this package, which would lose it; all else is written
// as they did.
const (
	stateVersion = 1
	stateGrown   = 2 // more than one generation of scripts
)

// epoch is one sharing of the key as the device keeps it, without its secrets.
type epoch struct {
	Number uint32   `json:"number"`
	Hosts  [][]byte `json:"hosts"`            // host public keys by participant
	Info   []byte   `json:"info,omitempty"`   // frost.Info
	Record []byte   `json:"record,omitempty"` // recovery data, record, or the transcript of a pending epoch
	Sealed []byte   `json:"sealed,omitempty"` // Vigil's share, sealed to Vigil's key: for a Vigil that lost it
	Handed bool     `json:"handed,omitempty"` // Vigil keeps the share, sealed to the device's host key
}

// state is all that a device remembers beside its keys. Nothing of it is secret;
// it is sealed with the keys because it tells who owns what.
type state struct {
	Version int `json:"version"`
	// Server is the pinned host key of Vigil, Signer the operator's signer key.
	Server  []byte      `json:"server"`
	Signer  []byte      `json:"signer"`
	Network ark.Network `json:"network"`
	ID      int         `json:"id"` // the device's number among the participants
	// Threshold of the key, and Cold, how many cold shares there are.
	Threshold     int    `json:"threshold"`
	IdentityIndex uint32 `json:"identity_index"`
	RecoveryKey   []byte `json:"recovery_key"` // x-only, leaf 4
	// Wallet and Descriptor are there from the certificate on, Acknowledged once
	// Vigil took the acknowledgment: no address is shown before.
	Wallet       []byte `json:"wallet,omitempty"`
	Descriptor   []byte `json:"descriptor,omitempty"`
	Acknowledged bool   `json:"acknowledged"`
	// Older are the descriptors of earlier generations, the oldest first. Accepted is
	// what the owner accepted and Vigil has not taken up yet. Unsure says that the
	// descriptor came of Vigil alone and is not what the operator announces: no address
	// of it is shown.
	Older    [][]byte  `json:"older,omitempty"`
	Accepted *accepted `json:"accepted,omitempty"`
	Unsure   bool      `json:"unsure,omitempty"`

	Epochs  []epoch         `json:"epochs,omitempty"` // at most two, ascending
	Cutover refresh.Cutover `json:"cutover"`

	// Prepared are ids and tree keys that Vigil issued with earlier answers.
	Prepared []prepared `json:"prepared,omitempty"`

	// TwoLeaf says that the owner opted in, here, to delegates of two-leaf coins.
	TwoLeaf bool `json:"two_leaf,omitempty"`
}

// accepted is a generation to be.
type accepted struct {
	Descriptor []byte `json:"descriptor"`
	Signer     []byte `json:"signer"`
}

// describe takes up generations.
func (st *state) describe(g descriptor.Generations) { st.Descriptor, st.Older = g.Encode() }

// grown says whether there is what earlier versions would lose.
func (st *state) grown() bool { return len(st.Older) > 0 || st.Accepted != nil || st.Unsure }

// prepared is one delegate to be: see Prepared in the protocol.
type prepared struct {
	ID        []byte `json:"id"`
	TreeKey   []byte `json:"tree_key"`
	ExpiresAt int64  `json:"expires_at"`
}

// store is the device's secret.Store under the names above.
type store struct{ secret.Store }

func (s store) load(ctx context.Context) (*state, error) {
	raw, err := s.Get(ctx, nameState)
	if errors.Is(err, secret.ErrNotFound) {
		return nil, ErrNoWallet
	}
	if err != nil {
		return nil, err
	}
	defer raw.Burn()
	st := &state{}
	err = raw.Use(func(b []byte) error {
		if err := json.Unmarshal(b, st); err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
		return nil
	})
	if err == nil && st.Version != stateVersion && st.Version != stateGrown {
		err = fmt.Errorf("%w: version %d", ErrState, st.Version)
	}
	return st, err
}

func (s store) save(ctx context.Context, st *state) error {
	if st.Version = stateVersion; st.grown() {
		st.Version = stateGrown
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("client: state: %w", err)
	}
	return s.Put(ctx, nameState, secret.New(raw))
}

func named(prefix string, epoch uint32) string { return fmt.Sprintf("%s%d", prefix, epoch) }

// epoch finds one of the state's epochs.
func (st *state) epoch(number uint32) (*epoch, error) {
	for i := range st.Epochs {
		if st.Epochs[i].Number == number {
			return &st.Epochs[i], nil
		}
	}
	return nil, fmt.Errorf("%w: no epoch %d", ErrState, number)
}

// active is the epoch that the device signs with.
func (st *state) active() (*epoch, error) { return st.epoch(st.Cutover.Active) }

// hostKeys are the participants' host public keys.
func (e *epoch) hostKeys() ([]bip340.PubKey, error) {
	keys := make([]bip340.PubKey, len(e.Hosts))
	for i, h := range e.Hosts {
		var err error
		if keys[i], err = bip340.ParsePubKey(h); err != nil {
			return nil, fmt.Errorf("%w: host key %d: %w", ErrState, i, err)
		}
	}
	return keys, nil
}

func (e *epoch) info() (*frost.Info, error) {
	info, err := frost.ParseInfo(e.Info)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	return info, nil
}

func hostBytes(keys []bip340.PubKey) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = slices.Clone(k[:])
	}
	return out
}

// exitPart is how much of a coin's exit data one value of the store holds.
const exitPart = secret.MaxValue

// maxExitParts bounds the exit data of one coin: 4 MiB, a chain of thousands of
// payments within one batch.
const maxExitParts = 64

func exitName(op wire.OutPoint, part int) string {
	return fmt.Sprintf("%s%s.%d", nameExit, op, part)
}

// putExit stores what it takes to bring a coin on chain.
func (s store) putExit(ctx context.Context, d ExitData) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("client: exit data: %w", err)
	}
	if len(raw) > maxExitParts*exitPart {
		return fmt.Errorf("client: the exit data of %s has %d bytes", d.Outpoint, len(raw))
	}
	op, err := ark.ParseOutpoint(d.Outpoint)
	if err != nil {
		return err
	}
	// The first part goes last: with it, all are there.
	for i := (len(raw) - 1) / exitPart; i >= 0; i-- {
		part := raw[i*exitPart : min((i+1)*exitPart, len(raw))]
		if err := s.Put(ctx, exitName(op, i), secret.New(part)); err != nil {
			return err
		}
	}
	return nil
}

// exits are the coins whose exit data are in the store, and those of them of which
// the operator said that they are spent.
func (s store) exits(ctx context.Context) (have, spent map[wire.OutPoint]bool, err error) {
	names, err := s.List(ctx, nameExit)
	if err != nil {
		return nil, nil, err
	}
	have, spent = map[wire.OutPoint]bool{}, map[wire.OutPoint]bool{}
	for _, n := range names {
		into := have
		text, ok := strings.CutSuffix(strings.TrimPrefix(n, nameExit), ".0")
		if !ok {
			text, ok = strings.CutSuffix(text, exitSpent)
			into = spent
		}
		if !ok {
			continue
		}
		op, err := ark.ParseOutpoint(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s", ErrState, n)
		}
		into[op] = true
	}
	return have, spent, nil
}

// exitSpent ends the name of the mark at exit data of a coin that is said to be
// spent.
const exitSpent = ".spent"

// markSpent notes, or takes back, that a coin is said to be spent.
func (s store) markSpent(ctx context.Context, op wire.OutPoint, spent bool) error {
	name := nameExit + op.String() + exitSpent
	if spent {
		return s.Put(ctx, name, secret.New([]byte{1}))
	}
	return s.Delete(ctx, name)
}

func (s store) exit(ctx context.Context, op wire.OutPoint) (d ExitData, err error) {
	var raw []byte
	for i := range maxExitParts {
		part, err := s.Get(ctx, exitName(op, i))
		if errors.Is(err, secret.ErrNotFound) && i > 0 {
			break
		}
		if err != nil {
			return d, err
		}
		if err := part.Use(func(b []byte) error { raw = append(raw, b...); return nil }); err != nil {
			return d, err
		}
		part.Burn()
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("%w: exit data of %s: %w", ErrState, op, err)
	}
	return d, nil
}

func (s store) dropExit(ctx context.Context, op wire.OutPoint) error {
	if err := s.markSpent(ctx, op, false); err != nil {
		return err
	}
	for i := range maxExitParts {
		name := exitName(op, i)
		v, err := s.Get(ctx, name)
		if errors.Is(err, secret.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		v.Burn()
		if err := s.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
