package arktest

import (
	"bytes"
	"encoding/hex"
	"slices"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/fees"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
)

func (s *store) intent(proofTxid string) (rawIntent, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	raw, ok := s.intents[proofTxid]
	return raw, ok
}

// estimate computes an intent's fee. It looks at no signature (protocol
// section 4.6).
func (p *process) estimate(packet *psbt.Packet, m proof.Message) (int64, error) {
	if err := timeRange(m, p.now()); err != nil {
		return 0, err
	}
	if len(packet.UnsignedTx.TxIn) < 2 {
		return 0, code.IntentPSBT.New(code.Meta{"tx": packet.UnsignedTx.TxID()}, "proof misses inputs")
	}
	var offIn []fees.OffchainInput
	var onIn []int64
	for i, in := range packet.UnsignedTx.TxIn[1:] {
		w := packet.Inputs[i+1].WitnessUtxo
		if w == nil {
			continue
		}
		if v, ok := p.op.store.vtxo(in.PreviousOutPoint); ok && !v.Unrolled {
			offIn = append(offIn, feeInput(v, p.now()))
		} else {
			onIn = append(onIn, w.Value)
		}
	}
	var offOut, onOut []fees.Output
	for i, o := range packet.UnsignedTx.TxOut {
		f := fees.Output{Amount: o.Value, Script: hex.EncodeToString(o.PkScript)}
		if slices.Contains(m.Onchain, i) {
			onOut = append(onOut, f)
		} else {
			offOut = append(offOut, f)
		}
	}
	fee, err := p.op.estimator().Fee(offIn, onIn, offOut, onOut)
	if err != nil {
		return 0, code.Internal.New(nil, "failed to evaluate fees: %w", err)
	}
	return fee, nil
}

// deleteIntents drops the queued intents that share an input with the proof.
func (p *process) deleteIntents(packet *psbt.Packet, m proof.Message) error {
	list, err := p.matching(packet, m)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return code.IntentProof.New(code.Meta{"proof": "", "message": ""}, "no matching intents found for intent proof")
	}
	p.queue.remove(list)
	p.op.rec.note(func(*Stats) {})
	return nil
}

// matching verifies a proof of ownership and returns the queued intents that
// share an input with it.
func (p *process) matching(packet *psbt.Packet, m proof.Message) ([]*intent, error) {
	if err := timeRange(proof.Message{ExpireAt: m.ExpireAt}, p.now()); err != nil {
		return nil, err
	}
	txid := packet.UnsignedTx.TxID()
	var ops []wire.OutPoint
	for i := 1; i < len(packet.UnsignedTx.TxIn); i++ {
		in := &packet.Inputs[i]
		op := packet.UnsignedTx.TxIn[i].PreviousOutPoint
		ops = append(ops, op)
		if len(in.TaprootLeafScript) == 0 {
			return nil, code.PSBTInput.New(code.Input(txid, i), "missing taproot leaf script on input %d", i)
		}
		if err := p.checkWitness(txid, i, in, op); err != nil {
			return nil, err
		}
	}
	if err := p.verifyProof(packet, m); err != nil {
		return nil, err
	}
	return p.queue.matching(ops), nil
}

func (p *process) verifyProof(packet *psbt.Packet, m proof.Message) error {
	encoded, err := packet.B64Encode()
	if err != nil {
		return code.IntentPSBT.New(code.Meta{"tx": packet.UnsignedTx.TxID()}, "failed to encode proof: %w", err)
	}
	if err := proof.Verify(packet, m.Encode(), p.op.signerKeys()); err != nil {
		return code.IntentProof.New(code.Meta{"proof": encoded, "message": m.Encode()}, "invalid intent proof: %w", err)
	}
	return nil
}

// checkWitness compares an input's witness UTXO with the VTXO or the on-chain
// output that it names.
func (p *process) checkWitness(txid string, i int, in *psbt.PInput, op wire.OutPoint) error {
	meta := code.Input(txid, i)
	var amount int64
	var script []byte
	if v, ok := p.op.store.vtxo(op); ok {
		amount, script = v.Amount, v.PkScript()
	} else {
		tx, ok := p.op.chain.Tx(op.Hash)
		if !ok {
			return code.TxNotFound.New(code.Meta{"txid": op.Hash.String()}, "failed to get boarding input tx %s: not found", op.Hash)
		}
		if int(op.Index) >= len(tx.Msg.TxOut) {
			return code.PSBTInput.New(meta, "invalid vout index %d for tx %s (tx has %d outputs)", op.Index, op.Hash, len(tx.Msg.TxOut))
		}
		out := tx.Msg.TxOut[op.Index]
		amount, script = out.Value, out.PkScript
	}
	if in.WitnessUtxo == nil {
		return code.PSBTInput.New(meta, "missing witness utxo on input %d", i)
	}
	if in.WitnessUtxo.Value != amount {
		return code.PSBTInput.New(meta, "invalid witness utxo value: got %d expected %d", in.WitnessUtxo.Value, amount)
	}
	if !bytes.Equal(in.WitnessUtxo.PkScript, script) {
		return code.PSBTInput.New(meta, "invalid witness utxo script: got %x expected %x", in.WitnessUtxo.PkScript, script)
	}
	return nil
}
