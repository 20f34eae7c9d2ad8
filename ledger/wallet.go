package ledger

import (
	"math"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
)

// WalletState is where a wallet stands in its life (spec section 5). The numbers
// are stored.
type WalletState uint8

// The states of a wallet.
const (
	// WalletPending waits for the device's acknowledgment. It never ends by itself.
	WalletPending WalletState = 1 + iota
	// WalletActive holds coins.
	WalletActive
	// WalletDeleting is being taken apart: nothing may be done with it any more.
	WalletDeleting
)

// Wallet is one FROST group with Vigil in it, as it is stored: public data and
// the names of its secrets. Times are unix seconds; 0 is "not set".
type Wallet struct {
	ID        vigil.WalletID
	Version   uint64 // grows by one with every write; what compare-and-swap compares
	State     WalletState
	CreatedAt int64

	Threshold    uint8
	Participants uint8
	Epochs       []Epoch // by ascending number, at most two
	Active       uint32
	Pending      bool // epoch Active+1 is stored and waits for its certificate
	Retiring     bool // epoch Active-1 is kept until all have acknowledged Active

	Descriptor  []byte   // the current one
	Older       [][]byte // descriptors of before, the oldest first: coins may lie at their scripts
	Scripts     [][]byte // the pkScripts that pay it, by any of its descriptors
	DelegateKey bip340.PubKey
	Identities  []Identity
	Secrets     []string // names of what the wallet needs in the secret store
	AuditSalt   [32]byte // names it in the audit; gone with it

	DeleteAfter int64 // when an announced deletion may be carried out
	SyncedAt    int64 // when the operator last told of its VTXOs
	ForgotUntil int64 // VTXOs of before, and gone by now, are not told of again

	// HasPolicy says that a policy was set: one that is gone is damage, and no wallet
	// without bounds. It is the ledger's.
	HasPolicy bool
}

// Epoch is what is kept of one epoch of a wallet's key: all that a device needs
// to recover its share, and nothing that is secret without its host key.
type Epoch struct {
	Number    uint32
	Hosts     []bip340.PubKey // by participant; the device's first
	Info      []byte          // frost.Info
	Record    []byte          // recovery data of the key ceremony, or of the refresh
	Sealed    []byte          // shares of a refreshed epoch, each sealed to its holder's host key; 32 bytes a participant, zeros for none
	Confirmed bool
	Acked     []bool // by participant
}

// Identity is a key that makes everyday requests.
type Identity struct {
	Key      bip340.PubKey
	Name     string
	AddedAt  int64
	FrozenAt int64 // from when it is refused
	RemoveAt int64 // when its removal may be confirmed
}

// Bounds of a wallet's row.
const (
	MaxIdentities   = 16
	maxEpochs       = 2
	maxParticipants = 128
	maxScripts      = 8
	maxOlder        = 31 // with the current one as many as descriptor.MaxGenerations
	maxSecrets      = 4
	maxDescriptor   = 4 << 10
	maxEpochData    = 48 << 10
	maxLabel        = 64
)

// fields is the layout of the row in the wallets tree; epochs have rows of their
// own, so that what changes often is short.
func (w *Wallet) fields(c *canon.Coder) { w.layout(c, maxScripts) }

func (w *Wallet) grew() bool { return len(w.Older) > 0 }

// grown is the layout of a wallet with older descriptors, which earlier versions do
// not read: they know it to be newer than they are, and leave it alone.
func (w *Wallet) grown(c *canon.Coder) {
	w.layout(c, maxScripts*(1+maxOlder))
	canon.List(c, &w.Older, maxOlder, "older descriptors", func(c *canon.Coder, d *[]byte) { c.Bytes(d, maxDescriptor, "descriptor") })
	if c.OK() && len(w.Older) == 0 {
		c.Fail("no older descriptor")
	}
}

