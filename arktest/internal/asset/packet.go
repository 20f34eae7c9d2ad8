package asset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// maxEntries bounds every list of a packet.
const maxEntries = 1000

// Types of inputs, outputs and control references.
const (
	inputLocal   = 1
	inputIntent  = 2
	outputLocal  = 1
	controlID    = 1
	controlGroup = 2
)

// presence bits of a group.
const (
	hasID = 1 << iota
	hasControl
	hasMetadata
)

// Control refers to the asset that allows a later issue.
type Control struct {
	ByGroup bool
	Group   uint16
	ID      ID
}

// Input is an amount taken from a transaction input.
type Input struct {
	Type   byte
	Txid   chainhash.Hash
	Vin    uint16
	Amount uint64
}

// Output is an amount given to a transaction output.
type Output struct {
	Vout   uint16
	Amount uint64
}

// Group is one asset's movement in a transaction. ID is nil in an issuance.
type Group struct {
	ID       *ID
	Control  *Control
	Metadata [][2][]byte
	Inputs   []Input
	Outputs  []Output
}

// Issuance says that the group creates its asset.
func (g Group) Issuance() bool { return g.ID == nil }

func (g Group) sums() (in, out uint64) {
	for _, i := range g.Inputs {
		in += i.Amount
	}
	for _, o := range g.Outputs {
		out += o.Amount
	}
	return in, out
}

// Reissuance says that the group gives more of an existing asset than it takes.
func (g Group) Reissuance() bool {
	in, out := g.sums()
	return !g.Issuance() && in < out
}

func varBytes(r *bytes.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Len()) {
		return nil, fmt.Errorf("%w: truncated", ErrMalformed)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

func count(r *bytes.Reader) (int, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > maxEntries {
		return 0, fmt.Errorf("%w: list count", ErrMalformed)
	}
	return int(n), nil
}

func u16(r *bytes.Reader) (uint16, error) {
	var b [2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("%w: truncated", ErrMalformed)
	}
	return binary.LittleEndian.Uint16(b[:]), nil
}

func readID(r *bytes.Reader) (id ID, err error) {
	if _, err := io.ReadFull(r, id[:]); err != nil {
		return id, fmt.Errorf("%w: asset id", ErrMalformed)
	}
	if [32]byte(id[:32]) == ([32]byte{}) {
		return id, fmt.Errorf("%w: empty asset txid", ErrMalformed)
	}
	return id, nil
}

func parsePacket(body []byte) ([]Group, error) {
	r := bytes.NewReader(body)
	n, err := count(r)
	if err != nil {
		return nil, err
	}
	groups := make([]Group, 0, n)
	seen := map[ID]bool{}
	for range n {
		g, err := readGroup(r)
		if err != nil {
			return nil, err
		}
		if g.ID != nil {
			if seen[*g.ID] {
				return nil, fmt.Errorf("%w: duplicate group", ErrMalformed)
			}
			seen[*g.ID] = true
		}
		groups = append(groups, g)
	}
	if n == 0 || r.Len() > 0 {
		return nil, fmt.Errorf("%w: %d groups, %d bytes left", ErrMalformed, n, r.Len())
	}
	for _, g := range groups {
		if g.Control != nil && g.Control.ByGroup && int(g.Control.Group) >= n {
			return nil, fmt.Errorf("%w: control group %d of %d", ErrMalformed, g.Control.Group, n)
		}
	}
	return groups, nil
}

func readGroup(r *bytes.Reader) (g Group, err error) {
	presence, err := r.ReadByte()
	if err != nil {
		return g, fmt.Errorf("%w: truncated group", ErrMalformed)
	}
	if presence&hasID != 0 {
		id, err := readID(r)
		if err != nil {
			return g, err
		}
		g.ID = &id
	}
	if presence&hasControl != 0 {
		if g.Control, err = readControl(r); err != nil {
			return g, err
		}
	}
	if presence&hasMetadata != 0 {
		n, err := count(r)
		if err != nil {
			return g, err
		}
		for range n {
			var kv [2][]byte
			for i := range kv {
				if kv[i], err = varBytes(r); err != nil {
					return g, err
				}
			}
			g.Metadata = append(g.Metadata, kv)
		}
	}
	if g.Inputs, err = readInputs(r); err != nil {
		return g, err
	}
	if g.Outputs, err = readOutputs(r); err != nil {
		return g, err
	}
	switch {
	case g.ID == nil && len(g.Inputs) > 0:
		return g, fmt.Errorf("%w: issuance with inputs", ErrMalformed)
	case g.ID == nil && len(g.Outputs) == 0:
		return g, fmt.Errorf("%w: empty group", ErrMalformed)
	case g.ID != nil && g.Control != nil:
		return g, fmt.Errorf("%w: only issuance can have a control asset", ErrMalformed)
	}
	return g, nil
}

func readControl(r *bytes.Reader) (*Control, error) {
	typ, _ := r.ReadByte()
	switch typ {
	case controlID:
		id, err := readID(r)
		return &Control{ID: id}, err
	case controlGroup:
		n, err := u16(r)
		return &Control{ByGroup: true, Group: n}, err
	}
	return nil, fmt.Errorf("%w: control reference type %d", ErrMalformed, typ)
}

func readInputs(r *bytes.Reader) ([]Input, error) {
	n, err := count(r)
	if err != nil {
		return nil, err
	}
	var out []Input
	seen := map[uint16]bool{}
	for range n {
		typ, _ := r.ReadByte()
		in := Input{Type: typ}
		switch typ {
		case inputLocal:
		case inputIntent:
			if _, err := io.ReadFull(r, in.Txid[:]); err != nil {
				return nil, fmt.Errorf("%w: input txid", ErrMalformed)
			}
			slices.Reverse(in.Txid[:])
		default:
			return nil, fmt.Errorf("%w: input type %d", ErrMalformed, typ)
		}
		if in.Vin, err = u16(r); err != nil {
			return nil, err
		}
		if in.Amount, err = binary.ReadUvarint(r); err != nil {
			return nil, fmt.Errorf("%w: input amount", ErrMalformed)
		}
		if seen[in.Vin] || len(out) > 0 && out[0].Type != typ {
			return nil, fmt.Errorf("%w: inputs must be of one type with unique vin", ErrMalformed)
		}
		seen[in.Vin] = true
		out = append(out, in)
	}
	return out, nil
}

func readOutputs(r *bytes.Reader) ([]Output, error) {
	n, err := count(r)
	if err != nil {
		return nil, err
	}
	var out []Output
	seen := map[uint16]bool{}
	for range n {
		if typ, _ := r.ReadByte(); typ != outputLocal {
			return nil, fmt.Errorf("%w: output type %d", ErrMalformed, typ)
		}
		var o Output
		if o.Vout, err = u16(r); err != nil {
			return nil, err
		}
		if o.Amount, err = binary.ReadUvarint(r); err != nil || o.Amount == 0 {
			return nil, fmt.Errorf("%w: output amount", ErrMalformed)
		}
		if seen[o.Vout] {
			return nil, fmt.Errorf("%w: all outputs must have unique vout", ErrMalformed)
		}
		seen[o.Vout] = true
		out = append(out, o)
	}
	return out, nil
}

func encodePacket(groups []Group) []byte {
	b := binary.AppendUvarint(nil, uint64(len(groups)))
	for _, g := range groups {
		b = g.encode(b)
	}
	return b
}

func (g Group) encode(b []byte) []byte {
	var presence byte
	if g.ID != nil {
		presence |= hasID
	}
	if g.Control != nil {
		presence |= hasControl
	}
	if len(g.Metadata) > 0 {
		presence |= hasMetadata
	}
	b = append(b, presence)
	if g.ID != nil {
		b = append(b, g.ID[:]...)
	}
	if c := g.Control; c != nil && c.ByGroup {
		b = binary.LittleEndian.AppendUint16(append(b, controlGroup), c.Group)
	} else if c != nil {
		b = append(append(b, controlID), c.ID[:]...)
	}
	if len(g.Metadata) > 0 {
		b = binary.AppendUvarint(b, uint64(len(g.Metadata)))
		for _, kv := range g.Metadata {
			for _, v := range kv {
				b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
			}
		}
	}
	b = binary.AppendUvarint(b, uint64(len(g.Inputs)))
	for _, in := range g.Inputs {
		b = append(b, in.Type)
		if in.Type == inputIntent {
			txid := in.Txid
			slices.Reverse(txid[:])
			b = append(b, txid[:]...)
		}
		b = binary.AppendUvarint(binary.LittleEndian.AppendUint16(b, in.Vin), in.Amount)
	}
	b = binary.AppendUvarint(b, uint64(len(g.Outputs)))
	for _, o := range g.Outputs {
		b = binary.AppendUvarint(binary.LittleEndian.AppendUint16(append(b, outputLocal), o.Vout), o.Amount)
	}
	return b
}

// Issue is what one group does to an asset's supply.
type Issue struct {
	ID           string
	Made, Burned uint64
	Control      string
	Metadata     []byte // encoded list, of an issuance
}

// Issues lists the groups that change a supply.
func Issues(txid chainhash.Hash, groups []Group) (out []Issue) {
	for i, g := range groups {
		in, made := g.sums()
		if in == made {
			continue
		}
		issue := Issue{ID: g.id(txid, i), Made: made, Burned: in}
		if c := g.Control; c != nil {
			issue.Control = c.ID.String()
			if c.ByGroup {
				issue.Control = newID(txid, int(c.Group)).String()
			}
		}
		if len(g.Metadata) > 0 {
			issue.Metadata = binary.AppendUvarint(nil, uint64(len(g.Metadata)))
			for _, kv := range g.Metadata {
				for _, v := range kv {
					issue.Metadata = append(binary.AppendUvarint(issue.Metadata, uint64(len(v))), v...)
				}
			}
		}
		out = append(out, issue)
	}
	return out
}
