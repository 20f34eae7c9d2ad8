package arktest

import (
	"bytes"
	"strings"
	"time"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

// watch follows the chain: commitments that confirm, virtual transactions that
// appear (a unilateral exit), and spent ones among them (fraud).
func (op *Operator) watch(sub *chain.Subscription) {
	defer sub.Close()
	for {
		select {
		case <-op.ctx.Done():
			return
		case ev, ok := <-sub.C():
			if !ok {
				return
			}
			switch ev.Kind {
			case chain.Seen:
				op.seen(ev.Tx)
			case chain.Confirmed:
				op.seen(ev.Tx)
				op.confirmed(ev.Tx, ev.Block)
			}
		}
	}
}

// confirmed moves the expiry of a batch to its block's time, as a server with
// delays in seconds does.
func (op *Operator) confirmed(tx chain.Tx, b chain.Block) {
	st := op.store
	st.mu.Lock()
	defer st.mu.Unlock()
	c, ok := st.commitments[tx.Txid.String()]
	if !ok || c.tree == nil {
		return
	}
	if !c.expiry.Seconds {
		return
	}
	c.expires = b.Header.Timestamp.Unix() + c.expiry.InSeconds()
	for _, leaf := range c.tree.Leaves() {
		for i := range leaf.Tx.TxOut {
			if v, ok := st.vtxos[wire.OutPoint{Hash: leaf.Txid, Index: uint32(i)}]; ok {
				v.ExpiresAt = c.expires
			}
		}
	}
}

// seen marks the VTXOs of a transaction that appeared as unrolled and answers
// fraud.
func (op *Operator) seen(tx chain.Tx) {
	for i := range tx.Msg.TxOut {
		at := wire.OutPoint{Hash: tx.Txid, Index: uint32(i)}
		v, ok := op.store.vtxo(at)
		if !ok {
			continue
		}
		if !v.Unrolled {
			op.store.change(op.clock.Now(), at, func(v *VTXO) { v.Unrolled = true })
			op.rec.note(func(*Stats) {})
		}
		if v.Spent {
			op.punish(v)
		}
	}
}

// punish broadcasts what takes a spent VTXO back: the checkpoint of an
// off-chain spend, or the forfeit with its connector's branch.
func (op *Operator) punish(v VTXO) {
	var txs []*wire.MsgTx
	if v.SettledBy != "" {
		txs = op.forfeitTxs(v)
	} else if v.SpentBy != "" {
		if tx, ok := op.finalVirtual(v.SpentBy); ok {
			txs = append(txs, tx)
		}
	}
	for _, tx := range txs {
		if err := op.chain.Broadcast(tx); err != nil {
			op.log.Debug("answering fraud", "vtxo", v.Outpoint, "err", err)
		}
	}
}

// finalVirtual turns a stored, fully signed virtual transaction into one for
// the chain.
func (op *Operator) finalVirtual(txid string) (*wire.MsgTx, bool) {
	op.store.mu.RLock()
	encoded, ok := op.store.virtual[txid]
	op.store.mu.RUnlock()
	if !ok {
		return nil, false
	}
	p, err := psbt.NewFromRawBytes(strings.NewReader(encoded), true)
	if err != nil {
		return nil, false
	}
	tx := p.UnsignedTx.Copy()
	for i := range p.Inputs {
		if len(p.Inputs[i].TaprootLeafScript) == 0 {
			return nil, false
		}
		w, err := tapscript.Witness(&p.Inputs[i], nil)
		if err != nil {
			return nil, false
		}
		tx.TxIn[i].Witness = w
	}
	return tx, true
}

// forfeitTxs lists the connector's branch and the completed forfeit.
func (op *Operator) forfeitTxs(v VTXO) (out []*wire.MsgTx) {
	op.store.mu.RLock()
	c := op.store.commitments[v.SettledBy]
	op.store.mu.RUnlock()
	if c == nil || c.connectors == nil {
		return nil
	}
	f, ok := c.forfeits[v.Outpoint]
	if !ok {
		return nil
	}
	for _, n := range branchOf(c.connectors, f.connector.Hash) {
		tx := n.Tx.Copy()
		if !op.signConnector(c, tx, 0, []*wire.TxOut{n.Prevout}) {
			return nil
		}
		out = append(out, tx)
	}
	return append(out, op.completeForfeit(c, f)...)
}

// signConnector signs one key-path input locked to the connector key.
func (op *Operator) signConnector(c *commitment, tx *wire.MsgTx, at int, prevouts []*wire.TxOut) bool {
	outs := map[wire.OutPoint]*wire.TxOut{}
	for i, o := range prevouts {
		outs[tx.TxIn[i].PreviousOutPoint] = o
	}
	fetch := txscript.NewMultiPrevOutFetcher(outs)
	h, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, fetch), txscript.SigHashDefault, tx, at, fetch)
	if err != nil {
		return false
	}
	sig, err := schnorr.Sign(c.connKey, h)
	if err != nil {
		return false
	}
	tx.TxIn[at].Witness = wire.TxWitness{sig.Serialize()}
	return true
}

func (op *Operator) completeForfeit(c *commitment, f forfeit) []*wire.MsgTx {
	p := *f.packet
	p.Inputs = append([]psbt.PInput{}, f.packet.Inputs...)
	for _, key := range op.signerPrivs() {
		if err := tapscript.Sign(&p, key, nil); err != nil {
			return nil
		}
	}
	tx := p.UnsignedTx.Copy()
	prevouts := make([]*wire.TxOut, len(p.Inputs))
	for i := range p.Inputs {
		prevouts[i] = p.Inputs[i].WitnessUtxo
	}
	for i := range p.Inputs {
		if p.UnsignedTx.TxIn[i].PreviousOutPoint == f.connector {
			if !op.signConnector(c, tx, i, prevouts) {
				return nil
			}
			continue
		}
		w, err := tapscript.Witness(&p.Inputs[i], nil)
		if err != nil {
			return nil
		}
		tx.TxIn[i].Witness = w
	}
	return []*wire.MsgTx{tx}
}