func (w *Wallet) layout(c *canon.Coder, scripts int) {
	canon.Num(c, &w.Version, math.MaxUint64, "version")
	canon.Num(c, &w.State, WalletDeleting, "state")
	if c.OK() && w.State < WalletPending {
		c.Fail("state %d", w.State)
	}
	c.Time(&w.CreatedAt, "created at")
	canon.Num(c, &w.Threshold, maxParticipants, "threshold")
	canon.Num(c, &w.Participants, maxParticipants, "participants")
	canon.Num(c, &w.Active, math.MaxUint32, "active epoch")
	c.Bool(&w.Pending, "pending")
	c.Bool(&w.Retiring, "retiring")
	c.Bytes(&w.Descriptor, maxDescriptor, "descriptor")
	canon.List(c, &w.Scripts, scripts, "scripts", func(c *canon.Coder, s *[]byte) { c.Bytes(s, 520, "script") })
	c.Fixed(w.DelegateKey[:], "delegate key")
	canon.List(c, &w.Identities, MaxIdentities, "identities", func(c *canon.Coder, i *Identity) {
		c.Fixed(i.Key[:], "identity key")
		c.Text(&i.Name, maxLabel, "identity name")
		c.Time(&i.AddedAt, "added at")
		c.Time(&i.FrozenAt, "frozen at")
		c.Time(&i.RemoveAt, "remove at")
	})
	canon.List(c, &w.Secrets, maxSecrets, "secrets", func(c *canon.Coder, s *string) { c.Text(s, maxName, "secret name") })
	c.Fixed(w.AuditSalt[:], "audit salt")
	c.Time(&w.DeleteAfter, "delete after")
	c.Time(&w.SyncedAt, "synced at")
	c.Time(&w.ForgotUntil, "forgot until")
	c.Bool(&w.HasPolicy, "has a policy")
}

func (e *Epoch) fields(c *canon.Coder) {
	canon.List(c, &e.Hosts, maxParticipants, "hosts", func(c *canon.Coder, k *bip340.PubKey) { c.Fixed(k[:], "host") })
	c.Bytes(&e.Info, maxEpochData, "info")
	c.Bytes(&e.Record, maxEpochData, "record")
	c.Bytes(&e.Sealed, maxName, "sealed share")
	c.Bool(&e.Confirmed, "confirmed")
	canon.List(c, &e.Acked, maxParticipants, "acknowledged", func(c *canon.Coder, v *bool) { c.Bool(v, "acknowledged") })
}

// Clone returns a copy that shares only bytes that nobody writes into.
func (w *Wallet) Clone() *Wallet {
	c := *w
	c.Epochs = slices.Clone(w.Epochs)
	for i := range c.Epochs {
		c.Epochs[i].Acked = slices.Clone(c.Epochs[i].Acked)
	}
	c.Older = slices.Clone(w.Older)
	c.Scripts = slices.Clone(w.Scripts)
	c.Identities = slices.Clone(w.Identities)
	c.Secrets = slices.Clone(w.Secrets)
	return &c
}

// Epoch returns the epoch of that number, or nil.
func (w *Wallet) Epoch(number uint32) *Epoch {
	for i := range w.Epochs {
		if w.Epochs[i].Number == number {
			return &w.Epochs[i]
		}
	}
	return nil
}

// Policy is a wallet's policy, encoded as its own room does, and the looser one
// that takes its place after the cool-down, if one is announced.
type Policy struct {
	Current []byte
	Next    []byte
	NextAt  int64
}

const maxPolicy = 16 << 10

func (p *Policy) fields(c *canon.Coder) {
	c.Bytes(&p.Current, maxPolicy, "policy")
	c.Bytes(&p.Next, maxPolicy, "next policy")
	c.Time(&p.NextAt, "next at")
}

// Token is where a device may be woken.
type Token struct {
	Kind string
	Text string
	At   int64
}

// MaxTokens bounds a wallet's device tokens.
const MaxTokens = 16

func (t *Token) fields(c *canon.Coder) {
	c.Text(&t.Kind, maxLabel, "kind")
	c.Text(&t.Text, 4<<10, "token")
	c.Time(&t.At, "time")
}
