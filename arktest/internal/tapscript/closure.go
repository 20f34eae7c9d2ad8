// Package tapscript owns the test operator's own reading and writing of Ark
// tapleaves, leaf lists, custom PSBT fields and tapscript signatures. It must
// know nothing of Vigil's ark packages, so that the two cannot share a mistake.
package tapscript

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
)

// Kind names a leaf template of protocol section 3.1.
type Kind int

// The leaf templates.
const (
	Multisig Kind = iota
	CSVMultisig
	CLTVMultisig
	ConditionMultisig
	ConditionCSVMultisig
)

// maxScript bounds a leaf before it is looked at.
const maxScript = 10_000

// ErrUnknownLeaf is returned for a script that is none of the templates.
var ErrUnknownLeaf = errors.New("tapscript: unknown leaf")

// Closure is a decoded leaf. Which fields count depends on Kind.
type Closure struct {
	Kind      Kind
	Keys      [][32]byte // in script order
	Add       bool       // CHECKSIGADD form
	Delay     Delay
	Locktime  uint32
	Condition []byte
}

// Exit says that the leaf has a relative lock, so that the operator's key need
// not be in it.
func (c Closure) Exit() bool { return c.Kind == CSVMultisig || c.Kind == ConditionCSVMultisig }

// Has says whether key is one of the leaf's.
func (c Closure) Has(key [32]byte) bool {
	for _, k := range c.Keys {
		if k == key {
			return true
		}
	}
	return false
}

// Script encodes the leaf.
func (c Closure) Script() ([]byte, error) {
	b := txscript.NewScriptBuilder()
	if c.Kind == ConditionMultisig || c.Kind == ConditionCSVMultisig {
		b.AddOps(c.Condition).AddOp(txscript.OP_VERIFY)
	}
	if c.Kind == CSVMultisig || c.Kind == ConditionCSVMultisig {
		seq, err := c.Delay.Sequence()
		if err != nil {
			return nil, err
		}
		b.AddInt64(int64(seq)).AddOp(txscript.OP_CHECKSEQUENCEVERIFY).AddOp(txscript.OP_DROP)
	}
	if c.Kind == CLTVMultisig {
		b.AddInt64(int64(c.Locktime)).AddOp(txscript.OP_CHECKLOCKTIMEVERIFY).AddOp(txscript.OP_DROP)
	}
	for i, k := range c.Keys {
		b.AddData(k[:])
		switch last := i == len(c.Keys)-1; {
		case c.Add && i == 0:
			b.AddOp(txscript.OP_CHECKSIG)
		case c.Add:
			b.AddOp(txscript.OP_CHECKSIGADD)
		case last:
			b.AddOp(txscript.OP_CHECKSIG)
		default:
			b.AddOp(txscript.OP_CHECKSIGVERIFY)
		}
	}
	if c.Add {
		b.AddInt64(int64(len(c.Keys))).AddOp(txscript.OP_NUMEQUAL)
	}
	return b.Script()
}

// Decode reads a leaf. As in arkd a reading counts only when it encodes to the
// same bytes again, and the readings are tried in the order CSV, CLTV,
// multisig, condition, condition with CSV.
func Decode(script []byte) (Closure, error) {
	if len(script) == 0 || len(script) > maxScript {
		return Closure{}, ErrUnknownLeaf
	}
	ops, err := tokens(script)
	if err != nil {
		return Closure{}, err
	}
	for _, read := range []func([]token) (Closure, bool){readCSV, readCLTV, readMultisig} {
		if c, ok := read(ops); ok && same(c, script) {
			return c, nil
		}
	}
	for i, t := range ops {
		if t.op != txscript.OP_VERIFY {
			continue
		}
		condition := script[:t.start]
		if c, ok := readMultisig(ops[i+1:]); ok {
			c.Kind, c.Condition = ConditionMultisig, condition
			if same(c, script) {
				return c, nil
			}
		}
		if c, ok := readCSV(ops[i+1:]); ok {
			c.Kind, c.Condition = ConditionCSVMultisig, condition
			if same(c, script) {
				return c, nil
			}
		}
		break // only the first VERIFY ends the condition
	}
	return Closure{}, ErrUnknownLeaf
}

