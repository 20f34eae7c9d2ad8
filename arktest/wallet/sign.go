package wallet

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// signInput signs input i of p on its one leaf.
func signInput(key *bip340.Key, p *psbt.Packet, i int, t txscript.SigHashType) error {
	in := &p.Inputs[i]
	if len(in.TaprootLeafScript) != 1 {
		return fmt.Errorf("wallet: input %d has %d leaves", i, len(in.TaprootLeafScript))
	}
	leaf := in.TaprootLeafScript[0].Script
	prevouts := make([]*wire.TxOut, len(p.Inputs))
	for j := range p.Inputs {
		prevouts[j] = p.Inputs[j].WitnessUtxo
	}
	if t&txscript.SigHashAnyOneCanPay != 0 {
		// Only the input's own output is signed; the others may be unknown.
		for j := range prevouts {
			prevouts[j] = in.WitnessUtxo
		}
	}
	msg, err := script.TapscriptSighash(p.UnsignedTx, prevouts, i, leaf, t)
	if err != nil {
		return fmt.Errorf("wallet: input %d: %w", i, err)
	}
	sig, err := key.Sign(msg[:])
	if err != nil {
		return fmt.Errorf("wallet: input %d: %w", i, err)
	}
	script.AddSignature(in, leaf, script.Signature{Key: key.PubKey().XOnly(), Type: t, Sig: sig})
	return nil
}

// Intent is a signed proof with its message, in the form of the JSON APIs.
type Intent struct {
	Message string `json:"message"`
	Proof   string `json:"proof"` // base64 PSBT

	txid chainhash.Hash // of the proof
}

// prove signs a proof of ownership over message, as the stock wallet does: the
// collaborative leaf, SIGHASH_ALL on every input.
func prove(owner *bip340.Key, message string, inputs []intent.Input, outs []*wire.TxOut) (Intent, error) {
	p, err := intent.BuildProof(message, inputs, outs)
	if err != nil {
		return Intent{}, err
	}
	for i := range p.Inputs {
		if err := signInput(owner, p, i, txscript.SigHashAll); err != nil {
			return Intent{}, err
		}
	}
	return encode(message, p)
}

func encode(message string, p *psbt.Packet) (Intent, error) {
	proof, err := p.B64Encode()
	if err != nil {
		return Intent{}, fmt.Errorf("wallet: proof: %w", err)
	}
	return Intent{message, proof, intent.Txid(p)}, nil
}

// proofInputs are the inputs of a proof over coins.
func proofInputs(coins []coin) []intent.Input {
	list := make([]intent.Input, len(coins))
	for i, c := range coins {
		list[i] = intent.Input{
			Outpoint: c.Outpoint, Out: wire.NewTxOut(c.Amount, c.Script),
			Sequence: wire.MaxTxInSequenceNum, Tree: c.tree, Leaf: collaborative,
		}
	}
	return list
}
