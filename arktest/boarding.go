package arktest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

// checkOnchain checks an output that leaves Ark.
func checkOnchain(set Settings, i int, o *wire.TxOut) error {
	most := set.UtxoMax
	if set.NoBoarding {
		most = 0
	}
	if err := checkRange(i, o.Value, most, set.UtxoMin, "utxo"); err != nil {
		return err
	}
	class, addrs, _, err := txscript.ExtractPkScriptAddrs(o.PkScript, &chaincfg.RegressionNetParams)
	meta := code.Meta{"script": fmt.Sprintf("%x", o.PkScript)}
	if err != nil {
		return code.PkScript.New(meta, "failed to get onchain address from script of output %d: %w", i, err)
	}
	if len(addrs) == 0 {
		return code.PkScript.New(meta, "%w for output %d: %s", errNotStandard, i, class)
	}
	return nil
}

// boarding checks the inputs that come from the chain (protocol section 4.5).
func (r *registration) boarding() error {
	for _, c := range r.onchain {
		meta := code.Input(r.txid, int(c.outpoint.Index))
		if len(c.leaves) == 0 {
			return code.PSBTInput.New(meta, "missing taptree for input %s", c.outpoint)
		}
		if err := r.checkBoarding(&c); err != nil {
			return code.PSBTInput.New(meta, "failed to validate boarding input: %w", err)
		}
		r.out.boarding = append(r.out.boarding, c.boardingInput)
	}
	return nil
}

func (r *registration) checkBoarding(c *candidate) error {
	tree, err := tapscript.NewTree(c.leaves)
	if err != nil {
		return err
	}
	ch := r.p.op.chain
	tx, ok := ch.Tx(c.outpoint.Hash)
	if !ok {
		return fmt.Errorf("failed to get tx %s: not found", c.outpoint.Hash)
	}
	if !tx.Confirmed() {
		return fmt.Errorf("tx %s not confirmed", c.outpoint.Hash)
	}
	least := r.set.boardingDelay()
	if c.unrolled {
		least = r.set.exitDelay()
	}
	if err := tree.ValidateFor(r.p.op.signerPub(), r.set.Deprecated, r.now, least, r.set.blocksAllowed()); err != nil {
		return fmt.Errorf("invalid vtxo script: %w", err)
	}
	exit, err := tree.SmallestExit()
	if err != nil {
		return fmt.Errorf("failed to get exit delay: %w", err)
	}
	matures := tx.BlockTime.Add(time.Duration(exit.InSeconds()) * time.Second)
	if matures.Before(r.now) {
		return fmt.Errorf("tx %s expired", c.outpoint.Hash)
	}
	if c.unrolled && matures.Before(r.now.Add(r.set.UnrolledMargin)) {
		return fmt.Errorf("unrolled vtxo CSV expires too soon (within %s)", r.set.UnrolledMargin)
	}
	if lock, ok := tapscript.InputLock(c.sequence); ok {
		delta := r.now.Unix() + exit.InSeconds() - tx.BlockTime.Unix()
		if diff := lock - delta; diff > 0 {
			return fmt.Errorf("vtxo script can be used for intent registration in %d seconds", diff)
		}
	}
	if int(c.outpoint.Index) >= len(tx.Msg.TxOut) {
		return fmt.Errorf("invalid vout index %d for tx %s (tx has %d outputs)", c.outpoint.Index, c.outpoint.Hash, len(tx.Msg.TxOut))
	}
	out := tx.Msg.TxOut[c.outpoint.Index]
	return r.checkPrevout(c, out, tree)
}

func (r *registration) checkPrevout(c *candidate, out *wire.TxOut, tree tapscript.Tree) error {
	most := r.set.UtxoMax
	if r.set.NoBoarding {
		most = 0
	}
	if most >= 0 && out.Value > most {
		return fmt.Errorf("boarding input amount is higher than max utxo amount:%d", most)
	}
	if out.Value < r.set.UtxoMin {
		return fmt.Errorf("boarding input amount is lower than min utxo amount:%d", r.set.UtxoMin)
	}
	if !bytes.Equal(out.PkScript, c.witness.PkScript) {
		return fmt.Errorf("invalid witness utxo script: got %x expected %x", out.PkScript, c.witness.PkScript)
	}
	if out.Value != c.witness.Value {
		return fmt.Errorf("invalid witness utxo value: got %d expected %d", out.Value, c.witness.Value)
	}
	if want := tree.PkScript(); !bytes.Equal(out.PkScript, want) {
		return fmt.Errorf("invalid boarding utxo taproot key: got %x expected %x", out.PkScript, want)
	}
	c.amount, c.pkScript = out.Value, out.PkScript
	return nil
}
