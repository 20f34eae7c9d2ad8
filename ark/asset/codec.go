package asset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// cursor reads a packet. Every length is checked against what is left before
// anything is allocated.
type cursor struct{ rest []byte }

func (c *cursor) take(n uint64, what string) ([]byte, error) {
	if n > uint64(len(c.rest)) {
		return nil, fmt.Errorf("%w: %s is truncated", ErrPacket, what)
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b, nil
}

func (c *cursor) end() error {
	if len(c.rest) != 0 {
		return fmt.Errorf("%w: %d trailing bytes", ErrPacket, len(c.rest))
	}
	return nil
}

func (c *cursor) octet(what string) (byte, error) {
	b, err := c.take(1, what)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (c *cursor) uint16(what string) (uint16, error) {
	b, err := c.take(2, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint16(b), nil
}

func (c *cursor) uvarint(what string) (uint64, error) {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		return 0, fmt.Errorf("%w: %s", ErrPacket, what)
	}
	c.rest = c.rest[n:]
	return v, nil
}

func (c *cursor) count(what string) (uint64, error) {
	n, err := c.uvarint(what)
	if err != nil {
		return 0, err
	}
	if n > maxEntries || n > uint64(len(c.rest)) {
		return 0, fmt.Errorf("%w: %d %s", ErrPacket, n, what)
	}
	return n, nil
}

func (c *cursor) bytes(what string) ([]byte, error) {
	n, err := c.uvarint(what)
	if err != nil {
		return nil, err
	}
	b, err := c.take(n, what)
	return bytes.Clone(b), err
}

// txid reads a transaction id in display order.
func (c *cursor) txid() (chainhash.Hash, error) {
	b, err := c.take(chainhash.HashSize, "txid")
	if err != nil {
		return chainhash.Hash{}, err
	}
	h := chainhash.Hash(b)
	slices.Reverse(h[:])
	return h, nil
}

func (c *cursor) id() (ID, error) {
	txid, err := c.txid()
	if err != nil {
		return ID{}, err
	}
	if txid == (chainhash.Hash{}) {
		return ID{}, fmt.Errorf("%w: zero txid", ErrPacket)
	}
	group, err := c.uint16("group index")
	return ID{txid, group}, err
}

func (c *cursor) ref() (Ref, error) {
	typ, err := c.octet("control asset")
	if err != nil {
		return Ref{}, err
	}
	switch typ {
	case refByID:
		id, err := c.id()
		return Ref{ID: id}, err
	case refByGroup:
		group, err := c.uint16("group index")
		return Ref{ByGroup: true, Group: group}, err
	}
	return Ref{}, fmt.Errorf("%w: control asset of type %d", ErrPacket, typ)
}

func (c *cursor) metadata() (Metadata, error) {
	key, err := c.bytes("metadata key")
	if err != nil {
		return Metadata{}, err
	}
	value, err := c.bytes("metadata value")
	return Metadata{key, value}, err
}

func (c *cursor) input() (Input, error) {
	typ, err := c.octet("input")
	if err != nil {
		return Input{}, err
	}
	var in Input
	switch typ {
	case inputLocal:
	case inputIntent:
		in.Intent = true
		if in.Txid, err = c.txid(); err != nil {
			return Input{}, err
		}
	default:
		return Input{}, fmt.Errorf("%w: input of type %d", ErrPacket, typ)
	}
	if in.Vin, err = c.uint16("vin"); err != nil {
		return Input{}, err
	}
	in.Amount, err = c.uvarint("amount")
	return in, err
}

func (c *cursor) output() (Output, error) {
	typ, err := c.octet("output")
	if err != nil {
		return Output{}, err
	}
	if typ != outputLocal {
		return Output{}, fmt.Errorf("%w: output of type %d", ErrPacket, typ)
	}
	var out Output
	if out.Vout, err = c.uint16("vout"); err != nil {
		return Output{}, err
	}
	out.Amount, err = c.uvarint("amount")
	return out, err
}

func readList[T any](c *cursor, what string, one func() (T, error)) ([]T, error) {
	n, err := c.count(what)
	if err != nil || n == 0 {
		return nil, err
	}
	list := make([]T, 0, n)
	for range n {
		v, err := one()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (c *cursor) group() (Group, error) {
	present, err := c.octet("group")
	if err != nil {
		return Group{}, err
	}
	var g Group
	if present&hasID != 0 {
		id, err := c.id()
		if err != nil {
			return Group{}, err
		}
		g.ID = &id
	}
	if present&hasControl != 0 {
		ref, err := c.ref()
		if err != nil {
			return Group{}, err
		}
		g.Control = &ref
	}
	if present&hasMetadata != 0 {
		if g.Metadata, err = readList(c, "metadata", c.metadata); err != nil {
			return Group{}, err
		}
	}
	if g.Inputs, err = readList(c, "inputs", c.input); err != nil {
		return Group{}, err
	}
	g.Outputs, err = readList(c, "outputs", c.output)
	return g, err
}

// Encode writes the packet; it does not validate.
func (p Packet) Encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(p)))
	for _, g := range p {
		b = appendGroup(b, g)
	}
	return b
}

func appendGroup(b []byte, g Group) []byte {
	var present byte
	if g.ID != nil {
		present |= hasID
	}
	if g.Control != nil {
		present |= hasControl
	}
	if len(g.Metadata) > 0 {
		present |= hasMetadata
	}
	b = append(b, present)
	if g.ID != nil {
		b = appendID(b, *g.ID)
	}
	if g.Control != nil {
		b = appendRef(b, *g.Control)
	}
	if len(g.Metadata) > 0 {
		b = appendList(b, g.Metadata, appendMetadata)
	}
	return appendList(appendList(b, g.Inputs, appendInput), g.Outputs, appendOutput)
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = one(b, v)
	}
	return b
}

func appendTxid(b []byte, h chainhash.Hash) []byte {
	slices.Reverse(h[:])
	return append(b, h[:]...)
}

func appendID(b []byte, id ID) []byte {
	return binary.LittleEndian.AppendUint16(appendTxid(b, id.Txid), id.Group)
}

func appendRef(b []byte, r Ref) []byte {
	if r.ByGroup {
		return binary.LittleEndian.AppendUint16(append(b, refByGroup), r.Group)
	}
	return appendID(append(b, refByID), r.ID)
}

func appendMetadata(b []byte, m Metadata) []byte { return appendBytes(appendBytes(b, m.Key), m.Value) }

func appendInput(b []byte, in Input) []byte {
	if in.Intent {
		b = appendTxid(append(b, inputIntent), in.Txid)
	} else {
		b = append(b, inputLocal)
	}
	b = binary.LittleEndian.AppendUint16(b, in.Vin)
	return binary.AppendUvarint(b, in.Amount)
}

func appendOutput(b []byte, out Output) []byte {
	b = binary.LittleEndian.AppendUint16(append(b, outputLocal), out.Vout)
	return binary.AppendUvarint(b, out.Amount)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func tagged(tag string, b []byte) [32]byte { return bip340.TaggedHash(tag, b) }

// join hashes two children in ascending order.
func join(a, b [32]byte) [32]byte {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return bip340.TaggedHash("ArkadeAssetBranch", a[:], b[:])
}
