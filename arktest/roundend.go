package arktest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/asset"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// finalize asks for forfeits and boarding signatures, broadcasts the
// commitment, and only then stores anything, as arkd does.
func (p *process) finalize(r *round) {
	begun := func() {
		p.op.rec.phase(r, PhaseForfeits)
		p.emit(r, groupFinal, p.finalEvents(r))
	}
	if len(r.toForfeit) == 0 && r.numBoard == 0 {
		begun()
	} else {
		if !p.wait(max(r.end.Sub(p.op.clock.Now()), 0), r.allSigned.c, begun) && p.ctx.Err() != nil {
			return
		}
		if !p.checkForfeitsIn(r) {
			return
		}
	}
	tx, err := p.signCommitment(r)
	if err != nil {
		p.fail(r, err)
		return
	}
	if r.lies.beforeBroadcast(p, r) {
		return
	}
	if !r.lies.has(lie.FinalizedUnbroadcast) {
		if err := p.op.chain.Broadcast(tx); err != nil {
			p.fail(r, internalf("failed to broadcast commitment tx: %w", err))
			return
		}
	}
	p.op.rec.broadcast(r)
	if r.lies.afterBroadcast(p, r) {
		return
	}
	p.settle(r, tx)
}

// checkForfeitsIn holds the checks between the deadline and the broadcast.
func (p *process) checkForfeitsIn(r *round) bool {
	p.mu.Lock()
	used := map[wire.OutPoint]wire.OutPoint{}
	var problem error
	missing := map[string]string{}
	var first wire.OutPoint
	for _, v := range r.toForfeit {
		f := r.forfeits[v.Outpoint]
		if f.encoded == "" {
			missing[hex.EncodeToString(v.PkScript())] = "missing forfeit signature"
			first = v.Outpoint
			continue
		}
		if _, twice := used[f.connector]; twice && problem == nil {
			problem = fmt.Errorf("failed to finalize round: connector %s for vtxo %s is used more than once", f.connector, v.Outpoint)
		}
		used[f.connector] = v.Outpoint
	}
	p.mu.Unlock()
	if len(missing) > 0 && r.set.ForgiveForfeits {
		p.fail(r, internalf("failed to finalize round: missing forfeit tx for vtxo %s", first))
		return false
	}
	if len(missing) > 0 {
		p.fail(r, internalf("missing forfeit transactions"))
		p.convictScripts(r, missing, crimeForfeit)
		return false
	}
	if problem != nil {
		p.fail(r, internalf("%w", problem))
		return false
	}
	bad := map[string]string{}
	skip := p.op.signerKeys()
	for _, v := range r.toForfeit {
		if err := tapscript.VerifyTx(r.forfeits[v.Outpoint].packet, skip); err != nil {
			bad[hex.EncodeToString(v.PkScript())] = err.Error()
		}
	}
	if len(bad) > 0 {
		p.fail(r, internalf("invalid forfeit txs signature"))
		p.convictScripts(r, bad, crimeBadForfeit)
		return false
	}
	return true
}

// signCommitment adds the operator's signatures to boarding inputs and its
// own; a boarding input without its owner's signature fails as in arkd.
func (p *process) signCommitment(r *round) (*wire.MsgTx, error) {
	tx := r.commitment.UnsignedTx.Copy()
	signed := &psbt.Packet{UnsignedTx: r.commitment.UnsignedTx, Inputs: append([]psbt.PInput{}, r.commitment.Inputs...), Outputs: r.commitment.Outputs}
	p.mu.Lock()
	for i, s := range r.boarding {
		signed.Inputs[i].TaprootLeafScript = []*psbt.TaprootTapLeafScript{s.leaf}
		signed.Inputs[i].TaprootScriptSpendSig = append([]*psbt.TaprootScriptSpendSig{}, s.sigs...)
	}
	p.mu.Unlock()
	for _, key := range p.op.signerPrivs() {
		if err := tapscript.Sign(signed, key, nil); err != nil {
			return nil, internalf("failed to sign boarding inputs of commitment tx: %w", err)
		}
	}
	for i := range signed.Inputs {
		in := &signed.Inputs[i]
		if bytes.Equal(in.WitnessUtxo.PkScript, p.op.wallet.script) {
			continue
		}
		if len(in.TaprootLeafScript) == 0 {
			return nil, internalf("failed to sign commitment tx: rpc error: code = Unknown desc = script %x is not a wallet script, cannot sign input %s",
				in.WitnessUtxo.PkScript, tx.TxIn[i].PreviousOutPoint)
		}
		w, err := tapscript.Witness(in, nil)
		if err != nil {
			return nil, internalf("failed to sign commitment tx: %w", err)
		}
		tx.TxIn[i].Witness = w
	}
	if err := p.op.wallet.sign(r.commitment, tx); err != nil {
		return nil, internalf("failed to sign commitment tx: %w", err)
	}
	return tx, nil
}

// settle stores the finished batch and tells everybody.
func (p *process) settle(r *round, tx *wire.MsgTx) {
	now := p.op.clock.Now()
	c := p.record(r, tx, now)
	st := p.op.store
	st.mu.Lock()
	st.commitments[r.txid.String()] = c
	for _, in := range r.joined {
		st.intents[in.proofTxid] = in.raw
	}
	for _, t := range []*txtree.Node{r.tree, r.connectors} {
		if t == nil {
			continue
		}
		for _, n := range t.Nodes() {
			encoded, _ := n.Packet.B64Encode() // made by us
			st.virtual[n.Txid.String()] = encoded
		}
	}
	st.mu.Unlock()

	var spent []VTXO
	for _, in := range r.joined {
		for _, v := range in.inputs {
			spentBy := ""
			if f, ok := r.forfeits[v.Outpoint]; ok {
				spentBy = f.packet.UnsignedTx.TxID()
			}
			st.change(now, v.Outpoint, func(v *VTXO) {
				v.Spent, v.SpentBy, v.SettledBy = true, spentBy, r.txid.String()
				spent = append(spent, *v)
			})
		}
	}
	made := newVTXOs(r, now)
	st.addLeaves(now, c, made)
	p.op.rec.finalized(r, made)
	if !r.quiet {
		p.emitFinalized(r)
	}
	p.notify(txEvent{kind: commitmentTx, txid: r.txid.String(), tx: p.signedPacket(r, tx), spent: spent, made: made})
	r.lies.doubleSpend(p, r)
}

func (p *process) emitFinalized(r *round) {
	id := r.lies.finalizedTxid(r)
	p.emit(r, groupEnd, []eventMsg{{event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_BatchFinalized{BatchFinalized: &arkv1.BatchFinalizedEvent{Id: r.id, CommitmentTxid: id}},
	}}})
}

func (p *process) record(r *round, tx *wire.MsgTx, now time.Time) *commitment {
	c := &commitment{
		txid: r.txid, tx: tx, tree: r.tree, connectors: r.connectors, forfeits: r.forfeits,
		started: r.began.Unix(), ended: now.Unix(),
		expiry: r.expiry, expires: now.Unix() + r.expiry.InSeconds(), sweepLeaf: r.sweepLeaf,
	}
	if r.connKey != nil {
		c.connKey = r.connKey.priv
	}
	for _, in := range r.joined {
		c.inAmount += in.inAmount()
		c.inCount += len(in.inputs)
	}
	return c
}

// newVTXOs lists the tree's leaf outputs; when they expire is the commitment's.
func newVTXOs(r *round, now time.Time) (made []VTXO) {
	if r.tree == nil {
		return nil
	}
	for _, leaf := range r.tree.Leaves() {
		held := asset.Held(leaf.Tx)
		for i, o := range leaf.Tx.TxOut {
			if bytes.Equal(o.PkScript, txtree.AnchorScript()) || asset.IsExtension(o.PkScript) || len(o.PkScript) != 34 {
				continue
			}
			made = append(made, VTXO{
				Outpoint: wire.OutPoint{Hash: leaf.Txid, Index: uint32(i)}, Amount: o.Value, Key: [32]byte(o.PkScript[2:]),
				Commitments: []string{r.txid.String()}, Root: r.txid.String(),
				CreatedAt: now.Unix(), Assets: toAssets(held[uint32(i)]),
			})
		}
	}
	return made
}

// signedPacket is the commitment as notifications carry it: a PSBT with final
// witnesses.
func (p *process) signedPacket(r *round, tx *wire.MsgTx) string {
	packet := &psbt.Packet{UnsignedTx: r.commitment.UnsignedTx, Inputs: append([]psbt.PInput{}, r.commitment.Inputs...), Outputs: r.commitment.Outputs}
	for i := range packet.Inputs {
		var w bytes.Buffer
		if err := psbt.WriteTxWitness(&w, tx.TxIn[i].Witness); err == nil {
			packet.Inputs[i].FinalScriptWitness = w.Bytes()
		}
	}
	encoded, err := packet.B64Encode()
	if err != nil {
		return r.encoded
	}
	return encoded
}