func same(c Closure, script []byte) bool {
	again, err := c.Script()
	return err == nil && bytes.Equal(again, script)
}

type token struct {
	op    byte
	data  []byte
	start int
}

func tokens(script []byte) ([]token, error) {
	if txscript.ScriptHasOpSuccess(script) {
		return nil, fmt.Errorf("%w: holds OP_SUCCESS", ErrUnknownLeaf)
	}
	var out []token
	t := txscript.MakeScriptTokenizer(0, script)
	start := 0
	for t.Next() {
		out = append(out, token{op: t.Opcode(), data: t.Data(), start: start})
		start = int(t.ByteIndex())
	}
	if err := t.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownLeaf, err)
	}
	return out, nil
}

// number reads a pushed script number of at most five bytes.
func number(t token) (int64, bool) {
	switch {
	case t.op == txscript.OP_0:
		return 0, true
	case t.op >= txscript.OP_1 && t.op <= txscript.OP_16:
		return int64(t.op-txscript.OP_1) + 1, true
	case len(t.data) > 0 && len(t.data) <= 5:
		n, err := txscript.MakeScriptNum(t.data, true, 5)
		return int64(n), err == nil
	}
	return 0, false
}

func readCSV(ops []token) (Closure, bool) {
	if len(ops) < 5 || ops[1].op != txscript.OP_CHECKSEQUENCEVERIFY || ops[2].op != txscript.OP_DROP {
		return Closure{}, false
	}
	n, ok := number(ops[0])
	if !ok {
		return Closure{}, false
	}
	d, err := delayOfNumber(n)
	if err != nil {
		return Closure{}, false
	}
	c, ok := readMultisig(ops[3:])
	c.Kind, c.Delay = CSVMultisig, d
	return c, ok
}

func readCLTV(ops []token) (Closure, bool) {
	if len(ops) < 5 || ops[1].op != txscript.OP_CHECKLOCKTIMEVERIFY || ops[2].op != txscript.OP_DROP {
		return Closure{}, false
	}
	n, ok := number(ops[0])
	if !ok || n < 0 || n > 0xffffffff {
		return Closure{}, false
	}
	c, ok := readMultisig(ops[3:])
	c.Kind, c.Locktime = CLTVMultisig, uint32(n)
	return c, ok
}

func readMultisig(ops []token) (Closure, bool) {
	if len(ops) < 2 {
		return Closure{}, false
	}
	c := Closure{Kind: Multisig}
	if last := ops[len(ops)-1]; last.op == txscript.OP_NUMEQUAL {
		c.Add, ops = true, ops[:len(ops)-2]
	}
	if len(ops)%2 != 0 {
		return Closure{}, false
	}
	for i := 0; i < len(ops); i += 2 {
		if ops[i].op != txscript.OP_DATA_32 {
			return Closure{}, false
		}
		if _, err := schnorr.ParsePubKey(ops[i].data); err != nil {
			return Closure{}, false
		}
		c.Keys = append(c.Keys, [32]byte(ops[i].data))
	}
	return c, len(c.Keys) > 0
}

// IsNote says whether script is the leaf of a note (protocol section 3.7).
func IsNote(script []byte) bool {
	return len(script) == 35 && script[0] == txscript.OP_SHA256 &&
		script[1] == txscript.OP_DATA_32 && script[34] == txscript.OP_EQUAL
}

// NoteScript is the leaf that a note's preimage opens.
func NoteScript(preimage []byte) []byte {
	h := sha256.Sum256(preimage)
	return append(append([]byte{txscript.OP_SHA256, txscript.OP_DATA_32}, h[:]...), txscript.OP_EQUAL)
}
