package ledger

import (
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/internal/canon"
)

// Fate says what became of a VTXO, as far as Vigil knows. The numbers are
// stored.
type Fate uint8

// The fates of a VTXO.
const (
	Unspent Fate = iota
	Spent
	Unrolled
)

// VTXO is a coin that is or was under a delegate, or came of a renewal.
type VTXO struct {
	Outpoint   wire.OutPoint
	Amount     int64
	Script     []byte
	CreatedAt  int64
	ExpiresAt  int64
	Cover      vigil.DelegateID // the delegate that renews it; zero: uncovered
	Next       vigil.DelegateID // the pending delegate that is to take over; zero: none
	Origin     vigil.DelegateID // the delegate whose renewal made it; zero: intake
	Commitment chainhash.Hash   // of that renewal
	Fate       Fate
	SpentBy    string // commitment or other txid, as far as it is known
	FateAt     int64
}

// Entry is one line of a wallet's history.
type Entry struct {
	Type       string // one of Line…
	Delegate   vigil.DelegateID
	Commitment chainhash.Hash
	Inputs     []wire.OutPoint
	Leaves     []wire.OutPoint
	Amount     int64 // what the inputs held
	Fee        int64
	At         int64
}

// Garbage names a secret that no record needs any more. Its row stays until the
// secret store has confirmed the deletion.
type Garbage struct {
	Name     string
	Delegate vigil.DelegateID
	Since    int64
}

const (
	rowFormat = 1
	// grownFormat is that of a wallet's row with older descriptors and of a VTXO that leaves; one without them
	// is as it always was.
	grownFormat = 2
	maxRow      = 64 << 10
	maxName     = 256
	maxText     = 512
)

func (v *VTXO) fields(c *canon.Coder) {
	c.Amount(&v.Amount, "amount")
	c.Bytes(&v.Script, 520, "script")
	c.Time(&v.CreatedAt, "created at")
	c.Time(&v.ExpiresAt, "expires at")
	c.Fixed(v.Cover[:], "cover")
	c.Fixed(v.Next[:], "next")
	c.Fixed(v.Origin[:], "origin")
	c.Fixed(v.Commitment[:], "commitment")
	canon.Num(c, &v.Fate, Unrolled, "fate")
	c.Text(&v.SpentBy, maxName, "spent by")
	c.Time(&v.FateAt, "fate at")
}

func (e *Entry) fields(c *canon.Coder) {
	c.Text(&e.Type, maxName, "type")
	c.Fixed(e.Delegate[:], "delegate")
	c.Fixed(e.Commitment[:], "commitment")
	outpoint := func(c *canon.Coder, op *wire.OutPoint) { delegate.Outpoint(c, op, "outpoint") }
	canon.List(c, &e.Inputs, delegate.MaxInputs, "inputs", outpoint)
	canon.List(c, &e.Leaves, delegate.MaxOutputs, "leaves", outpoint)
	c.Amount(&e.Amount, "amount")
	c.Amount(&e.Fee, "fee")
	c.Time(&e.At, "time")
}

func (g *Garbage) fields(c *canon.Coder) {
	c.Fixed(g.Delegate[:], "delegate")
	c.Time(&g.Since, "since")
}

func (u *Unreadable) fields(c *canon.Coder) {
	c.Text(&u.Text, maxText, "text")
	c.Time(&u.At, "time")
}

// row is a value of a tree that is not a record of its own package.
type row interface{ fields(*canon.Coder) }

// grower is a row that is written in the next format when it has something that the
// first has no place for, and in the first one otherwise.
type grower interface {
	grew() bool
	grown(*canon.Coder) // the fields of that format
}

func encodeRow(r row) ([]byte, error) {
	if g, ok := r.(grower); ok && g.grew() {
		return canon.Encode(grownFormat, maxRow, g.grown)
	}
	return canon.Encode(rowFormat, maxRow, r.fields)
}

func decodeRow(b []byte, r row) error {
	if g, ok := r.(grower); ok && len(b) > 0 && b[0] >= grownFormat {
		return canon.Decode(b, grownFormat, maxRow, g.grown)
	}
	return canon.Decode(b, rowFormat, maxRow, r.fields)
}

func encodeCount(n uint64) []byte {
	b, err := canon.Encode(rowFormat, maxRow, func(c *canon.Coder) { c.Uint(&n, math.MaxUint64, "count") })
	if err != nil {
		return nil // no number is out of these bounds
	}
	return b
}

func decodeCount(b []byte) (n uint64, err error) {
	err = canon.Decode(b, rowFormat, maxRow, func(c *canon.Coder) { c.Uint(&n, math.MaxUint64, "count") })
	return n, err
}
