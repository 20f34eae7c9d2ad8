package script

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ErrCondition is returned for a condition that its witness does not satisfy.
var ErrCondition = errors.New("script: condition not met")

// Evaluate runs a condition script alone with the witness as its stack. It
// must leave exactly one true item. Signature and timelock opcodes are refused:
// a condition sees no transaction. The engine's own limits (10,000 bytes, 201
// operations) bound the work.
func Evaluate(condition []byte, witness wire.TxWitness) error {
	t := txscript.MakeScriptTokenizer(0, condition)
	for t.Next() {
		switch t.Opcode() {
		case txscript.OP_CHECKSIG, txscript.OP_CHECKSIGVERIFY, txscript.OP_CHECKSIGADD,
			txscript.OP_CHECKMULTISIG, txscript.OP_CHECKMULTISIGVERIFY,
			txscript.OP_CHECKLOCKTIMEVERIFY, txscript.OP_CHECKSEQUENCEVERIFY:
			return fmt.Errorf("%w: opcode %#x is not allowed", ErrCondition, t.Opcode())
		}
	}
	if err := t.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrCondition, err)
	}
	// The engine needs a transaction, which the condition cannot look at.
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{}, nil, nil))
	tx.AddTxOut(wire.NewTxOut(0, nil))
	vm, err := txscript.NewEngine(condition, tx, 0, txscript.ScriptVerifyTaproot, nil, nil, 0, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCondition, err)
	}
	vm.SetStack(witness)
	if err := vm.Execute(); err != nil {
		return fmt.Errorf("%w: %w", ErrCondition, err)
	}
	if n := len(vm.GetStack()); n != 0 {
		return fmt.Errorf("%w: %d items left over", ErrCondition, n)
	}
	return nil
}
