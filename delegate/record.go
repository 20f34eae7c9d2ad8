package delegate

import (
	"crypto/sha256"
	"math"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

// Kind says how a delegate came here. The numbers are stored.
type Kind uint8

const (
	// Stock is a delegate of a stock Arkade wallet (spec section 11).
	Stock Kind = 1
	// Wallet is a delegate of a wallet with a share of Vigil's (spec section 6).
	Wallet Kind = 2
)

// known says whether k is a kind of this version.
func (k Kind) known() bool { return k == Stock || k == Wallet }

// Record is one persisted delegate (spec section 6, PersistedDelegate). It
// holds public data only: no secret type is anywhere in its type graph, and a
// test walks it. Amounts are satoshis, times unix seconds; 0 is "not set".
type Record struct {
	ID      vigil.DelegateID
	Kind    Kind
	State   State
	Version uint64         // grows by one with every write; what compare-and-swap compares
	Wallet  vigil.WalletID // of kind Wallet; zero for Stock

	// Public keys.
	Owners      []bip340.XOnly // the forfeit leaf's keys but the operator's and ours
	SignerKey   bip340.PubKey  // the operator's, as it stands in the scripts
	ForfeitKey  bip340.PubKey
	DelegateKey bip340.PubKey // ours in the delegate leaf
	TreeKey     bip340.PubKey // ours in the tree; for stock wallets the same key

	// What the operator announced at intake and the signatures depend on.
	Network       ark.Network
	ExitDelay     ark.Delay
	Dust          int64
	ForfeitScript []byte
	Digest        string

	// What was signed.
	Message   string
	Proof     []byte // PSBT
	ProofTxid chainhash.Hash
	// The intent that takes the registration back, over one of the inputs; kind
	// Wallet has it, Stock does not.
	DeleteMessage string
	DeleteProof   []byte       // PSBT
	Inputs        []Input      // in the proof's order
	Outputs       []wire.TxOut // as the leaf in the batch must have them: in order, the extension last
	Sighashes     []Sighash
	Fee           int64 // inputs minus outputs: what the operator gets
	Service       int64 // what Vigil's own output gets

	// Times and bounds that the signatures fix.
	CreatedAt      int64 // when it was stored
	ValidAt        int64
	ExpireAt       int64  // the intent's own; 0: never
	MinBatchExpiry uint32 // the least expiry of a batch, in the operator's encoding

	// Progress.
	StateSince     int64
	NextAttempt    int64 // the key in the due index while armed or due
	Attempts       uint32
	Convictions    uint32
	LastConviction int64
	Isolate        bool // spoiled a batch: next attempt alone
	CancelWanted   bool // cancelled while in flight: cancel instead of retrying
	LastError      Failure
	IntentID       string
	RegisteredAt   int64
	BatchID        string
	BatchEnd       int64 // when the joined session ends at the latest
	Commitment     chainhash.Hash
	Watch          []Watched
	Leaves         []wire.OutPoint    // the VTXOs that came of it
	Replaces       []vigil.DelegateID // of a pending one: the older ones it waits for
	ReplacedBy     vigil.DelegateID
}

// Input is one VTXO that the delegate renews.
type Input struct {
	Outpoint    wire.OutPoint
	Amount      int64
	Script      []byte // pkScript
	TapTree     []byte // the leaf list as the client sent it
	CreatedAt   int64
	ExpiresAt   int64
	Recoverable bool // at intake: no forfeit was needed
	Assets      []ark.AssetAmount
	Forfeit     []byte // the owner's partial forfeit, PSBT; empty when none
	// Sealed is the txid of the owner's partial forfeit when that is a bearer
	// instrument: its signature is in the secret store and nowhere here. Zero: none.
	Sealed chainhash.Hash
}

// HasForfeit says whether the owner signed a forfeit of it.
func (in Input) HasForfeit() bool { return len(in.Forfeit) > 0 || in.Bearer() }

// Bearer says whether the forfeit of it is a bearer instrument: on a leaf without
// our key, so that whoever has its signature may, with the operator, have the coin.
func (in Input) Bearer() bool { return in.Sealed != (chainhash.Hash{}) }

// HasSealed says whether the secret store has forfeits of the record.
func (r *Record) HasSealed() bool { return slices.ContainsFunc(r.Inputs, Input.Bearer) }

// Sighash says what one signature in the record signs.
type Sighash struct {
	Forfeit  bool   // in the forfeit of input Of, else in the proof
	Of       uint16 // index into Inputs; unused for the proof
	Input    uint16 // input index in that PSBT
	LeafHash [32]byte
	Type     byte // 0 is SIGHASH_DEFAULT
	Ours     bool // the leaf carries our key: our signature is to be added
}

// Failure is the last thing that went wrong.
type Failure struct {
	Code string
	Text string
	At   int64
}

// Watched is a commitment of an attempt that seemed to fail after our forfeits
// had left: it may still confirm.
type Watched struct {
	Commitment chainhash.Hash
	Since      int64
	Branch     vigil.DelegateID // under whose id the branch is stored
}

// MaxWatched is how many commitments a record may wait for and still give forfeits
// for one more: none is ever forgotten for another, since the stored branch of each
// may turn out to be the owner's claim.
const MaxWatched = 32

// Bounds of a record. They hold at encoding and at decoding; intake's own
// limits are below them.
const (
	MaxRecord       = 1 << 20 // bytes; a request body is at most as long, in base64
	MaxInputs       = 256
	MaxOutputs      = 64
	maxWatch        = MaxInputs * MaxWatched // a delegate may replace as many as it has inputs
	maxOwners       = MaxInputs
	maxAssets       = 256
	maxReplaces     = MaxInputs
	maxSighash      = 2*MaxInputs + 1
	maxScript       = 520
	maxTapTree      = 16 << 10
	maxOutputScript = 10_000 // an extension may be long
	maxMessage      = 16 << 10
	maxPSBT         = 768 << 10
	maxName         = 128 // ids, digests, codes
	maxText         = 512
)

// StockID is the id of a stock delegate: the first 16 bytes of SHA-256 over the
// proof's txid, in the txid's internal byte order.
func StockID(proofTxid chainhash.Hash) vigil.DelegateID {
	sum := sha256.Sum256(proofTxid[:])
	return vigil.DelegateID(sum[:16])
}

// DueAt returns the key of the record in the due index, and whether it has one:
// armed and due records. What is in flight is kept time of by who carries it,
// so that it never hides a waiting one.
func (r *Record) DueAt() (int64, bool) {
	return r.NextAttempt, r.State == Armed || r.State == Due
}

// Expiry is the earliest expiry among the inputs that were not recoverable at
// intake, or 0 when there is none.
func (r *Record) Expiry() int64 {
	first := int64(math.MaxInt64)
	for _, in := range r.Inputs {
		if !in.Recoverable && in.ExpiresAt > 0 {
			first = min(first, in.ExpiresAt)
		}
	}
	if first == math.MaxInt64 {
		return 0
	}
	return first
}

// InputAmount is the sum of the inputs.
func (r *Record) InputAmount() int64 {
	var sum int64
	for _, in := range r.Inputs {
		sum += in.Amount
	}
	return sum
}

// Outpoints returns the inputs' outpoints in the proof's order.
func (r *Record) Outpoints() []wire.OutPoint {
	out := make([]wire.OutPoint, len(r.Inputs))
	for i, in := range r.Inputs {
		out[i] = in.Outpoint
	}
	return out
}

// Spends says whether the record renews op.
func (r *Record) Spends(op wire.OutPoint) bool {
	return slices.ContainsFunc(r.Inputs, func(in Input) bool { return in.Outpoint == op })
}

// Covers says whether the record renews every input of older.
func (r *Record) Covers(older *Record) bool {
	return !slices.ContainsFunc(older.Inputs, func(in Input) bool { return !r.Spends(in.Outpoint) })
}

// Fail notes what went wrong, cut to the lengths that a record may hold.
func (r *Record) Fail(code, text string, at int64) {
	r.LastError = Failure{Code: clip(code, maxName), Text: clip(text, maxText), At: at}
}

// WatchCommitment moves the current commitment to the watch list.
func (r *Record) WatchCommitment(at int64) {
	if r.Commitment != (chainhash.Hash{}) && !r.Watches(r.Commitment) {
		r.AddWatched(Watched{Commitment: r.Commitment, Since: at, Branch: r.ID})
	}
	r.Commitment = chainhash.Hash{}
}

// AddWatched appends to the watch list what is not there yet.
func (r *Record) AddWatched(list ...Watched) {
	for _, w := range list {
		if !slices.ContainsFunc(r.Watch, func(o Watched) bool { return o.Commitment == w.Commitment && o.Branch == w.Branch }) {
			r.Watch = append(r.Watch, w)
		}
	}
}

// Watches says whether commitment is on the watch list.
func (r *Record) Watches(commitment chainhash.Hash) bool {
	return slices.ContainsFunc(r.Watch, func(w Watched) bool { return w.Commitment == commitment })
}

// BranchOwner is the id under which the branch of the record's commitment is
// stored: its own, or that of the older delegate that it replaced.
func (r *Record) BranchOwner() vigil.DelegateID {
	for _, w := range r.Watch {
		if w.Commitment == r.Commitment {
			return w.Branch
		}
	}
	return r.ID
}

// Entomb drops what an ended delegate no longer needs: the signed proof and
// forfeits. Outpoints, amounts and the proof's txid stay, so that an old body
// is known again when somebody replays it; that forfeits were sealed stays, too,
// for those are to be deleted now.
func (r *Record) Entomb() {
	r.Message, r.Proof, r.Sighashes = "", nil, nil
	r.DeleteMessage, r.DeleteProof = "", nil
	for i := range r.Inputs {
		r.Inputs[i].Forfeit, r.Inputs[i].TapTree = nil, nil
	}
}

// Clone returns a deep copy of the parts that a transition may change; the
// signed parts are shared, and nothing writes into them.
func (r *Record) Clone() *Record {
	c := *r
	c.Inputs = slices.Clone(r.Inputs)
	c.Watch = slices.Clone(r.Watch)
	c.Leaves = slices.Clone(r.Leaves)
	c.Replaces = slices.Clone(r.Replaces)
	return &c
}

// clip cuts s to at most limit bytes and drops what is not UTF-8.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}