// sweepExpired takes back what is left of every batch whose expiry has passed
// on the chain: the batch output, or the outputs of an unrolled branch.
func (op *Operator) sweepExpired() {
	now := op.clock.Now().Unix()
	op.store.mu.RLock()
	var due []*commitment
	for _, c := range op.store.commitments {
		if !c.swept && c.tree != nil && c.expires < now {
			due = append(due, c)
		}
	}
	op.store.mu.RUnlock()
	for _, c := range due {
		op.sweepBatch(c)
	}
}

// sweepBatch sweeps one batch; a lock that the chain has not reached yet is
// tried again at the next round.
func (op *Operator) sweepBatch(c *commitment) {
	found := op.sweepable(c.tree)
	if len(found) == 0 {
		return
	}
	var txid string
	var raw bytes.Buffer
	var lost []wire.OutPoint
	for _, n := range found {
		tx, err := op.sweepTx(c, n)
		if err != nil {
			return
		}
		if err := op.chain.Broadcast(tx); err != nil {
			op.log.Debug("sweeping", "batch", c.txid, "err", err)
			return
		}
		txid = tx.TxID()
		raw.Reset()
		_ = tx.Serialize(&raw)
		for _, leaf := range n.Leaves() {
			for i := range leaf.Tx.TxOut {
				lost = append(lost, wire.OutPoint{Hash: leaf.Txid, Index: uint32(i)})
			}
		}
	}
	op.markSwept(c, txid, lost, raw.Bytes())
}

// sweepable lists the highest nodes that are not on the chain while what they
// spend is.
func (op *Operator) sweepable(n *txtree.Node) []*txtree.Node {
	if _, spent := op.chain.Spender(n.Tx.TxIn[0].PreviousOutPoint); !spent {
		return []*txtree.Node{n}
	}
	var out []*txtree.Node
	for _, child := range n.Children {
		out = append(out, op.sweepable(child)...)
	}
	return out
}

// sweepTx spends the output that node n would, by its sweep leaf.
func (op *Operator) sweepTx(c *commitment, n *txtree.Node) (*wire.MsgTx, error) {
	leaf, err := tapscript.Decode(c.sweepLeaf)
	if err != nil {
		return nil, err
	}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: n.Tx.TxIn[0].PreviousOutPoint, Sequence: leaf.Delay.MustSequence()})
	tx.AddTxOut(&wire.TxOut{Value: n.Prevout.Value - feeOf(2, 0, 1), PkScript: op.wallet.script})
	fetch := txscript.NewCannedPrevOutputFetcher(n.Prevout.PkScript, n.Prevout.Value)
	h, err := txscript.CalcTapscriptSignaturehash(txscript.NewTxSigHashes(tx, fetch), txscript.SigHashDefault, tx, 0, fetch,
		txscript.NewBaseTapLeaf(c.sweepLeaf))
	if err != nil {
		return nil, err
	}
	sig, err := schnorr.Sign(op.forfeitFor(leaf.Keys[0]), h)
	if err != nil {
		return nil, err
	}
	proof := tapscript.Build(c.sweepLeaf).LeafMerkleProofs[0]
	cb := proof.ToControlBlock(n.Set.Internal())
	control, err := cb.ToBytes()
	if err != nil {
		return nil, err
	}
	tx.TxIn[0].Witness = wire.TxWitness{sig.Serialize(), c.sweepLeaf, control}
	return tx, nil
}

// markSwept stores a sweep. Descendants of the batch's leaves are swept too.
func (op *Operator) markSwept(c *commitment, txid string, lost []wire.OutPoint, raw []byte) {
	now := op.clock.Now()
	st := op.store
	st.mu.Lock()
	c.swept, c.sweptBy = true, append(c.sweptBy, txid)
	var swept []wire.OutPoint
	for _, at := range lost {
		if v, ok := st.vtxos[at]; ok && !v.Swept {
			v.Swept, v.updated = true, now.UnixMilli()
			swept = append(swept, at)
		}
	}
	for at, v := range st.vtxos {
		if v.Preconfirm && v.Root == c.txid.String() && !v.Swept {
			v.Swept, v.updated = true, now.UnixMilli()
			swept = append(swept, at)
		}
	}
	st.mu.Unlock()
	op.rec.note(func(*Stats) {})
	if p, err := op.process(); err == nil {
		p.notify(txEvent{kind: sweepTx, txid: txid, tx: hexOf(raw), swept: swept})
	}
}

// Sweep sweeps every batch whose expiry has passed, without waiting for the
// next round. After moving a clock, call Chain().CatchUp first: the sweep leaf
// looks at the chain's median time.
func (op *Operator) Sweep() { op.sweepExpired() }

// Expire makes a VTXO expired as of now, for the indexer and for batches, as
// if its batch had ended long ago; nothing is swept.
func (op *Operator) Expire(at ...wire.OutPoint) {
	now := op.clock.Now()
	for _, o := range at {
		op.store.change(now, o, func(v *VTXO) { v.ExpiresAt = now.Add(-time.Second).Unix() })
	}
}

// MarkSwept makes a VTXO recoverable without any sweep on the chain.
func (op *Operator) MarkSwept(at ...wire.OutPoint) {
	for _, o := range at {
		op.store.change(op.clock.Now(), o, func(v *VTXO) { v.Swept = true })
	}
}
