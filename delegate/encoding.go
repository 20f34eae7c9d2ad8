package delegate

import (
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
)

// The first byte of an encoded record. A change of fields raises it; decoding of
// the older formats stays. Records of stock wallets need no more than the first,
// and a version that knows only that one still reads them.
const (
	stockFormat  = 1
	walletFormat = 2 // with wallet and delete proof
	sealedFormat = 3 // with forfeits of which the signatures are sealed
)

// format is the one that the record is written in: the first that has all of it.
func (r *Record) format() byte {
	switch {
	case r.Kind == Stock:
		return stockFormat
	case r.HasSealed():
		return sealedFormat
	}
	return walletFormat
}

// Encode writes the record, or returns canon.ErrBounds.
func (r *Record) Encode() ([]byte, error) {
	return canon.Encode(r.format(), MaxRecord, func(c *canon.Coder) { r.fields(c, r.format()) })
}

// DecodeRecord reads what Encode wrote. It returns canon.ErrNewer or
// canon.ErrMalformed; it
// does not verify any signature.
func DecodeRecord(b []byte) (*Record, error) {
	r := new(Record)
	format := byte(sealedFormat)
	if len(b) > 0 && b[0] >= stockFormat && b[0] < sealedFormat {
		format = b[0]
	}
	if err := canon.Decode(b, format, MaxRecord, func(c *canon.Coder) { r.fields(c, format) }); err != nil {
		return nil, err
	}
	return r, nil
}

// fields is the layout of the formats; each is of one kind.
func (r *Record) fields(c *canon.Coder, format byte) {
	c.Fixed(r.ID[:], "id")
	canon.Num(c, &r.Kind, math.MaxUint8, "kind")
	canon.Num(c, &r.State, math.MaxUint8, "state")
	if c.OK() && (!r.Kind.known() || (r.Kind == Stock) != (format == stockFormat) || !r.State.Known()) {
		c.Fail("kind %d in state %d", r.Kind, r.State)
	}
	canon.Num(c, &r.Version, math.MaxUint64, "version")
	r.walletFields(c, format)
	r.keyFields(c)
	r.signedFields(c, format)
	r.progressFields(c)
}

// walletFields are those of kind Wallet alone.
func (r *Record) walletFields(c *canon.Coder, format byte) {
	if format == stockFormat {
		if r.Wallet != (vigil.WalletID{}) || r.DeleteMessage != "" || len(r.DeleteProof) > 0 {
			c.Fail("a stock delegate of a wallet")
		}
		return
	}
	c.Fixed(r.Wallet[:], "wallet")
	c.Text(&r.DeleteMessage, maxMessage, "delete message")
	c.Bytes(&r.DeleteProof, maxPSBT, "delete proof")
}

func (r *Record) keyFields(c *canon.Coder) {
	canon.List(c, &r.Owners, maxOwners, "owners", func(c *canon.Coder, k *bip340.XOnly) { c.Fixed(k[:], "owner") })
	c.Fixed(r.SignerKey[:], "signer key")
	c.Fixed(r.ForfeitKey[:], "forfeit key")
	c.Fixed(r.DelegateKey[:], "delegate key")
	c.Fixed(r.TreeKey[:], "tree key")
	network := string(r.Network)
	c.Text(&network, maxName, "network")
	if _, err := ark.ParseNetwork(network); err != nil {
		c.Fail("network %q", network)
	}
	if c.Reading() {
		r.Network = ark.Network(network)
	}
	canon.Num(c, &r.ExitDelay, math.MaxUint32, "exit delay")
	c.Amount(&r.Dust, "dust")
	c.Bytes(&r.ForfeitScript, maxScript, "forfeit script")
	c.Text(&r.Digest, maxName, "digest")
}

func (r *Record) signedFields(c *canon.Coder, format byte) {
	c.Text(&r.Message, maxMessage, "message")
	c.Bytes(&r.Proof, maxPSBT, "proof")
	c.Fixed(r.ProofTxid[:], "proof txid")
	var before Input
	canon.List(c, &r.Inputs, MaxInputs, "inputs", func(c *canon.Coder, in *Input) {
		in.fields(c, before)
		if before = *in; format == sealedFormat {
			c.Fixed(in.Sealed[:], "sealed forfeit")
		}
	})
	if c.OK() && (format == sealedFormat) != r.HasSealed() {
		c.Fail("sealed forfeits in format %d", format)
	}
	canon.List(c, &r.Outputs, MaxOutputs, "outputs", func(c *canon.Coder, out *wire.TxOut) { codeOutput(c, out, "output") })
	canon.List(c, &r.Sighashes, maxSighash, "sighashes", func(c *canon.Coder, s *Sighash) { s.fields(c) })
	c.Amount(&r.Fee, "fee")
	c.Amount(&r.Service, "service fee")
	c.Time(&r.CreatedAt, "created at")
	c.Time(&r.ValidAt, "valid at")
	c.Time(&r.ExpireAt, "expire at")
	canon.Num(c, &r.MinBatchExpiry, math.MaxUint32, "least batch expiry")
}

