// Package asset owns asset packets and the OP_RETURN extension that carries
// them, as far as a delegate must carry other people's assets through a batch:
// it reads, checks and writes them, and says whether a transaction passes every
// unit on. It issues and burns nothing.
package asset

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// maxEntries bounds each list of a packet, as the operator does.
const maxEntries = 1000

// ErrPacket is returned for bytes or values that are no asset packet.
var ErrPacket = errors.New("asset: invalid packet")

// ID names an asset: the transaction that issued it and the group in its packet.
type ID struct {
	Txid  chainhash.Hash
	Group uint16
}

// ParseID reads the operator's string form: 68 lower-case hex digits.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || s != strings.ToLower(s) {
		return ID{}, fmt.Errorf("%w: asset id %.80q", ErrPacket, s)
	}
	c := cursor{b}
	id, err := c.id()
	if err == nil {
		err = c.end()
	}
	return id, err
}

// String is the operator's string form.
func (id ID) String() string { return hex.EncodeToString(appendID(nil, id)) }

// Ref names a control asset, by its id or by its group in the same packet.
type Ref struct {
	ByGroup bool
	ID      ID
	Group   uint16
}

// Metadata is one entry of an issued asset's description.
type Metadata struct{ Key, Value []byte }

// Input takes units of an asset from an input of the same transaction, or, in
// the leaf of a batch, from the intent that Txid proves.
type Input struct {
	Intent bool
	Txid   chainhash.Hash // of the proof; only with Intent
	Vin    uint16
	Amount uint64
}

// Output gives units of an asset to an output of the same transaction.
type Output struct {
	Vout   uint16
	Amount uint64
}

// Group is what a transaction does with one asset. Without an ID it issues one.
type Group struct {
	ID       *ID
	Control  *Ref // only of an issuance
	Metadata []Metadata
	Inputs   []Input
	Outputs  []Output
}

// Packet is a transaction's list of groups.
type Packet []Group

// Layout (protocol section 3.8).
const (
	hasID       = 1 << 0
	hasControl  = 1 << 1
	hasMetadata = 1 << 2

	refByID    = 1
	refByGroup = 2

	inputLocal  = 1
	inputIntent = 2
	outputLocal = 1
)

// ParsePacket reads and checks a packet.
func ParsePacket(b []byte) (Packet, error) {
	c := cursor{b}
	n, err := c.count("groups")
	if err != nil {
		return nil, err
	}
	p := make(Packet, 0, n)
	for range n {
		g, err := c.group()
		if err != nil {
			return nil, err
		}
		p = append(p, g)
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	return p, p.Validate()
}

// Validate checks what a packet must be whatever the transaction.
func (p Packet) Validate() error {
	if len(p) == 0 || len(p) > maxEntries {
		return fmt.Errorf("%w: %d groups", ErrPacket, len(p))
	}
	seen := map[ID]bool{}
	for i, g := range p {
		if err := g.Validate(); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
		if g.ID != nil {
			if seen[*g.ID] {
				return fmt.Errorf("%w: two groups of %s", ErrPacket, g.ID)
			}
			seen[*g.ID] = true
		}
		if g.Control != nil && g.Control.ByGroup && int(g.Control.Group) >= len(p) {
			return fmt.Errorf("%w: control asset is group %d of %d", ErrPacket, g.Control.Group, len(p))
		}
	}
	return nil
}

// Validate checks one group by itself.
func (g Group) Validate() error {
	switch {
	case g.ID == nil && len(g.Inputs) == 0 && len(g.Outputs) == 0:
		return fmt.Errorf("%w: empty group", ErrPacket)
	case g.ID == nil && len(g.Inputs) != 0:
		return fmt.Errorf("%w: issuance with inputs", ErrPacket)
	case g.ID != nil && g.Control != nil:
		return fmt.Errorf("%w: control asset without issuance", ErrPacket)
	case g.ID != nil && g.ID.Txid == (chainhash.Hash{}),
		g.Control != nil && !g.Control.ByGroup && g.Control.ID.Txid == (chainhash.Hash{}):
		return fmt.Errorf("%w: zero txid", ErrPacket)
	}
	for _, m := range g.Metadata {
		if len(m.Key) == 0 || len(m.Value) == 0 {
			return fmt.Errorf("%w: empty metadata", ErrPacket)
		}
	}
	if err := validateInputs(g.Inputs); err != nil {
		return err
	}
	return validateOutputs(g.Outputs)
}

func validateInputs(ins []Input) error {
	seen := map[uint16]bool{}
	for _, in := range ins {
		switch {
		case seen[in.Vin]:
			return fmt.Errorf("%w: two inputs of vin %d", ErrPacket, in.Vin)
		case in.Intent != ins[0].Intent:
			return fmt.Errorf("%w: inputs of both types", ErrPacket)
		case in.Intent && in.Txid == (chainhash.Hash{}):
			return fmt.Errorf("%w: zero txid", ErrPacket)
		}
		seen[in.Vin] = true
	}
	return nil
}

func validateOutputs(outs []Output) error {
	seen := map[uint16]bool{}
	for _, out := range outs {
		if seen[out.Vout] || out.Amount == 0 {
			return fmt.Errorf("%w: output %d twice or empty", ErrPacket, out.Vout)
		}
		seen[out.Vout] = true
	}
	return nil
}

// Leaf is the packet that the operator puts in the batch for an intent whose
// proof had p: each group takes its units from the proof as a whole.
func (p Packet) Leaf(proof chainhash.Hash) Packet {
	leaf := make(Packet, len(p))
	for i, g := range p {
		g.Inputs = []Input{{Intent: true, Txid: proof}}
		leaf[i] = g
	}
	return leaf
}

// MetadataHash is the Merkle root of an asset's description; zero without one.
func MetadataHash(list []Metadata) [32]byte {
	if len(list) == 0 {
		return [32]byte{}
	}
	level := make([][32]byte, len(list))
	for i, m := range list {
		const version = 0
		leaf := appendBytes(appendBytes([]byte{version}, m.Key), m.Value)
		level[i] = tagged("ArkadeAssetLeaf", leaf)
	}
	for len(level) > 1 {
		var next [][32]byte
		for i := 0; i+1 < len(level); i += 2 {
			next = append(next, join(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			next = append(next, level[len(level)-1])
		}
		level = next
	}
	return level[0]
}
