package chain

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Why a transaction is refused, matched with errors.Is. The texts are Bitcoin
// Core's reject reasons, since clients match on them.
var (
	// ErrMalformed: no inputs or outputs, a duplicate input, a value out of range, a
	// coinbase, or over the weight limit.
	ErrMalformed = errors.New("bad-txns")
	// ErrMissingOrSpent: an input does not exist or is spent by a confirmed transaction.
	ErrMissingOrSpent = errors.New("bad-txns-inputs-missingorspent")
	// ErrConflict: an input is spent by another transaction of the mempool. The error
	// is a *ConflictError.
	ErrConflict = errors.New("txn-mempool-conflict")
	// ErrReplacement: the transaction pays too little to replace another.
	ErrReplacement = errors.New("insufficient fee")
	// ErrConfirmed: the transaction is already in a block.
	ErrConfirmed = errors.New("txn-already-known")
	// ErrValue: outputs are worth more than inputs.
	ErrValue = errors.New("bad-txns-in-belowout")
	// ErrImmature: a coinbase output is spent too early.
	ErrImmature = errors.New("bad-txns-premature-spend-of-coinbase")
	// ErrNotFinal: the absolute lock time is not reached.
	ErrNotFinal = errors.New("non-final")
	// ErrSequenceLock: a relative lock (BIP68) is not reached.
	ErrSequenceLock = errors.New("non-BIP68-final")
	// ErrScript: the script engine refuses an input.
	ErrScript = errors.New("mandatory-script-verify-flag-failed")
	// ErrPackage: the transactions are not one child with its parents.
	ErrPackage = errors.New("package-not-child-with-parents")
	// ErrFull: the chain holds as many transactions as it may.
	ErrFull = errors.New("mempool full")
)

// ErrFaucetDry is returned when the faucet has too few coins.
var ErrFaucetDry = errors.New("chain: faucet has too few coins")

// ErrRange is returned for a count of blocks that is out of range.
var ErrRange = errors.New("chain: block count out of range")

// ErrLagged ends a subscription whose consumer fell behind its buffer.
var ErrLagged = errors.New("chain: subscriber fell behind")

// ConflictError names the mempool transaction that spends an input already.
// It matches ErrConflict.
type ConflictError struct {
	Outpoint wire.OutPoint
	By       chainhash.Hash
}

// Error says which input conflicts with which transaction.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: %s is spent by %s", ErrConflict, e.Outpoint, e.By)
}

// Unwrap returns ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }
