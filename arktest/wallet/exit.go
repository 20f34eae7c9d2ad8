package wallet

import (
	"context"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/operator"
)

// exitLeaf is the index of the owner's leaf after the exit delay, in every
// script that this wallet makes.
const exitLeaf = 1

// Unroll puts a coin on chain: every virtual transaction that leads to it, from
// the commitment transaction outward, goes to broadcast (protocol section 7.6).
// They pay no fee; on a chain that wants one, broadcast has to add the child.
func (w *Wallet) Unroll(ctx context.Context, op wire.OutPoint, broadcast func(*wire.MsgTx) error) error {
	steps, err := w.op.VtxoChain(ctx, op)
	if err != nil {
		return err
	}
	var ids []chainhash.Hash
	for _, s := range slices.Backward(steps) {
		if s.Kind != operator.KindCommitment && !slices.Contains(ids, s.Txid) {
			ids = append(ids, s.Txid)
		}
	}
	txs, err := w.op.VirtualTxs(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		p, err := script.ParsePSBT(txs[id], script.OperatorLimits())
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		tx, err := finalize(p)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if err := broadcast(tx); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

// ExitTx spends an unrolled coin by the owner alone, all but fee to pkScript.
// The chain takes it once the exit delay has passed since the coin's
// transaction confirmed.
func (w *Wallet) ExitTx(v ark.VTXO, pkScript []byte, fee int64) (*wire.MsgTx, error) {
	list, err := w.coins([]ark.VTXO{v})
	if err != nil {
		return nil, err
	}
	c := list[0]
	leaf, _ := c.tree.LeafProof(exitLeaf)
	closure, err := script.Decode(leaf)
	if err != nil {
		return nil, err
	}
	csv, ok := closure.(script.CSVMultisig)
	if !ok {
		return nil, fmt.Errorf("wallet: %s has no exit leaf", c.Outpoint)
	}
	tx := wire.NewMsgTx(2)
	in := wire.NewTxIn(&c.Outpoint, nil, nil)
	in.Sequence = csv.Sequence
	tx.AddTxIn(in)
	tx.AddTxOut(wire.NewTxOut(c.Amount-fee, pkScript))
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("wallet: exit: %w", err)
	}
	p.Inputs[0].WitnessUtxo = wire.NewTxOut(c.Amount, c.Script)
	if err := script.SetLeaf(&p.Inputs[0], c.tree, exitLeaf); err != nil {
		return nil, err
	}
	if err := signInput(w.owner, p, 0, txscript.SigHashDefault); err != nil {
		return nil, err
	}
	return finalize(p)
}

// finalize makes the transaction of a fully signed packet: key-path spends, and
// tapscript spends of plain signatures.
func finalize(p *psbt.Packet) (*wire.MsgTx, error) {
	tx := p.UnsignedTx.Copy()
	r := script.NewReader()
	for i := range p.Inputs {
		in := &p.Inputs[i]
		if in.TaprootKeySpendSig != nil {
			tx.TxIn[i].Witness = wire.TxWitness{in.TaprootKeySpendSig}
			continue
		}
		s, err := r.Spend(in)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		var witness wire.TxWitness
		for _, key := range slices.Backward(s.Closure.Keys()) {
			at := slices.IndexFunc(s.Signatures, func(sig script.Signature) bool { return sig.Key == key })
			if at < 0 {
				return nil, fmt.Errorf("input %d: %s has not signed", i, key)
			}
			sig := s.Signatures[at]
			raw := slices.Clone(sig.Sig[:])
			if sig.Type != txscript.SigHashDefault {
				raw = append(raw, byte(sig.Type))
			}
			witness = append(witness, raw)
		}
		tx.TxIn[i].Witness = append(witness, s.Leaf, s.ControlBlock)
	}
	return tx, nil
}
