package chain

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	maxMoney = 21_000_000 * 100_000_000 // satoshis
	// lockTimeThreshold parts heights (below) from unix times in a lock time.
	lockTimeThreshold = 500_000_000
)

// Weight is a transaction's weight (BIP141): three times its size without
// witness plus its whole size.
func Weight(tx *wire.MsgTx) int64 {
	return int64(3*tx.SerializeSizeStripped() + tx.SerializeSize())
}

// checkSanity holds the rules that need no context.
func checkSanity(tx *wire.MsgTx) error {
	if len(tx.TxIn) == 0 || len(tx.TxOut) == 0 {
		return fmt.Errorf("%w-vin-or-vout-empty", ErrMalformed)
	}
	if w := Weight(tx); w > MaxTxWeight {
		return fmt.Errorf("%w: tx-size: weight %d over %d", ErrMalformed, w, MaxTxWeight)
	}
	var sum int64
	for _, out := range tx.TxOut {
		if out.Value < 0 || out.Value > maxMoney || sum+out.Value > maxMoney {
			return fmt.Errorf("%w-vout-out-of-range", ErrMalformed)
		}
		sum += out.Value
	}
	seen := make(map[wire.OutPoint]struct{}, len(tx.TxIn))
	for _, in := range tx.TxIn {
		if _, twice := seen[in.PreviousOutPoint]; twice {
			return fmt.Errorf("%w-inputs-duplicate", ErrMalformed)
		}
		seen[in.PreviousOutPoint] = struct{}{}
		if in.PreviousOutPoint.Hash == (chainhash.Hash{}) {
			return fmt.Errorf("%w-prevout-null", ErrMalformed)
		}
	}
	return nil
}

// verify holds every rule for tx to be in the next block without those of the
// mempool that go, and returns its fee.
func (c *Chain) verify(tx *wire.MsgTx, gone map[chainhash.Hash]bool) (fee int64, err error) {
	if err := checkSanity(tx); err != nil {
		return 0, err
	}
	prevs, in, err := c.checkInputs(tx, gone)
	if err != nil {
		return 0, err
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	fee += in
	if fee < 0 {
		return 0, fmt.Errorf("%w: value in (%d) < value out (%d)", ErrValue, in, in-fee)
	}
	if err := c.checkLockTime(tx); err != nil {
		return 0, err
	}
	if err := c.checkSequences(tx); err != nil {
		return 0, err
	}
	return fee, checkScripts(tx, prevs)
}

// checkInputs finds what tx spends, and its sum.
func (c *Chain) checkInputs(tx *wire.MsgTx, gone map[chainhash.Hash]bool) (*txscript.MultiPrevOutFetcher, int64, error) {
	prevs := txscript.NewMultiPrevOutFetcher(nil)
	var sum int64
	for _, in := range tx.TxIn {
		op := in.PreviousOutPoint
		prev := c.txs[op.Hash]
		if prev == nil || gone[op.Hash] || uint64(op.Index) >= uint64(len(prev.tx.TxOut)) {
			return nil, 0, fmt.Errorf("%w: %s", ErrMissingOrSpent, op)
		}
		out := prev.tx.TxOut[op.Index]
		if by, spent := c.spends[op]; spent {
			if c.txs[by].block != nil {
				return nil, 0, fmt.Errorf("%w: %s was spent by %s", ErrMissingOrSpent, op, by)
			}
			if !gone[by] {
				return nil, 0, &ConflictError{Outpoint: op, By: by}
			}
		}
		if prev.coinbase() && c.height()+1-prev.block.height < c.maturity {
			return nil, 0, fmt.Errorf("%w: %s", ErrImmature, op)
		}
		if txscript.IsUnspendable(out.PkScript) {
			return nil, 0, fmt.Errorf("%w: %s is unspendable", ErrMissingOrSpent, op)
		}
		sum += out.Value
		prevs.AddPrevOut(op, out)
	}
	return prevs, sum, nil
}

// coinbase reports whether e created coins.
func (e *entry) coinbase() bool { return e.block != nil && e.pos == 0 }

// checkLockTime is BIP113: times are compared with the median time of the tip.
func (c *Chain) checkLockTime(tx *wire.MsgTx) error {
	if tx.LockTime == 0 {
		return nil
	}
	now := int64(c.height()) + 1
	if tx.LockTime >= lockTimeThreshold {
		now = c.tip().median
	}
	if int64(tx.LockTime) < now {
		return nil
	}
	for _, in := range tx.TxIn {
		if in.Sequence != wire.MaxTxInSequenceNum {
			return fmt.Errorf("%w: lock time %d, now %d", ErrNotFinal, tx.LockTime, now)
		}
	}
	return nil
}

// checkSequences is BIP68. A coin in the mempool counts as confirmed by the
// next block.
func (c *Chain) checkSequences(tx *wire.MsgTx) error {
	if uint32(tx.Version) < 2 {
		return nil
	}
	next, median := c.height()+1, c.tip().median
	for i, in := range tx.TxIn {
		if in.Sequence&wire.SequenceLockTimeDisabled != 0 {
			continue
		}
		height := next
		if b := c.txs[in.PreviousOutPoint.Hash].block; b != nil {
			height = b.height
		}
		lock := int64(in.Sequence & wire.SequenceLockTimeMask)
		if in.Sequence&wire.SequenceLockTimeIsSeconds == 0 {
			if int64(height)+lock > int64(next) {
				return fmt.Errorf("%w: input %d waits for block %d, next is %d", ErrSequenceLock, i, int64(height)+lock, next)
			}
			continue
		}
		// The coin's age starts at the median time before its block.
		since := c.blocks[max(height-1, 0)].median
		if until := since + lock<<wire.SequenceLockTimeGranularity; until > median {
			return fmt.Errorf("%w: input %d waits for median time %d, now %d", ErrSequenceLock, i, until, median)
		}
	}
	return nil
}

func checkScripts(tx *wire.MsgTx, prevs *txscript.MultiPrevOutFetcher) error {
	hashes := txscript.NewTxSigHashes(tx, prevs)
	for i, in := range tx.TxIn {
		out := prevs.FetchPrevOutput(in.PreviousOutPoint)
		if txscript.IsPayToAnchorScript(out.PkScript) && len(in.Witness) > 0 {
			return fmt.Errorf("%w: input %d: bad-witness-nonstandard", ErrScript, i)
		}
		vm, err := txscript.NewEngine(out.PkScript, tx, i, txscript.StandardVerifyFlags, nil, hashes, out.Value, prevs)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return fmt.Errorf("%w: input %d: %w", ErrScript, i, err)
		}
	}
	return nil
}
