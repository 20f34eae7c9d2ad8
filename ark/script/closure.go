// Package script owns what stands in outputs and PSBT fields of the Ark
// protocol: tapscript closures, VTXO scripts, their taproot trees and the
// protocol's own PSBT fields. It is pure: it holds no keys and does no I/O.
package script

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

// MaxLeafScript bounds a leaf script in bytes: several times the largest
// closure in use, a condition with a handful of keys.
const MaxLeafScript = 4096

// ErrClosure is returned for a script that is no closure of the protocol.
var ErrClosure = errors.New("script: not a closure")

// Closure is a decoded tapscript leaf (protocol section 3.1).
type Closure interface {
	// Script is the leaf script, byte for byte the one that was decoded.
	Script() []byte
	// Keys are the signing keys in script order; none for a note.
	Keys() []bip340.XOnly
	// Exit says whether the leaf works without the operator after a relative
	// delay. Every other leaf but a note is a collaborative one.
	Exit() bool
}

// Multisig is the n-of-n leaf of its keys.
type Multisig struct {
	PubKeys []bip340.XOnly
	// Add selects the CHECKSIGADD form instead of the CHECKSIGVERIFY one.
	Add bool
}

// CSVMultisig is a Multisig behind a relative lock, an exit leaf.
type CSVMultisig struct {
	Multisig
	Sequence uint32 // BIP-68: type flag and value, no other bits
}

// CLTVMultisig is a Multisig behind an absolute lock.
type CLTVMultisig struct {
	Multisig
	Locktime uint32 // from 500,000,000 on unix seconds, below a height
}

// ConditionMultisig is a Multisig behind a condition script.
type ConditionMultisig struct {
	Multisig
	Condition []byte
}

// ConditionCSVMultisig is a CSVMultisig behind a condition script, an exit leaf.
type ConditionCSVMultisig struct {
	CSVMultisig
	Condition []byte
}

// Note is the leaf of a note: whoever knows the preimage of the hash.
type Note struct {
	Hash [32]byte // sha256 of the preimage
}

// locktimeTime is the first locktime that is a time and not a height.
const locktimeTime = 500_000_000

// Decode recognises a leaf script. The result's Script equals script; a script
// that would re-encode otherwise, or that holds an OP_SUCCESS, is ErrClosure.
func Decode(script []byte) (Closure, error) {
	if len(script) == 0 || len(script) > MaxLeafScript {
		return nil, fmt.Errorf("%w: %d bytes", ErrClosure, len(script))
	}
	if txscript.ScriptHasOpSuccess(script) {
		return nil, fmt.Errorf("%w: OP_SUCCESS", ErrClosure)
	}
	c := decode(script)
	if c == nil || !bytes.Equal(c.Script(), script) {
		return nil, fmt.Errorf("%w: %.80x", ErrClosure, script)
	}
	return c, nil
}

// decode tries the closures in the operator's order.
func decode(script []byte) Closure {
	if csv, ok := decodeCSV(script); ok {
		return csv
	}
	if lock, rest, ok := cutLock(script, txscript.OP_CHECKLOCKTIMEVERIFY); ok {
		if m, ok := decodeMultisig(rest); ok {
			return CLTVMultisig{Multisig: m, Locktime: lock}
		}
	}
	if m, ok := decodeMultisig(script); ok {
		return m
	}
	if rest, ok := bytes.CutPrefix(script, []byte{txscript.OP_SHA256, txscript.OP_DATA_32}); ok {
		if len(rest) == 33 && rest[32] == txscript.OP_EQUAL {
			return Note{Hash: [32]byte(rest[:32])}
		}
	}
	condition, rest, ok := cutCondition(script)
	if !ok {
		return nil
	}
	if m, ok := decodeMultisig(rest); ok {
		return ConditionMultisig{Multisig: m, Condition: condition}
	}
	if csv, ok := decodeCSV(rest); ok {
		return ConditionCSVMultisig{CSVMultisig: csv, Condition: condition}
	}
	return nil
}

func decodeCSV(script []byte) (CSVMultisig, bool) {
	lock, rest, ok := cutLock(script, txscript.OP_CHECKSEQUENCEVERIFY)
	if !ok || lock&^(wireSeconds|wireMask) != 0 {
		return CSVMultisig{}, false
	}
	m, ok := decodeMultisig(rest)
	return CSVMultisig{Multisig: m, Sequence: lock}, ok
}

// decodeMultisig recognises both forms; the caller compares the encoding.
func decodeMultisig(script []byte) (Multisig, bool) {
	const one = 1 + 32 + 1 // push, key, opcode
	var m Multisig
	for len(script) >= one && script[0] == txscript.OP_DATA_32 {
		key, err := bip340.ParseXOnly(script[1:33])
		if err != nil {
			return Multisig{}, false
		}
		op := script[33]
		script = script[one:]
		m.PubKeys = append(m.PubKeys, key)
		switch op {
		case txscript.OP_CHECKSIGVERIFY:
			if m.Add {
				return Multisig{}, false
			}
		case txscript.OP_CHECKSIG:
			if len(script) == 0 {
				return m, !m.Add
			}
			if len(m.PubKeys) > 1 {
				return Multisig{}, false
			}
			m.Add = true
		case txscript.OP_CHECKSIGADD:
			if !m.Add {
				return Multisig{}, false
			}
		default:
			return Multisig{}, false
		}
	}
	if !m.Add || len(m.PubKeys) > 16 || len(script) != 2 {
		return Multisig{}, false
	}
	n, isSmall := smallInt(script[0])
	return m, isSmall && n == len(m.PubKeys) && script[1] == txscript.OP_NUMEQUAL
}

// cutLock cuts "<number> op DROP" off the front of script.
func cutLock(script []byte, op byte) (lock uint32, rest []byte, ok bool) {
	t := txscript.MakeScriptTokenizer(0, script)
	if !t.Next() {
		return 0, nil, false
	}
	n, ok := scriptNumber(t.Opcode(), t.Data())
	if !ok || !t.Next() || t.Opcode() != op || !t.Next() || t.Opcode() != txscript.OP_DROP {
		return 0, nil, false
	}
	return n, script[t.ByteIndex():], true
}

// cutCondition cuts everything up to the first OP_VERIFY.
func cutCondition(script []byte) (condition, rest []byte, ok bool) {
	t := txscript.MakeScriptTokenizer(0, script)
	for start := int32(0); t.Next(); start = t.ByteIndex() {
		if t.Opcode() == txscript.OP_VERIFY {
			return bytes.Clone(script[:start]), script[t.ByteIndex():], true
		}
	}
	return nil, nil, false
}

// Script implements Closure.
func (m Multisig) Script() []byte {
	var s []byte
	for i, key := range m.PubKeys {
		s = append(append(s, txscript.OP_DATA_32), key[:]...)
		switch {
		case m.Add && i == 0, !m.Add && i == len(m.PubKeys)-1:
			s = append(s, txscript.OP_CHECKSIG)
		case m.Add:
			s = append(s, txscript.OP_CHECKSIGADD)
		default:
			s = append(s, txscript.OP_CHECKSIGVERIFY)
		}
	}
	if m.Add {
		s = append(appendNumber(s, uint32(len(m.PubKeys))), txscript.OP_NUMEQUAL)
	}
	return s
}

// Script implements Closure.
func (c CSVMultisig) Script() []byte {
	s := appendNumber(nil, c.Sequence)
	s = append(s, txscript.OP_CHECKSEQUENCEVERIFY, txscript.OP_DROP)
	return append(s, c.Multisig.Script()...)
}

// Script implements Closure.
func (c CLTVMultisig) Script() []byte {
	s := appendNumber(nil, c.Locktime)
	s = append(s, txscript.OP_CHECKLOCKTIMEVERIFY, txscript.OP_DROP)
	return append(s, c.Multisig.Script()...)
}

// Script implements Closure.
func (c ConditionMultisig) Script() []byte {
	s := append(bytes.Clone(c.Condition), txscript.OP_VERIFY)
	return append(s, c.Multisig.Script()...)
}

// Script implements Closure.
func (c ConditionCSVMultisig) Script() []byte {
	s := append(bytes.Clone(c.Condition), txscript.OP_VERIFY)
	return append(s, c.CSVMultisig.Script()...)
}

// Script implements Closure.
func (n Note) Script() []byte {
	s := append([]byte{txscript.OP_SHA256, txscript.OP_DATA_32}, n.Hash[:]...)
	return append(s, txscript.OP_EQUAL)
}

// Keys implements Closure.
func (m Multisig) Keys() []bip340.XOnly { return m.PubKeys }

// Keys implements Closure: a note has none.
func (Note) Keys() []bip340.XOnly { return nil }

// Exit implements Closure.
func (Multisig) Exit() bool { return false }

// Exit implements Closure.
func (CSVMultisig) Exit() bool { return true }

// Exit implements Closure.
func (Note) Exit() bool { return false }

// Seconds is the relative lock as the operator compares locks: a block counts
// as one second.
func (c CSVMultisig) Seconds() int64 {
	v := int64(c.Sequence & wireMask)
	if c.IsBlocks() {
		return v
	}
	return v << wireGranularity
}

// IsBlocks says whether the relative lock counts blocks.
func (c CSVMultisig) IsBlocks() bool { return c.Sequence&wireSeconds == 0 }

// IsHeight says whether the absolute lock is a block height.
func (c CLTVMultisig) IsHeight() bool { return c.Locktime < locktimeTime }

// HasKey says whether key is one of the closure's.
func HasKey(c Closure, key bip340.XOnly) bool {
	for _, k := range c.Keys() {
		if k == key {
			return true
		}
	}
	return false
}

// Collaborative says whether the closure can stand in a forfeit: neither an
// exit leaf nor a note.
func Collaborative(c Closure) bool {
	_, note := c.(Note)
	return !note && !c.Exit()
}

// ConditionOf is the condition script of a closure that has one, else nil.
func ConditionOf(c Closure) []byte {
	switch c := c.(type) {
	case ConditionMultisig:
		return c.Condition
	case ConditionCSVMultisig:
		return c.Condition
	}
	return nil
}

// LeafHash is the BIP-341 hash of a tapscript leaf of version c0.
func LeafHash(script []byte) chainhash.Hash {
	return txscript.NewBaseTapLeaf(script).TapHash()
}

// SweepLeaf is the leaf by which the operator sweeps a batch once it expired:
// the forfeit key after expiry (protocol section 5.4).
func SweepLeaf(forfeitKey bip340.XOnly, expiry ark.Delay) []byte {
	return CSVMultisig{
		Multisig: Multisig{PubKeys: []bip340.XOnly{forfeitKey}},
		Sequence: expiry.Sequence(),
	}.Script()
}
