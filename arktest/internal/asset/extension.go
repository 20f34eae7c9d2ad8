// Package asset owns the test operator's reading of extension outputs and
// asset packets (protocol section 3.8) and its checks on transactions that
// carry assets. It must know nothing of Vigil's ark packages.
package asset

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ErrMalformed is the root of every decoding error.
var ErrMalformed = errors.New("asset: malformed")

// packetType is the type byte of an asset packet.
const packetType = 0

// magic opens the data of an extension output.
const magic = "ARK"

// payload returns the pushed data of an extension output, nil for any other.
func payload(script []byte) []byte {
	t := txscript.MakeScriptTokenizer(0, script)
	if !t.Next() || t.Opcode() != txscript.OP_RETURN || !t.Next() || !bytes.HasPrefix(t.Data(), []byte(magic)) {
		return nil
	}
	return t.Data()
}

// IsExtension says whether script is an extension output's.
func IsExtension(script []byte) bool { return payload(script) != nil }

// Other is a packet that is carried without being understood.
type Other struct {
	Type byte
	Data []byte
}

// Extension is a decoded extension output: at most one asset packet, and
// others in their order. Position keeps where the asset packet stood.
type Extension struct {
	Groups   []Group // nil without an asset packet
	Others   []Other
	Position int
}

// Parse decodes an extension output's script.
func Parse(script []byte) (*Extension, error) {
	data := payload(script)
	if data == nil {
		return nil, fmt.Errorf("%w: no extension", ErrMalformed)
	}
	r := bytes.NewReader(data[len(magic):])
	e := &Extension{Position: -1}
	seen := map[byte]bool{}
	for r.Len() > 0 {
		typ, _ := r.ReadByte()
		body, err := varBytes(r)
		if err != nil {
			return nil, fmt.Errorf("packet data: %w", err)
		}
		if seen[typ] {
			return nil, fmt.Errorf("%w: duplicate packet type %d", ErrMalformed, typ)
		}
		seen[typ] = true
		if typ != packetType {
			e.Others = append(e.Others, Other{typ, body})
			continue
		}
		e.Position = len(e.Others)
		if e.Groups, err = parsePacket(body); err != nil {
			return nil, err
		}
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("%w: missing packets", ErrMalformed)
	}
	return e, nil
}

// Script encodes the extension.
func (e *Extension) Script() []byte {
	data := []byte(magic)
	put := func(typ byte, body []byte) {
		data = append(data, typ)
		data = binary.AppendUvarint(data, uint64(len(body)))
		data = append(data, body...)
	}
	for i := 0; i <= len(e.Others); i++ {
		if e.Groups != nil && i == e.Position {
			put(packetType, encodePacket(e.Groups))
		}
		if i < len(e.Others) {
			put(e.Others[i].Type, e.Others[i].Data)
		}
	}
	return opReturn(data)
}

func opReturn(data []byte) []byte {
	out := []byte{txscript.OP_RETURN}
	switch n := len(data); {
	case n <= 75:
		out = append(out, byte(n))
	case n <= 0xff:
		out = append(out, txscript.OP_PUSHDATA1, byte(n))
	case n <= 0xffff:
		out = binary.LittleEndian.AppendUint16(append(out, txscript.OP_PUSHDATA2), uint16(n))
	default:
		out = binary.LittleEndian.AppendUint32(append(out, txscript.OP_PUSHDATA4), uint32(n))
	}
	return append(out, data...)
}

// ForLeaf turns an intent's extension into its leaf's: every group's inputs
// become one input of the intent itself.
func (e *Extension) ForLeaf(proof chainhash.Hash) *Extension {
	out := &Extension{Others: e.Others, Position: e.Position}
	for _, g := range e.Groups {
		g.Inputs = []Input{{Type: inputIntent, Txid: proof}}
		out.Groups = append(out.Groups, g)
	}
	return out
}

// Amount is a quantity of one asset.
type Amount struct {
	ID     string
	Amount uint64
}

// Held maps a transaction's output indexes to the assets that its packet gives
// them; a transaction without a readable extension holds none.
func Held(tx *wire.MsgTx) map[uint32][]Amount {
	for _, o := range tx.TxOut {
		if !IsExtension(o.PkScript) {
			continue
		}
		e, err := Parse(o.PkScript)
		if err != nil {
			return nil
		}
		return held(tx.TxHash(), e.Groups)
	}
	return nil
}

func held(txid chainhash.Hash, groups []Group) map[uint32][]Amount {
	out := map[uint32][]Amount{}
	for i, g := range groups {
		id := g.id(txid, i)
		for _, o := range g.Outputs {
			out[uint32(o.Vout)] = append(out[uint32(o.Vout)], Amount{id, o.Amount})
		}
	}
	return out
}

// ID names a group's asset: 32 bytes of txid in display order and the group's
// index.
type ID [34]byte

// String is the ID in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

func newID(txid chainhash.Hash, index int) (id ID) {
	copy(id[:], txid[:])
	slices.Reverse(id[:32])
	binary.LittleEndian.PutUint16(id[32:], uint16(index))
	return id
}

func (g Group) id(txid chainhash.Hash, index int) string {
	if g.ID != nil {
		return g.ID.String()
	}
	return newID(txid, index).String()
}

// Packets maps the packet types of a transaction's extension to their bytes in
// hex; nil without a readable extension.
func Packets(tx *wire.MsgTx) map[int64]string {
	for _, o := range tx.TxOut {
		if !IsExtension(o.PkScript) {
			continue
		}
		e, err := Parse(o.PkScript)
		if err != nil {
			return nil
		}
		out := map[int64]string{}
		if e.Groups != nil {
			out[packetType] = hex.EncodeToString(encodePacket(e.Groups))
		}
		for _, p := range e.Others {
			out[int64(p.Type)] = hex.EncodeToString(p.Data)
		}
		return out
	}
	return nil
}
