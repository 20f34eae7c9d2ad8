package wallet

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/arktest/chain"
)

// onChain is a coin of the delegate script that is really there.
func onChain(t *testing.T) (*chain.Chain, *Wallet, coin) {
	t.Helper()
	c, err := chain.New(chain.Config{Clock: chain.NewManualClock(time.Unix(1_800_000_000, 0))})
	if err != nil {
		t.Fatal(err)
	}
	d, tree := stockDelegation(t) // its exit delay is 20 blocks
	w := New(nil, d.owner, nil)
	w.scripts[string(tree.PkScript())] = tree
	op, err := c.Faucet(tree.PkScript(), 50_000)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Mine(1); err != nil {
		t.Fatal(err)
	}
	return c, w, coin{ark.VTXO{Outpoint: op, Amount: 50_000, Script: tree.PkScript()}, tree}
}

func TestExitWaitsForItsDelay(t *testing.T) {
	c, w, k := onChain(t)
	tx, err := w.ExitTx(k.VTXO, k.Script, 300)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Mine(18); err != nil {
		t.Fatal(err)
	}
	if err := c.Broadcast(tx); !errors.Is(err, chain.ErrSequenceLock) {
		t.Fatalf("young: %v", err)
	}
	if err := c.Mine(1); err != nil {
		t.Fatal(err)
	}
	if err := c.Broadcast(tx); err != nil {
		t.Fatal(err)
	}
}

func TestFinalizeSatisfiesEveryKey(t *testing.T) {
	c, _, k := onChain(t)
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&k.Outpoint, nil, nil))
	tx.AddTxOut(wire.NewTxOut(49_000, k.Script))
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		t.Fatal(err)
	}
	p.Inputs[0].WitnessUtxo = wire.NewTxOut(k.Amount, k.Script)
	if err := script.SetLeaf(&p.Inputs[0], k.tree, 2); err != nil { // owner, delegate, signer
		t.Fatal(err)
	}
	types := []txscript.SigHashType{txscript.SigHashAll, txscript.SigHashDefault, txscript.SigHashAll | txscript.SigHashAnyOneCanPay}
	for i, b := range slices.Backward([]byte{0x11, 0x33, 0x22}) {
		if _, err := finalize(p); err == nil {
			t.Fatalf("finalized without key %x", b)
		}
		if err := signInput(testKey(t, b), p, 0, types[i]); err != nil {
			t.Fatal(err)
		}
	}
	final, err := finalize(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Broadcast(final); err != nil {
		t.Fatal(err)
	}
}
