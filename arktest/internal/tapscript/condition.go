package tapscript

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ErrCondition is returned when a condition leaf's witness does not satisfy it.
var ErrCondition = errors.New("tapscript: condition not met")

// forbidden lists what a condition may not look at: signatures and time.
var forbidden = []byte{
	txscript.OP_CHECKMULTISIG, txscript.OP_CHECKMULTISIGVERIFY,
	txscript.OP_CHECKSIG, txscript.OP_CHECKSIGVERIFY, txscript.OP_CHECKSIGADD,
	txscript.OP_CHECKLOCKTIMEVERIFY, txscript.OP_CHECKSEQUENCEVERIFY,
}

// RunCondition runs a leaf's condition alone, with witness as its stack; it
// must leave nothing but truth behind.
func RunCondition(condition []byte, witness [][]byte) error {
	t := txscript.MakeScriptTokenizer(0, condition)
	for t.Next() {
		if slices.Contains(forbidden, t.Opcode()) {
			return fmt.Errorf("%w: opcode %#x is forbidden", ErrCondition, t.Opcode())
		}
	}
	tx := &wire.MsgTx{Version: 2, TxIn: []*wire.TxIn{{Sequence: wire.MaxTxInSequenceNum}}, TxOut: []*wire.TxOut{{}}}
	vm, err := txscript.NewEngine(condition, tx, 0, txscript.ScriptVerifyTaproot, nil, nil, 0, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCondition, err)
	}
	vm.SetStack(witness)
	if err := vm.Execute(); err != nil {
		return fmt.Errorf("%w: %w", ErrCondition, err)
	}
	if n := len(vm.GetStack()); n != 0 {
		return fmt.Errorf("%w: %d items left", ErrCondition, n)
	}
	return nil
}
