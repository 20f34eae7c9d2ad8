package script

import (
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// BIP-68's parts of a sequence.
const (
	wireSeconds     = wire.SequenceLockTimeIsSeconds
	wireMask        = wire.SequenceLockTimeMask
	wireGranularity = wire.SequenceLockTimeGranularity
)

// maxNumberLen is the longest operand of CSV and CLTV in bytes.
const maxNumberLen = 5

// appendNumber appends the minimal push of n: OP_0, OP_1 to OP_16, else a
// little-endian number with its sign bit clear.
func appendNumber(s []byte, n uint32) []byte {
	switch {
	case n == 0:
		return append(s, txscript.OP_0)
	case n <= 16:
		return append(s, txscript.OP_1-1+byte(n))
	}
	b := numberBytes(n)
	return append(append(s, byte(len(b))), b...)
}

// numberBytes is n as a minimal script number.
func numberBytes(n uint32) []byte {
	var b []byte
	for ; n > 0; n >>= 8 {
		b = append(b, byte(n))
	}
	if len(b) > 0 && b[len(b)-1]&0x80 != 0 {
		b = append(b, 0)
	}
	return b
}

// parseNumber reads a minimal, non-negative script number below 2^32.
func parseNumber(b []byte) (uint32, bool) {
	if len(b) > maxNumberLen {
		return 0, false
	}
	n, err := txscript.MakeScriptNum(b, true, maxNumberLen)
	if err != nil || n < 0 || int64(n) > 0xffffffff {
		return 0, false
	}
	return uint32(n), true
}

// scriptNumber is the number that an opcode pushes.
func scriptNumber(op byte, data []byte) (uint32, bool) {
	if n, ok := smallInt(op); ok {
		return uint32(n), true
	}
	if op == txscript.OP_0 {
		return 0, true
	}
	if len(data) == 0 {
		return 0, false
	}
	return parseNumber(data)
}

// smallInt is the number that OP_1 to OP_16 push.
func smallInt(op byte) (int, bool) {
	if op < txscript.OP_1 || op > txscript.OP_16 {
		return 0, false
	}
	return int(op) - (txscript.OP_1 - 1), true
}
