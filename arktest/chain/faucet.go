package chain

import (
	"crypto/sha256"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// faucetFee is what a faucet payment leaves to the miner, satoshis.
const faucetFee = 500

// minerScript is where coinbases and the faucet's change go: a witness script
// hash of OP_TRUE, which anybody may spend. It looks like any other output and
// needs no key that would have to be made, kept and explained.
func minerScript() []byte {
	h := sha256.Sum256([]byte{txscript.OP_TRUE})
	return append([]byte{txscript.OP_0, txscript.OP_DATA_32}, h[:]...)
}

// Faucet pays sats to script and returns the new output, still unconfirmed.
func (c *Chain) Faucet(script []byte, sats int64) (wire.OutPoint, error) {
	id, err := c.Pay(wire.NewTxOut(sats, script))
	return wire.OutPoint{Hash: id}, err
}

// Pay pays outs, in order from index 0, from the faucet's coins in one
// transaction, still unconfirmed.
func (c *Chain) Pay(outs ...*wire.TxOut) (chainhash.Hash, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tx := wire.NewMsgTx(2)
	need := int64(faucetFee)
	for _, out := range outs {
		if out.Value < 0 || out.Value > maxMoney {
			return chainhash.Hash{}, fmt.Errorf("%w: output of %d", ErrMalformed, out.Value)
		}
		tx.AddTxOut(out)
		need += out.Value
	}
	var sum int64
	var waiting []wire.OutPoint // too young
	rest := c.purse
	for len(rest) > 0 && sum < need {
		op := rest[0]
		rest = rest[1:]
		e := c.txs[op.Hash]
		if _, spent := c.spends[op]; e == nil || spent {
			continue
		}
		if e.coinbase() && c.height()+1-e.block.height < c.maturity {
			waiting = append(waiting, op)
			continue
		}
		tx.AddTxIn(wire.NewTxIn(&op, nil, wire.TxWitness{{txscript.OP_TRUE}}))
		sum += e.tx.TxOut[op.Index].Value
	}
	if sum < need {
		return chainhash.Hash{}, fmt.Errorf("%w: %d of %d sats", ErrFaucetDry, sum, need)
	}
	if sum > need {
		tx.AddTxOut(wire.NewTxOut(sum-need, minerScript()))
	}
	e, err := c.accept(tx)
	if err != nil {
		return chainhash.Hash{}, err
	}
	c.purse = append(waiting, rest...)
	if sum > need {
		c.purse = append(c.purse, wire.OutPoint{Hash: e.id, Index: uint32(len(outs))})
	}
	return e.id, nil
}

// refillPurse finds the faucet's coins anew after a reorganisation.
func (c *Chain) refillPurse() {
	c.purse = nil
	for _, u := range c.utxos(minerScript()) {
		c.purse = append(c.purse, u.Outpoint)
	}
}
