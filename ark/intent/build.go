package intent

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

const (
	messageTag   = "ark-intent-proof-message"
	proofVersion = 2
	// psbtMessage is the global field that carries the message's text.
	psbtMessage = 0x09
)

// ErrInput is returned for an input that a proof cannot be built from.
var ErrInput = errors.New("intent: invalid input")

// Input is a coin to prove ownership of.
type Input struct {
	Outpoint wire.OutPoint
	Out      *wire.TxOut
	// Sequence is ffffffff on a collaborative leaf without lock, the exit delay
	// on an exit leaf.
	Sequence uint32
	// Tree is the VTXO script and Leaf the index of the leaf to sign on. Without
	// a Tree the input carries neither.
	Tree script.Tree
	Leaf int
	// Condition is the witness of a condition leaf, or a note's preimage.
	Condition wire.TxWitness
}

// BuildProof makes the unsigned proof transaction (protocol section 4.2): one
// input for the message, then the inputs; the outputs, or a lone OP_RETURN.
func BuildProof(message string, inputs []Input, outputs []*wire.TxOut) (*psbt.Packet, error) {
	if len(inputs) == 0 {
		return nil, fmt.Errorf("%w: none", ErrInput)
	}
	for i, in := range inputs {
		if in.Out == nil || in.Outpoint.Hash == (chainhash.Hash{}) {
			return nil, fmt.Errorf("%w: %d lacks outpoint or output", ErrInput, i)
		}
	}
	first := inputs[0]
	spend := toSpend(message, first.Out.PkScript)
	tx := wire.NewMsgTx(proofVersion)
	addInput(tx, wire.OutPoint{Hash: spend.TxHash()}, first.Sequence)
	for _, in := range inputs {
		addInput(tx, in.Outpoint, in.Sequence)
	}
	if len(outputs) == 0 {
		outputs = []*wire.TxOut{wire.NewTxOut(0, []byte{txscript.OP_RETURN})}
	}
	for _, out := range outputs {
		tx.AddTxOut(wire.NewTxOut(out.Value, bytes.Clone(out.PkScript)))
	}
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	p.Unknowns = []*psbt.Unknown{{Key: []byte{psbtMessage}, Value: []byte(message)}}
	for i := range p.Inputs {
		src, out := first, spend.TxOut[0]
		if i > 0 {
			src = inputs[i-1]
			out = wire.NewTxOut(src.Out.Value, bytes.Clone(src.Out.PkScript))
		}
		if err := fillInput(&p.Inputs[i], src, out, i > 0); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// fillInput writes an input's fields. The message input has the leaf of the
// first coin, but neither its tree nor its condition.
func fillInput(in *psbt.PInput, src Input, out *wire.TxOut, coin bool) error {
	in.WitnessUtxo, in.SighashType = out, txscript.SigHashAll
	if src.Tree.Len() == 0 {
		return nil
	}
	if err := script.SetLeaf(in, src.Tree, src.Leaf); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	if coin {
		script.SetTapTree(in, src.Tree)
		if src.Condition != nil {
			script.SetCondition(in, src.Condition)
		}
	}
	return nil
}

func addInput(tx *wire.MsgTx, op wire.OutPoint, sequence uint32) {
	in := wire.NewTxIn(&op, nil, nil)
	in.Sequence = sequence
	tx.AddTxIn(in)
}

// toSpend is the transaction that commits to the message and that can never be
// on chain.
func toSpend(message string, pkScript []byte) *wire.MsgTx {
	h := bip340.TaggedHash(messageTag, []byte(message))
	tx := wire.NewMsgTx(0)
	in := wire.NewTxIn(&wire.OutPoint{Index: 0xffffffff}, nil, nil)
	in.SignatureScript = append([]byte{txscript.OP_0, txscript.OP_DATA_32}, h[:]...)
	in.Sequence = 0
	tx.AddTxIn(in)
	tx.AddTxOut(wire.NewTxOut(0, bytes.Clone(pkScript)))
	return tx
}

// SigningInput is what a key has to sign in one input of a proof.
type SigningInput struct {
	Index   int // of the proof's input
	Leaf    []byte
	Sighash [32]byte
}

// ToSign lists the inputs whose leaf has the key, with their sighashes of type
// t. Put the signatures in with script.AddSignature.
func ToSign(p *psbt.Packet, key bip340.XOnly, t txscript.SigHashType) ([]SigningInput, error) {
	h, err := sighasher(p)
	if err != nil {
		return nil, err
	}
	var list []SigningInput
	for i := range p.Inputs {
		if len(p.Inputs[i].TaprootLeafScript) != 1 {
			return nil, fmt.Errorf("%w: %d has no single leaf", ErrInput, i)
		}
		leaf := p.Inputs[i].TaprootLeafScript[0].Script
		c, err := script.Decode(leaf)
		if err != nil {
			return nil, fmt.Errorf("%w: %d: %w", ErrInput, i, err)
		}
		if !script.HasKey(c, key) {
			continue
		}
		msg, err := h.Tapscript(i, leaf, t)
		if err != nil {
			return nil, fmt.Errorf("%w: %d: %w", ErrInput, i, err)
		}
		list = append(list, SigningInput{i, leaf, msg})
	}
	return list, nil
}

// sighasher takes every spent output from the witness UTXOs.
func sighasher(p *psbt.Packet) (*script.Sighasher, error) {
	outs := make([]*wire.TxOut, len(p.Inputs))
	for i := range p.Inputs {
		outs[i] = p.Inputs[i].WitnessUtxo
	}
	return script.NewSighasher(p.UnsignedTx, outs)
}
