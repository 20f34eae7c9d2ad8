package arktest

import (
	"bytes"
	"context"
	"encoding/hex"
	"math"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/asset"
	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// checkOutputs validates an ark transaction's outputs and keeps those that the
// rebuilt one has, the anchor apart.
func (s *submission) checkOutputs() error {
	malformed := func(format string, args ...any) error {
		return code.MalformedArkTx.New(code.Meta{"tx": s.raw}, format, args...)
	}
	anchors, returns, extensions := 0, 0, 0
	for i, o := range s.ark.UnsignedTx.TxOut {
		if bytes.Equal(o.PkScript, txtree.AnchorScript()) {
			if anchors++; anchors > 1 {
				return malformed("tx %s has multiple anchor outputs", s.txid)
			}
			continue
		}
		isReturn := len(o.PkScript) > 0 && o.PkScript[0] == txscript.OP_RETURN
		if isReturn {
			returns++
		}
		switch {
		case asset.IsExtension(o.PkScript):
			if extensions++; extensions > 1 {
				return malformed("tx %s has multiple extension outputs", s.txid)
			}
			if o.Value != 0 {
				return malformed("extension OP_RETURN output #%d has non-zero value (%d)", i, o.Value)
			}
			if _, err := asset.Parse(o.PkScript); err != nil {
				return malformed("tx %s has malformed extension output %x", s.txid, o.PkScript)
			}
		case asset.SubDust(o.PkScript):
			if o.Value >= s.set.Dust {
				return malformed("subdust OP_RETURN output #%d has value (%d) >= dust limit (%d)", i, o.Value, s.set.Dust)
			}
			if err := checkRange(i, o.Value, -1, s.set.VtxoMin, "vtxo"); err != nil {
				return err
			}
		case isReturn:
			if o.Value > 0 {
				return malformed("OP_RETURN output #%d has non-zero value (%d) but is not a subdust output", i, o.Value)
			}
		default:
			if err := checkRange(i, o.Value, s.set.VtxoMax, max(s.set.VtxoMin, s.set.Dust), "vtxo"); err != nil {
				return err
			}
			if !txscript.IsPayToTaproot(o.PkScript) {
				return malformed("output #%d has amount greater than dust but is not a taproot pkscript", i)
			}
		}
		s.outputs = append(s.outputs, o)
	}
	if anchors == 0 {
		return malformed("missing anchor output in ark tx %s", s.txid)
	}
	if int64(returns) > s.set.MaxOpReturns {
		return malformed("tx has %d OP_RETURN outputs, max %d are allowed", returns, s.set.MaxOpReturns)
	}
	return nil
}

// SubmitTx accepts an off-chain transaction.
func (s *arkService) SubmitTx(_ context.Context, req *arkv1.SubmitTxRequest) (*arkv1.SubmitTxResponse, error) {
	if req.GetSignedArkTx() == "" {
		return nil, invalid("missing signed ark tx")
	}
	if len(req.GetCheckpointTxs()) == 0 {
		return nil, invalid("missing checkpoint txs")
	}
	tx, err := s.p.submitTx(req.GetSignedArkTx(), req.GetCheckpointTxs())
	if err != nil {
		return nil, err
	}
	p := tx.pendingForm()
	return &arkv1.SubmitTxResponse{ArkTxid: p.ArkTxid, FinalArkTx: p.FinalArkTx, SignedCheckpointTxs: p.SignedCheckpointTxs}, nil
}

func (tx *offchainTx) pendingForm() *arkv1.PendingTx {
	p := &arkv1.PendingTx{ArkTxid: tx.txid, FinalArkTx: tx.encoded}
	for _, id := range sortedKeys(tx.checkpoints) {
		encoded, _ := tx.checkpoints[id].B64Encode() // made by us
		p.SignedCheckpointTxs = append(p.SignedCheckpointTxs, encoded)
	}
	return p
}

// FinalizeTx takes the fully signed checkpoints.
func (s *arkService) FinalizeTx(_ context.Context, req *arkv1.FinalizeTxRequest) (*arkv1.FinalizeTxResponse, error) {
	if req.GetArkTxid() == "" {
		return nil, invalid("missing ark txid")
	}
	if len(req.GetFinalCheckpointTxs()) == 0 {
		return nil, invalid("missing final checkpoint txs")
	}
	if err := s.p.finalizeTx(req.GetArkTxid(), req.GetFinalCheckpointTxs()); err != nil {
		return nil, err
	}
	return &arkv1.FinalizeTxResponse{}, nil
}

func (p *process) finalizeTx(txid string, finals []string) error {
	st := p.op.store
	st.mu.RLock()
	tx := st.offchain[txid]
	st.mu.RUnlock()
	if tx == nil {
		return code.TxNotFound.New(code.Meta{"txid": txid}, "offchain tx %s not found", txid)
	}
	signed := map[string]*psbt.Packet{}
	for _, raw := range finals {
		c, err := psbt.NewFromRawBytes(strings.NewReader(raw), true)
		if err == nil {
			err = tapscript.VerifyTx(c, nil)
		}
		if err != nil || len(c.UnsignedTx.TxIn) == 0 || len(c.Inputs[0].TaprootLeafScript) == 0 {
			return code.Signature.New(code.Meta{"tx": raw}, "invalid signature in checkpoint tx %s", raw)
		}
		signed[c.UnsignedTx.TxID()] = c
	}
	for _, v := range tx.inputs {
		if now, _ := st.vtxo(v.Outpoint); now.Unrolled {
			return code.AlreadyUnrolled.New(code.Outpoint(v.Outpoint.String()), "%s already unrolled", v.Outpoint)
		}
	}
	for i, in := range tx.ark.UnsignedTx.TxIn {
		if err := checkFinal(tx, i, signed[in.PreviousOutPoint.Hash.String()]); err != nil {
			return err
		}
	}
	st.mu.Lock()
	again := tx.finalized
	tx.finalized = true
	st.mu.Unlock()
	if again { // arkd says so even to the same last word
		return code.Internal.New(nil, "failed to finalize offchain tx: not in a valid stage to finalize offchain tx")
	}
	if lag := p.op.cfg.FinalizeLag; lag > 0 {
		p.op.clock.AfterFunc(lag, func() { _ = p.storeOffchain(tx, signed) })
		return nil
	}
	return p.storeOffchain(tx, signed)
}

// checkFinal compares a final checkpoint's output with the ark transaction's
// leaf list and writes that list where the sweeper will look for it.
func checkFinal(tx *offchainTx, i int, c *psbt.Packet) error {
	id := tx.ark.UnsignedTx.TxIn[i].PreviousOutPoint.Hash.String()
	meta := code.Input(tx.txid, i)
	if c == nil {
		return code.PSBTInput.New(code.Input(id, i), "tx %s not found", id)
	}
	leaves, err := tapscript.TapTreeField(&tx.ark.Inputs[i])
	if err != nil {
		return code.PSBTInput.New(meta, "missing taptree on input %d", i)
	}
	tree, err := tapscript.NewTree(leaves)
	if err != nil {
		return code.PSBTInput.New(meta, "invalid ark taproot tree: %w", err)
	}
	if got, want := c.UnsignedTx.TxOut[0].PkScript, tree.PkScript(); !bytes.Equal(got, want) {
		return code.PSBTInput.New(meta, "invalid output script: got %x expected %x", got, want)
	}
	c.Outputs[0].TaprootTapTree = tapscript.EncodeTapTree(leaves)
	return nil
}

// storeOffchain makes the new VTXOs and tells everybody.
func (p *process) storeOffchain(tx *offchainTx, signed map[string]*psbt.Packet) error {
	st := p.op.store
	now := p.now()
	made := p.offchainVTXOs(tx)
	byOutpoint := map[string]*psbt.Packet{}
	st.mu.Lock()
	tx.checkpoints = signed
	st.virtual[tx.txid] = tx.encoded
	var spent []VTXO
	for id, c := range signed {
		encoded, err := c.B64Encode()
		if err != nil {
			st.mu.Unlock()
			return code.Internal.New(nil, "failed to encode checkpoint tx: %w", err)
		}
		st.virtual[id] = encoded
		op := c.UnsignedTx.TxIn[0].PreviousOutPoint
		byOutpoint[op.String()] = c
		delete(st.pending, op)
		spent = append(spent, *st.vtxos[op])
	}
	st.recordIssues(tx)
	st.mu.Unlock()
	st.addVTXOs(now, made...)
	p.op.rec.note(func(*Stats) {})
	p.notify(txEvent{kind: arkTx, txid: tx.txid, tx: tx.encoded, raw: tx.ark.UnsignedTx, spent: spent, made: made, checkpoints: byOutpoint})
	return nil
}

// offchainVTXOs lists what an off-chain transaction makes: preconfirmed coins
// that expire with the earliest of its inputs.
func (p *process) offchainVTXOs(tx *offchainTx) (made []VTXO) {
	now := p.now()
	base := VTXO{Preconfirm: true, CreatedAt: now.Unix(), ExpiresAt: math.MaxInt64}
	for _, v := range tx.inputs {
		base.Depth = max(base.Depth, v.Depth+1)
		if v.ExpiresAt < base.ExpiresAt {
			base.ExpiresAt, base.Root = v.ExpiresAt, v.Root
		}
		for _, c := range v.Commitments {
			if !slices.Contains(base.Commitments, c) {
				base.Commitments = append(base.Commitments, c)
			}
		}
		if now, ok := p.op.store.vtxo(v.Outpoint); ok && (now.Swept || now.Expired(p.now())) {
			base.Swept = true
		}
	}
	held := asset.Held(tx.ark.UnsignedTx)
	for i, o := range tx.ark.UnsignedTx.TxOut {
		if len(o.PkScript) != 34 || bytes.Equal(o.PkScript, txtree.AnchorScript()) || asset.IsExtension(o.PkScript) {
			continue
		}
		v := base
		v.Outpoint = wire.OutPoint{Hash: tx.ark.UnsignedTx.TxHash(), Index: uint32(i)}
		v.Amount, v.Key, v.Assets = o.Value, [32]byte(o.PkScript[2:]), toAssets(held[uint32(i)])
		v.Swept = base.Swept || asset.SubDust(o.PkScript)
		made = append(made, v)
	}
	return made
}

// recordIssues notes new assets and changed supplies; the caller holds the
// lock.
func (s *store) recordIssues(tx *offchainTx) {
	for _, o := range tx.ark.UnsignedTx.TxOut {
		if !asset.IsExtension(o.PkScript) {
			continue
		}
		e, err := asset.Parse(o.PkScript)
		if err != nil {
			continue
		}
		for _, issue := range asset.Issues(tx.ark.UnsignedTx.TxHash(), e.Groups) {
			rec := s.assets[issue.ID]
			rec.supply += issue.Made - issue.Burned
			if issue.Control != "" {
				rec.control = issue.Control
			}
			if len(issue.Metadata) > 0 {
				rec.metadata = hex.EncodeToString(issue.Metadata)
			}
			s.assets[issue.ID] = rec
		}
	}
}

// GetPendingTx returns accepted transactions that are not finalized.
func (s *arkService) GetPendingTx(_ context.Context, req *arkv1.GetPendingTxRequest) (*arkv1.GetPendingTxResponse, error) {
	if req.GetIdentifier() == nil {
		return nil, invalid("missing identifier")
	}
	packet, m, err := parseIntent(req.GetIntent(), proof.PendingTx, "invalid get-pending-tx intent message")
	if err != nil {
		return nil, err
	}
	list, err := s.p.pendingTxs(packet, m)
	if err != nil {
		return nil, err
	}
	return &arkv1.GetPendingTxResponse{PendingTxs: list}, nil
}

func (p *process) pendingTxs(packet *psbt.Packet, m proof.Message) ([]*arkv1.PendingTx, error) {
	if err := timeRange(proof.Message{ExpireAt: m.ExpireAt}, p.now()); err != nil {
		return nil, err
	}
	st := p.op.store
	found := map[string]bool{}
	for i := 1; i < len(packet.UnsignedTx.TxIn); i++ {
		op := packet.UnsignedTx.TxIn[i].PreviousOutPoint
		st.mu.RLock()
		id, pending := st.pending[op]
		st.mu.RUnlock()
		if !pending {
			continue
		}
		found[id] = true
		if len(packet.Inputs[i].TaprootLeafScript) == 0 {
			return nil, code.PSBTInput.New(code.Input(packet.UnsignedTx.TxID(), i), "missing taproot leaf script on input %d", i)
		}
		if err := p.checkWitness(packet.UnsignedTx.TxID(), i, &packet.Inputs[i], op); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, nil // arkd does not look at the proof then
	}
	if err := p.verifyProof(packet, m); err != nil {
		return nil, err
	}
	var list []*arkv1.PendingTx
	st.mu.RLock()
	defer st.mu.RUnlock()
	for _, id := range sortedKeys(found) {
		list = append(list, st.offchain[id].pendingForm())
	}
	return list, nil
}
