package proof

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

// Errors of verification.
var (
	ErrInputs   = errors.New("invalid intent proof: expected at least 2 inputs")
	ErrOutputs  = errors.New("invalid intent proof: expected at least 1 output")
	ErrToSpend  = errors.New("invalid intent proof: wrong tx hash in message input")
	ErrIndex    = errors.New("invalid intent proof: wrong output index in message input")
	ErrUnsigned = errors.New("no tapscript signatures")
)

// tag is the BIP-340 tag of the message hash.
const tag = "ark-intent-proof-message"

// ToSpend is the transaction that a proof's first input spends.
func ToSpend(message string, pkScript []byte) *wire.MsgTx {
	h := chainhash.TaggedHash([]byte(tag), []byte(message))
	tx := wire.NewMsgTx(0)
	tx.TxIn = []*wire.TxIn{{
		PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex},
		SignatureScript:  append([]byte{txscript.OP_0, txscript.OP_DATA_32}, h[:]...),
	}}
	tx.TxOut = []*wire.TxOut{{PkScript: pkScript}}
	return tx
}

// Verify checks a proof against the canonical message (protocol section 4.3).
// Keys in skip need not sign: the operator's, current and earlier.
func Verify(p *psbt.Packet, message string, skip [][32]byte) error {
	if len(p.Inputs) < 2 {
		return ErrInputs
	}
	if len(p.Outputs) == 0 {
		return ErrOutputs
	}
	prevouts, err := tapscript.Prevouts(p)
	if err != nil {
		return err
	}
	toSpend := ToSpend(message, p.Inputs[1].WitnessUtxo.PkScript)
	first := p.UnsignedTx.TxIn[0].PreviousOutPoint
	if first.Hash != toSpend.TxHash() {
		return ErrToSpend
	}
	if first.Index != 0 {
		return ErrIndex
	}
	prevouts.AddPrevOut(first, toSpend.TxOut[0])
	hashes := txscript.NewTxSigHashes(p.UnsignedTx, prevouts)
	for i := range p.Inputs {
		if err := verifyInput(p, i, hashes, prevouts, skip); err != nil {
			return fmt.Errorf("invalid intent proof: %w", err)
		}
	}
	for i := 1; i < len(p.Inputs); i++ {
		if len(p.Inputs[i].TaprootLeafScript) != 1 {
			return fmt.Errorf("malformed input %d: missing TaprootLeafScript", i)
		}
		if tapscript.IsNote(p.Inputs[i].TaprootLeafScript[0].Script) {
			if err := verifyNote(&p.Inputs[i]); err != nil {
				return fmt.Errorf("invalid intent proof: note input %d: %w", i, err)
			}
		}
	}
	return nil
}

func verifyInput(p *psbt.Packet, i int, hashes *txscript.TxSigHashes, prevouts txscript.PrevOutputFetcher, skip [][32]byte) error {
	in := &p.Inputs[i]
	if len(in.TaprootLeafScript) != 1 {
		return nil
	}
	prevout := prevouts.FetchPrevOutput(p.UnsignedTx.TxIn[i].PreviousOutPoint)
	leaf := in.TaprootLeafScript[0]
	if !txscript.IsPayToTaproot(prevout.PkScript) || tapscript.IsNote(leaf.Script) {
		return nil
	}
	c, err := tapscript.Decode(leaf.Script)
	if err != nil {
		return err
	}
	if c.Condition != nil && i != 0 { // input 0 shares input 1's leaf
		w, err := tapscript.Condition(in)
		if err != nil {
			return err
		}
		if err := tapscript.RunCondition(c.Condition, w); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	if err := tapscript.CheckControl(leaf, prevout.PkScript); err != nil {
		return fmt.Errorf("input %d: %w", i, err)
	}
	signed := map[[32]byte]bool{}
	for _, k := range skip {
		signed[k] = true
	}
	if len(in.TaprootScriptSpendSig) == 0 {
		for _, k := range c.Keys {
			if !signed[k] {
				return fmt.Errorf("input %d has %w", i, ErrUnsigned)
			}
		}
		return nil
	}
	got, err := tapscript.Signed(p, i, hashes, prevouts)
	if err != nil {
		return err
	}
	for _, k := range c.Keys {
		if !signed[k] && !got[k] {
			return fmt.Errorf("missing signature for %x", k)
		}
	}
	return nil
}

// verifyNote checks the preimage and the control block of a note.
func verifyNote(in *psbt.PInput) error {
	leaf := in.TaprootLeafScript[0]
	if err := tapscript.CheckControl(leaf, in.WitnessUtxo.PkScript); err != nil {
		return err
	}
	w, err := tapscript.Condition(in)
	if err != nil {
		return err
	}
	if len(w) == 0 {
		return errors.New("missing preimage")
	}
	if h := sha256.Sum256(w[0]); !bytes.Equal(h[:], leaf.Script[2:34]) {
		return errors.New("invalid preimage")
	}
	return nil
}

// Weight is the proof's weight once the operator's signatures were added.
func Weight(p *psbt.Packet, signers [][32]byte) (int64, error) {
	tx := p.UnsignedTx.Copy()
	for i := range p.Inputs {
		in := p.Inputs[i]
		if len(in.FinalScriptWitness) > 0 {
			return 0, fmt.Errorf("input %d is finalized already", i)
		}
		if len(in.TaprootLeafScript) == 0 {
			return 0, fmt.Errorf("input %d is not finalizable", i)
		}
		if i == 0 { // the condition's witness stands on input 1 only
			in.Unknowns = p.Inputs[1].Unknowns
		}
		w, err := tapscript.Witness(&in, signers)
		if err != nil {
			return 0, fmt.Errorf("input %d: %w", i, err)
		}
		tx.TxIn[i].Witness = w
	}
	return Weigh(tx), nil
}

// Weigh is a transaction's weight in weight units.
func Weigh(tx *wire.MsgTx) int64 {
	return int64(tx.SerializeSizeStripped()*3 + tx.SerializeSize())
}

// Fee is what the proof's inputs hold above its outputs; ok is false when it
// is the other way round.
func Fee(p *psbt.Packet) (fee int64, ok bool) {
	for _, in := range p.Inputs {
		if in.WitnessUtxo == nil {
			return 0, false
		}
		fee += in.WitnessUtxo.Value
	}
	for _, out := range p.UnsignedTx.TxOut {
		fee -= out.Value
	}
	return fee, fee >= 0
}

// HasOutputs says whether the proof asks for outputs at all.
func HasOutputs(p *psbt.Packet) bool {
	outs := p.UnsignedTx.TxOut
	return len(outs) > 1 || len(outs) == 1 && !bytes.Equal(outs[0].PkScript, []byte{txscript.OP_RETURN})
}
