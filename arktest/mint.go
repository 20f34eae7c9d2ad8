package arktest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/uuid"

	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

// mintLeaf is how many outputs Mint puts in one leaf.
const mintLeaf = 200

// Mint makes VTXOs out of the operator's own money: a real batch with a real
// tree, but cosigned by the operator alone and told to nobody as a batch. It is
// how a test or a benchmark gets thousands of coins at once. The outpoints come
// in the order of outs, which must be P2TR.
func (op *Operator) Mint(outs ...*wire.TxOut) ([]wire.OutPoint, error) {
	p, err := op.process()
	if err != nil {
		return nil, err
	}
	set := op.Settings()
	r := &round{id: uuid.NewString(), set: set, began: op.clock.Now(), quiet: true, expiry: set.treeExpiry()}
	for chunk := range slices.Chunk(outs, mintLeaf) {
		in := &intent{id: uuid.NewString(), proofTxid: uuid.NewString()}
		for _, o := range chunk {
			in.receivers = append(in.receivers, receiver{amount: o.Value, pkScript: o.PkScript})
		}
		r.joined = append(r.joined, in)
	}
	defer func() { op.wallet.release(r.coins) }()
	if err := p.build(r); err != nil {
		return nil, fmt.Errorf("minting: %w", err)
	}
	s, err := txtree.NewSession(r.tree, r.sweepRoot, p.key.priv)
	if err != nil {
		return nil, fmt.Errorf("minting: %w", err)
	}
	if _, err := s.Combine(nil); err != nil {
		return nil, fmt.Errorf("minting: %w", err)
	}
	for _, n := range r.tree.Nodes() {
		n.Packet.Inputs[0].TaprootKeySpendSig = n.Sig
	}
	tx, err := p.signCommitment(r)
	if err != nil {
		return nil, fmt.Errorf("minting: %w", err)
	}
	if err := op.chain.Broadcast(tx); err != nil {
		return nil, fmt.Errorf("minting: %w", err)
	}
	p.settle(r, tx)
	var made []wire.OutPoint
	for _, leaf := range r.tree.Leaves() {
		for i, o := range leaf.Tx.TxOut {
			if !bytes.Equal(o.PkScript, txtree.AnchorScript()) {
				made = append(made, wire.OutPoint{Hash: leaf.Txid, Index: uint32(i)})
			}
		}
	}
	return made, nil
}
