package wallet

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// forfeitVersion is that of forfeits, checkpoints and ark transactions.
const forfeitVersion = 3

// newForfeit builds the transaction that gives c to the operator for the
// connector amount on top (protocol section 5.7), with c as its only input.
func newForfeit(c coin, leaf int, connector int64, forfeitScript []byte) (*psbt.Packet, error) {
	tx := wire.NewMsgTx(forfeitVersion)
	tx.AddTxIn(wire.NewTxIn(&c.Outpoint, nil, nil))
	tx.AddTxOut(wire.NewTxOut(c.Amount+connector, forfeitScript))
	tx.AddTxOut(ark.AnchorOut())
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("wallet: forfeit: %w", err)
	}
	p.Inputs[0].WitnessUtxo = wire.NewTxOut(c.Amount, c.Script)
	return p, script.SetLeaf(&p.Inputs[0], c.tree, leaf)
}

// delegateForfeit is the forfeit signed ahead: on the delegate's leaf, and so
// that the connector, which nobody knows yet, can be added.
func delegateForfeit(owner *bip340.Key, c coin, leaf int, dust int64, forfeitScript []byte) (string, error) {
	const sighash = txscript.SigHashAll | txscript.SigHashAnyOneCanPay
	p, err := newForfeit(c, leaf, dust, forfeitScript)
	if err != nil {
		return "", err
	}
	p.Inputs[0].SighashType = sighash
	if err := signInput(owner, p, 0, sighash); err != nil {
		return "", err
	}
	return p.B64Encode()
}

// liveForfeit is the forfeit of a wallet that takes part in the batch itself.
func liveForfeit(owner *bip340.Key, c coin, connector batch.Connector, forfeitScript []byte) (string, error) {
	p, err := newForfeit(c, collaborative, connector.Out.Value, forfeitScript)
	if err != nil {
		return "", err
	}
	p.UnsignedTx.AddTxIn(wire.NewTxIn(&connector.Outpoint, nil, nil))
	p.Inputs = append(p.Inputs, psbt.PInput{WitnessUtxo: connector.Out})
	if err := signInput(owner, p, 0, txscript.SigHashDefault); err != nil {
		return "", err
	}
	return p.B64Encode()
}

// delegateLeaf is the index of the first multisig leaf that names the
// delegate, or -1: a coin at another script cannot be delegated to it.
func delegateLeaf(t script.Tree, delegate bip340.XOnly) int {
	cs, err := t.Closures()
	if err != nil {
		return -1
	}
	return slices.IndexFunc(cs, func(c script.Closure) bool {
		_, multisig := c.(script.Multisig)
		return multisig && script.HasKey(c, delegate)
	})
}
