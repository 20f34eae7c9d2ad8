package spend

import (
	"bytes"
	"errors"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// intent reads a proof that the group is to sign: every input on the leaf of
// group and operator, SIGHASH_DEFAULT. Its sighashes are in the proof's order, the
// message's input first.
func (p *parser) intent(doc *vigilpb.IntentDocument) (*Spend, error) {
	proof, s, err := p.readIntent(doc, p.everybody())
	if err != nil {
		return nil, err
	}
	if err := p.sighashes(s, proof, 0); err != nil {
		return nil, err
	}
	s.Key = s.Sighashes[0].Message
	return s, nil
}

// everybody are the keys whose signatures an unsigned proof may lack.
func (p *parser) everybody() []bip340.XOnly { return append(p.operators(), p.Group.XOnly()) }

// readIntent verifies a proof, whose signatures may be missing by the keys of
// skip, and finds what it moves. Sighashes and Key are left to the caller.
func (p *parser) readIntent(doc *vigilpb.IntentDocument, skip []bip340.XOnly) (*psbt.Packet, *Spend, error) {
	kind, err := intent.KindOf(doc.GetMessage())
	if err != nil {
		return nil, nil, coded(err, vigil.CodeInvalidMessage)
	}
	switch kind {
	case intent.Register, intent.Delete, intent.GetPendingTx, intent.GetIntent, intent.GetData:
	default:
		return nil, nil, vigil.Errorf(vigil.CodeInvalidMessage, "an intent of the kind %.32q needs no signature of the group", kind)
	}
	message, err := intent.DecodeCanonical(doc.GetMessage(), kind)
	if err != nil {
		return nil, nil, coded(err, vigil.CodeInvalidMessage)
	}
	packet, err := p.reader.ParsePSBT(doc.GetProof(), script.StrangerLimits())
	if err != nil {
		return nil, nil, coded(err, vigil.CodeInvalidProof)
	}
	// Whose coins they are comes first: what is not ours need not be verified.
	for i := 1; i < len(packet.Inputs); i++ {
		if _, _, err := p.coin(packet.UnsignedTx.TxIn[i].PreviousOutPoint, packet.Inputs[i].WitnessUtxo); err != nil {
			return nil, nil, err
		}
	}
	proof, err := intent.Verify(packet, doc.GetMessage(), intent.Options{Skip: skip, MaxWeight: p.Params.MaxTxWeight, Reader: p.reader})
	switch {
	case errors.Is(err, intent.ErrTooHeavy):
		return nil, nil, coded(err, vigil.CodeProofTooHeavy)
	case errors.Is(err, intent.ErrSignature), errors.Is(err, intent.ErrUnsigned):
		return nil, nil, coded(err, vigil.CodeSignatureInvalid)
	case err != nil:
		return nil, nil, coded(err, vigil.CodeInvalidProof)
	case proof.Locktime != 0:
		return nil, nil, vigil.Errorf(vigil.CodeInvalidProof, "the proof has the locktime %d", proof.Locktime)
	}
	s := &Spend{Kind: Intent, Txid: proof.Txid, Message: &message, Fee: proof.Fee()}
	if err := p.proofInputs(s, proof); err != nil {
		return nil, nil, err
	}
	if kind != intent.Register {
		if proof.HasOutputs() || proof.Outputs[0].Value != 0 {
			return nil, nil, vigil.Errorf(vigil.CodeInvalidProof, "an intent of the kind %q has outputs", kind)
		}
		s.Fee, s.Assets = 0, true
		return packet, s, nil
	}
	s.Kind = Register
	return packet, s, p.register(s, packet.UnsignedTx, proof)
}

// proofInputs: every coin is the wallet's, on the leaf of group and operator, and
// the message's input is locked like the first of them.
func (p *parser) proofInputs(s *Spend, proof intent.Proof) error {
	for i, in := range append([]intent.ProofInput{proof.Message}, proof.Inputs...) {
		own, input, err := p.coin(in.Outpoint, in.Out)
		switch {
		case err != nil:
			return err
		case in.Sequence != wire.MaxTxInSequenceNum:
			return vigil.Errorf(vigil.CodeInvalidProof, "input %d has the sequence %#x", i, in.Sequence)
		case own.tree.Index(in.Leaf) != descriptor.LeafForfeit:
			return vigil.Errorf(vigil.CodeInputNotOurs, "input %d is not on the leaf of group and operator", i)
		}
		if err := onlyDefault(i, in.Signatures); err != nil {
			return err
		}
		if i > 0 {
			s.Inputs = append(s.Inputs, input)
		}
	}
	return nil
}

// onlyDefault refuses signatures that commit to less than all.
func onlyDefault(i int, sigs []script.Signature) error {
	for _, sig := range sigs {
		if sig.Type != txscript.SigHashDefault {
			return vigil.Errorf(vigil.CodeSighashUnsupported, "input %d is signed with the type %#x", i, uint32(sig.Type))
		}
	}
	return nil
}

// register reads what a register intent asks for and leaves to the operator.
func (p *parser) register(s *Spend, tx *wire.MsgTx, proof intent.Proof) error {
	if !proof.HasOutputs() {
		return vigil.Errorf(vigil.CodeInvalidProof, "the proof asks for no output")
	}
	onchain, err := onchainOutputs(s.Message, proof.Outputs)
	if err != nil {
		return err
	}
	var charged []fee.OutputArg
	for i, out := range proof.Outputs {
		o := Output{Amount: out.Value, Script: bytes.Clone(out.PkScript)}
		_, taproot := ark.TaprootKey(out.PkScript)
		switch {
		case onchain[i]:
			s.Onchain = append(s.Onchain, o)
		case asset.IsExtension(out.PkScript):
			if out.Value != 0 {
				return vigil.Errorf(vigil.CodeInvalidProof, "output %d, an extension, has a value", i)
			}
			continue
		case !taproot:
			return vigil.Errorf(vigil.CodeOutputAmount, "output %d does not pay to a Taproot script", i)
		case p.own(out.PkScript):
			s.Own = append(s.Own, o)
		default:
			s.Foreign = append(s.Foreign, o)
		}
		charged = append(charged, fee.OutputArg{Amount: out.Value, Script: out.PkScript, Onchain: onchain[i]})
	}
	cosigners, err := s.Message.CosignerKeys()
	if err != nil {
		return coded(err, vigil.CodeCosignersMismatch)
	}
	if len(s.Own)+len(s.Foreign) > 0 && len(cosigners) == 0 {
		return vigil.Errorf(vigil.CodeCosignersMismatch, "the message names no cosigner for its off-chain outputs")
	}
	coins := map[int]Input{}
	for i, in := range s.Inputs {
		coins[i+1] = in // in a proof the first coin is input 1
	}
	if s.Assets, err = p.conserved(tx, coins); err != nil {
		return coded(err, vigil.CodeAssetsNotConserved)
	}
	s.FeeDue, err = p.feeDue(s, charged)
	return err
}

// onchainOutputs are the outputs that the message sends on chain, by index.
func onchainOutputs(m *intent.Message, outs []*wire.TxOut) (map[int]bool, error) {
	onchain := make(map[int]bool, len(m.OnchainOutputs))
	for _, i := range m.OnchainOutputs {
		switch {
		case i < 0 || i >= len(outs):
			return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the message names output %d of %d", i, len(outs))
		case onchain[i]:
			return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the message names output %d twice", i)
		case asset.IsExtension(outs[i].PkScript):
			return nil, vigil.Errorf(vigil.CodeInvalidMessage, "output %d, an extension, cannot go on chain", i)
		}
		onchain[i] = true
	}
	return onchain, nil
}

// feeDue is the most that the operator asks for the intent at the time from which
// it is valid: for coins as they are, all live, or all recoverable.
func (p *parser) feeDue(s *Spend, outs []fee.OutputArg) (int64, error) {
	at := max(s.Message.ValidAt, p.Now)
	var most int64
	for _, all := range []fee.InputType{"", fee.VTXO, fee.Recoverable} {
		ins := make([]fee.InputArg, len(s.Inputs))
		for i, in := range s.Inputs {
			v := p.known[in.Outpoint] // zero when not known
			ins[i] = fee.InputArg{
				Amount: in.Amount, Expiry: v.ExpiresAt, Birth: v.CreatedAt, Type: all,
				Onchain: in.Script == BoardingScript || v.Unrolled,
			}
			if all == "" {
				ins[i].Type = fee.VTXO
				if v.Recoverable(p.Now) {
					ins[i].Type = fee.Recoverable
				}
			}
		}
		due, err := p.Estimator.Fee(ins, outs, at)
		if err != nil {
			return 0, coded(err, vigil.CodeInternal)
		}
		most = max(most, due)
	}
	return most, nil
}

// sighashes computes what the group signs in every input of a packet whose spent
// outputs all stand in it; document transaction n.
func (p *parser) sighashes(s *Spend, packet *psbt.Packet, n int) error {
	outs := make([]*wire.TxOut, len(packet.Inputs))
	for i := range packet.Inputs {
		outs[i] = packet.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(packet.UnsignedTx, outs)
	if err != nil {
		return err
	}
	for i := range packet.Inputs {
		in := &packet.Inputs[i]
		leaf := in.TaprootLeafScript[0].Script
		at := descriptor.LeafForfeit
		if own, ok := p.owner(in.WitnessUtxo.PkScript); ok {
			at = own.tree.Index(leaf)
		}
		if err := s.sign(h, n, i, at, leaf, txscript.SigHashDefault); err != nil {
			return err
		}
	}
	return nil
}

// sign adds one sighash.
func (s *Spend) sign(h *script.Sighasher, tx, input, at int, leaf []byte, t txscript.SigHashType) error {
	msg, err := h.Tapscript(input, leaf, t)
	if err != nil {
		return err
	}
	s.Sighashes = append(s.Sighashes, Sighash{
		Tx: tx, Input: input, Leaf: at, LeafHash: script.LeafHash(leaf), Type: byte(t), Message: msg,
	})
	return nil
}