func (r *Record) progressFields(c *canon.Coder) {
	c.Time(&r.StateSince, "state since")
	c.Time(&r.NextAttempt, "next attempt")
	canon.Num(c, &r.Attempts, math.MaxUint32, "attempts")
	canon.Num(c, &r.Convictions, math.MaxUint32, "convictions")
	c.Time(&r.LastConviction, "last conviction")
	c.Bool(&r.Isolate, "isolate")
	c.Bool(&r.CancelWanted, "cancel wanted")
	c.Text(&r.LastError.Code, maxName, "error code")
	c.Text(&r.LastError.Text, maxText, "error text")
	c.Time(&r.LastError.At, "error time")
	c.Text(&r.IntentID, maxName, "intent id")
	c.Time(&r.RegisteredAt, "registered at")
	c.Text(&r.BatchID, maxName, "batch id")
	c.Time(&r.BatchEnd, "batch end")
	c.Fixed(r.Commitment[:], "commitment")
	canon.List(c, &r.Watch, maxWatch, "watched", func(c *canon.Coder, w *Watched) {
		c.Fixed(w.Commitment[:], "watched commitment")
		c.Time(&w.Since, "watched since")
		c.Fixed(w.Branch[:], "watched branch")
	})
	canon.List(c, &r.Leaves, MaxOutputs, "leaves", func(c *canon.Coder, op *wire.OutPoint) { Outpoint(c, op, "leaf") })
	canon.List(c, &r.Replaces, maxReplaces, "replaces", func(c *canon.Coder, id *vigil.DelegateID) { c.Fixed(id[:], "replaced id") })
	c.Fixed(r.ReplacedBy[:], "replaced by")
}

func (in *Input) fields(c *canon.Coder, before Input) {
	Outpoint(c, &in.Outpoint, "input")
	c.Amount(&in.Amount, "input amount")
	c.Repeated(&in.Script, before.Script, maxScript, "input script")
	c.Repeated(&in.TapTree, before.TapTree, maxTapTree, "input taptree")
	c.Time(&in.CreatedAt, "input created at")
	c.Time(&in.ExpiresAt, "input expires at")
	c.Bool(&in.Recoverable, "recoverable")
	canon.List(c, &in.Assets, maxAssets, "assets", func(c *canon.Coder, a *ark.AssetAmount) { codeAsset(c, a, "asset") })
	c.Bytes(&in.Forfeit, maxPSBT, "forfeit")
}

func (s *Sighash) fields(c *canon.Coder) {
	c.Bool(&s.Forfeit, "sighash of forfeit")
	canon.Num(c, &s.Of, math.MaxUint16, "sighash of")
	canon.Num(c, &s.Input, math.MaxUint16, "sighash input")
	c.Fixed(s.LeafHash[:], "leaf hash")
	canon.Num(c, &s.Type, math.MaxUint8, "sighash type")
	c.Bool(&s.Ours, "sighash ours")
}

// Branch is what proves that a commitment pays the owner: it is durable before
// any forfeit for that commitment leaves, and it is the owner's exit data.
type Branch struct {
	Delegate   vigil.DelegateID
	Commitment chainhash.Hash
	Tx         []byte // the commitment's PSBT as the operator sent it
	BatchID    string
	Expiry     uint32   // of the batch, in the operator's encoding
	Nodes      [][]byte // signed tree transactions from the root to the leaf
	Leaves     []wire.OutPoint
	Forfeits   []Sent
	StoredAt   int64
}

// Sent is a completed forfeit as it leaves.
type Sent struct {
	Outpoint wire.OutPoint
	PSBT     []byte
}

const (
	branchFormat = 1
	// maxBranch bounds an encoded branch; a tree of 2^32 leaves has 32 levels.
	maxBranch = 8 << 20
	maxNodes  = 64
)

// Encode writes the branch, or returns canon.ErrBounds.
func (b *Branch) Encode() ([]byte, error) {
	return canon.Encode(branchFormat, maxBranch, func(c *canon.Coder) { b.fields(c) })
}

// DecodeBranch reads what Encode wrote. It returns canon.ErrNewer or
// canon.ErrMalformed.
func DecodeBranch(raw []byte) (*Branch, error) {
	b := new(Branch)
	if err := canon.Decode(raw, branchFormat, maxBranch, func(c *canon.Coder) { b.fields(c) }); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Branch) fields(c *canon.Coder) {
	c.Fixed(b.Delegate[:], "delegate")
	c.Fixed(b.Commitment[:], "commitment")
	c.Bytes(&b.Tx, maxBranch, "commitment transaction")
	c.Text(&b.BatchID, maxName, "batch id")
	canon.Num(c, &b.Expiry, math.MaxUint32, "expiry")
	canon.List(c, &b.Nodes, maxNodes, "nodes", func(c *canon.Coder, node *[]byte) { c.Bytes(node, maxPSBT, "node") })
	canon.List(c, &b.Leaves, MaxOutputs, "leaves", func(c *canon.Coder, op *wire.OutPoint) { Outpoint(c, op, "leaf") })
	canon.List(c, &b.Forfeits, MaxInputs, "forfeits", func(c *canon.Coder, s *Sent) {
		Outpoint(c, &s.Outpoint, "forfeit input")
		c.Bytes(&s.PSBT, maxPSBT, "forfeit")
	})
	c.Time(&b.StoredAt, "stored at")
}

// Outpoint codes an outpoint: the txid in internal order, then the index.
func Outpoint(c *canon.Coder, v *wire.OutPoint, name string) {
	c.Fixed(v.Hash[:], name)
	canon.Num(c, &v.Index, math.MaxUint32, name)
}

func codeOutput(c *canon.Coder, v *wire.TxOut, name string) {
	c.Amount(&v.Value, name)
	c.Bytes(&v.PkScript, maxOutputScript, name)
}

func codeAsset(c *canon.Coder, v *ark.AssetAmount, name string) {
	c.Text(&v.AssetID, maxName, name)
	canon.Num(c, &v.Amount, math.MaxUint64, name)
}
