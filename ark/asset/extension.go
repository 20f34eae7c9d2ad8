package asset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	magic = "ARK"
	// TypeAsset is the type of the extension's asset packet.
	TypeAsset = 0
	// maxExtension bounds an extension script in bytes.
	maxExtension = 128 << 10
)

var (
	// ErrExtension is returned for a script that is no extension, or a broken one.
	ErrExtension = errors.New("asset: invalid extension")
	// ErrNoExtension is returned for outputs without an extension.
	ErrNoExtension = errors.New("asset: no extension")
)

// Extension is the content of an extension output: packets of distinct types,
// of which a delegate understands the asset packet and carries the others.
type Extension []Part

// Part is one packet of an extension.
type Part struct {
	Type byte
	Data []byte
}

// IsExtension says whether the operator would take a script for an extension:
// OP_RETURN and a push that begins with "ARK".
func IsExtension(pkScript []byte) bool {
	t := txscript.MakeScriptTokenizer(0, pkScript)
	return t.Next() && t.Opcode() == txscript.OP_RETURN && t.Next() && bytes.HasPrefix(t.Data(), []byte(magic))
}

// ParseExtension reads an extension script. Its asset packet, if it has one, is
// valid.
func ParseExtension(pkScript []byte) (Extension, error) {
	if len(pkScript) > maxExtension {
		return nil, fmt.Errorf("%w: %d bytes", ErrExtension, len(pkScript))
	}
	if !IsExtension(pkScript) {
		return nil, fmt.Errorf("%w: not OP_RETURN and %s", ErrExtension, magic)
	}
	t := txscript.MakeScriptTokenizer(0, pkScript)
	t.Next()
	t.Next()
	if int(t.ByteIndex()) != len(pkScript) {
		return nil, fmt.Errorf("%w: trailing bytes", ErrExtension)
	}
	c := cursor{t.Data()[len(magic):]}
	var e Extension
	var seen [256]bool
	for len(c.rest) > 0 {
		typ, err := c.octet("type")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrExtension, err)
		}
		data, err := c.bytes("data")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrExtension, err)
		}
		if seen[typ] {
			return nil, fmt.Errorf("%w: two packets of type %d", ErrExtension, typ)
		}
		seen[typ] = true
		if typ == TypeAsset {
			if _, err := ParsePacket(data); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrExtension, err)
			}
		}
		e = append(e, Part{typ, data})
	}
	if len(e) == 0 {
		return nil, fmt.Errorf("%w: no packets", ErrExtension)
	}
	return e, nil
}

// Script encodes the extension, with the push opcode that its length calls for.
func (e Extension) Script() ([]byte, error) {
	if len(e) == 0 {
		return nil, fmt.Errorf("%w: no packets", ErrExtension)
	}
	payload := []byte(magic)
	for _, p := range e {
		payload = appendBytes(append(payload, p.Type), p.Data)
	}
	s := []byte{txscript.OP_RETURN}
	switch n := len(payload); {
	case n <= txscript.OP_DATA_75:
		s = append(s, byte(n))
	case n <= 0xff:
		s = append(s, txscript.OP_PUSHDATA1, byte(n))
	case n <= 0xffff:
		s = binary.LittleEndian.AppendUint16(append(s, txscript.OP_PUSHDATA2), uint16(n))
	default:
		s = binary.LittleEndian.AppendUint32(append(s, txscript.OP_PUSHDATA4), uint32(n))
	}
	return append(s, payload...), nil
}

// Part is the packet of a type; nil when there is none.
func (e Extension) Part(typ byte) []byte {
	for _, p := range e {
		if p.Type == typ {
			return p.Data
		}
	}
	return nil
}

// Assets is the extension's asset packet; nil when there is none.
func (e Extension) Assets() (Packet, error) {
	data := e.Part(TypeAsset)
	if data == nil {
		return nil, nil
	}
	return ParsePacket(data)
}

// Find returns the index and content of the only extension among outputs, or
// ErrNoExtension. A second one, or one with a value, is ErrExtension.
func Find(outs []*wire.TxOut) (int, Extension, error) {
	at := -1
	for i, out := range outs {
		switch {
		case !IsExtension(out.PkScript):
		case at >= 0:
			return 0, nil, fmt.Errorf("%w: a second one", ErrExtension)
		case out.Value != 0:
			return 0, nil, fmt.Errorf("%w: value %d", ErrExtension, out.Value)
		default:
			at = i
		}
	}
	if at < 0 {
		return 0, nil, ErrNoExtension
	}
	e, err := ParseExtension(outs[at].PkScript)
	return at, e, err
}

// LeafScript is the extension script that the operator puts into an intent's
// leaf of the batch, for the one that its proof has.
func LeafScript(pkScript []byte, proof chainhash.Hash) ([]byte, error) {
	e, err := ParseExtension(pkScript)
	if err != nil {
		return nil, err
	}
	leaf := make(Extension, len(e))
	for i, p := range e {
		if p.Type == TypeAsset {
			packet, err := ParsePacket(p.Data)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrExtension, err)
			}
			p.Data = packet.Leaf(proof).Encode()
		}
		leaf[i] = p
	}
	return leaf.Script()
}
