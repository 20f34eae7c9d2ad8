package tapscript

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ErrSignature is the root of every failed signature check.
var ErrSignature = errors.New("tapscript: signatures do not verify")

// Prevouts makes the fetcher of a PSBT whose inputs all carry a witness UTXO.
func Prevouts(p *psbt.Packet) (*txscript.MultiPrevOutFetcher, error) {
	outs := make(map[wire.OutPoint]*wire.TxOut, len(p.Inputs))
	for i, in := range p.Inputs {
		if in.WitnessUtxo == nil {
			return nil, fmt.Errorf("missing witness utxo on input %d", i)
		}
		outs[p.UnsignedTx.TxIn[i].PreviousOutPoint] = in.WitnessUtxo
	}
	return txscript.NewMultiPrevOutFetcher(outs), nil
}

// CheckControl verifies that the leaf and its control block lead from the NUMS
// key to pkScript, parity included.
func CheckControl(leaf *psbt.TaprootTapLeafScript, pkScript []byte) error {
	cb, err := txscript.ParseControlBlock(leaf.ControlBlock)
	if err != nil {
		return fmt.Errorf("failed to parse control block: %w", err)
	}
	key := txscript.ComputeTaprootOutputKey(NUMS(), cb.RootHash(leaf.Script))
	if !bytes.Equal(P2TR(key), pkScript) {
		return errors.New("invalid control block")
	}
	if odd := key.SerializeCompressed()[0] == 0x03; odd != cb.OutputKeyYIsOdd {
		return errors.New("invalid control block parity")
	}
	return nil
}

// Signed checks every signature of the input and returns the keys that signed.
// Each is verified under the flag it carries, whatever that is.
func Signed(p *psbt.Packet, i int, hashes *txscript.TxSigHashes, prevouts txscript.PrevOutputFetcher) (map[[32]byte]bool, error) {
	in := &p.Inputs[i]
	leaf := txscript.NewBaseTapLeaf(in.TaprootLeafScript[0].Script)
	leafHash := leaf.TapHash()
	signed := make(map[[32]byte]bool, len(in.TaprootScriptSpendSig))
	for n, s := range in.TaprootScriptSpendSig {
		if !bytes.Equal(s.LeafHash, leafHash[:]) {
			return nil, fmt.Errorf("%w: leaf hash of signature %d of input %d", ErrSignature, n, i)
		}
		hash, err := txscript.CalcTapscriptSignaturehash(hashes, s.SigHash, p.UnsignedTx, i, prevouts, leaf)
		if err != nil {
			return nil, fmt.Errorf("%w: input %d: %w", ErrSignature, i, err)
		}
		sig, err := schnorr.ParseSignature(s.Signature)
		if err != nil {
			return nil, fmt.Errorf("%w: input %d: %w", ErrSignature, i, err)
		}
		key, err := schnorr.ParsePubKey(s.XOnlyPubKey)
		if err != nil {
			return nil, fmt.Errorf("%w: input %d: %w", ErrSignature, i, err)
		}
		if !sig.Verify(hash, key) {
			return nil, fmt.Errorf("%w: invalid sig %d for input %d with prevout %s", ErrSignature, n, i, p.UnsignedTx.TxIn[i].PreviousOutPoint)
		}
		signed[[32]byte(s.XOnlyPubKey)] = true
	}
	return signed, nil
}

// VerifyTx checks every input that has a leaf: control block, condition,
// signatures of all keys but those in skip (protocol section 5.7 and 7.3).
func VerifyTx(p *psbt.Packet, skip [][32]byte) error {
	prevouts, err := Prevouts(p)
	if err != nil {
		return err
	}
	hashes := txscript.NewTxSigHashes(p.UnsignedTx, prevouts)
	for i := range p.Inputs {
		in := &p.Inputs[i]
		if len(in.TaprootLeafScript) == 0 {
			continue
		}
		leaf := in.TaprootLeafScript[0]
		c, err := Decode(leaf.Script)
		if err != nil {
			return err
		}
		if c.Kind == ConditionMultisig {
			w, err := Condition(in)
			if err != nil {
				return err
			}
			if err := RunCondition(c.Condition, w); err != nil {
				return fmt.Errorf("input %d: %w", i, err)
			}
		}
		if err := CheckControl(leaf, in.WitnessUtxo.PkScript); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		signed, err := Signed(p, i, hashes, prevouts)
		if err != nil {
			return err
		}
		for _, k := range skip {
			signed[k] = true
		}
		for _, k := range c.Keys {
			if !signed[k] {
				return fmt.Errorf("%w: missing signature for %x on input %d", ErrSignature, k, i)
			}
		}
	}
	return nil
}

// Sign adds key's signature, with SIGHASH_DEFAULT, to every input whose leaf
// holds the key; indexes limits the inputs, nil means all.
func Sign(p *psbt.Packet, key *btcec.PrivateKey, indexes []int) error {
	prevouts, err := Prevouts(p)
	if err != nil {
		return err
	}
	hashes := txscript.NewTxSigHashes(p.UnsignedTx, prevouts)
	want := XOnly(key.PubKey())
	chosen := map[int]bool{}
	for _, i := range indexes {
		chosen[i] = true
	}
	for i := range p.Inputs {
		in := &p.Inputs[i]
		if len(in.TaprootLeafScript) == 0 || (indexes != nil && !chosen[i]) {
			continue
		}
		script := in.TaprootLeafScript[0].Script
		c, err := Decode(script)
		if err != nil || !c.Has(want) {
			continue
		}
		leaf := txscript.NewBaseTapLeaf(script)
		hash, err := txscript.CalcTapscriptSignaturehash(hashes, txscript.SigHashDefault, p.UnsignedTx, i, prevouts, leaf)
		if err != nil {
			return fmt.Errorf("sighash of input %d: %w", i, err)
		}
		sig, err := schnorr.Sign(key, hash)
		if err != nil {
			return fmt.Errorf("signing input %d: %w", i, err)
		}
		leafHash := leaf.TapHash()
		in.TaprootScriptSpendSig = append(in.TaprootScriptSpendSig, &psbt.TaprootScriptSpendSig{
			XOnlyPubKey: want[:], LeafHash: leafHash[:], Signature: sig.Serialize(), SigHash: txscript.SigHashDefault,
		})
	}
	return nil
}

// Witness assembles the final witness of an input from its signatures; fake
// lists keys whose signature is pretended, as for weighing a proof.
func Witness(in *psbt.PInput, fake [][32]byte) (wire.TxWitness, error) {
	leaf := in.TaprootLeafScript[0]
	if IsNote(leaf.Script) {
		w, err := Condition(in)
		if err != nil || len(w) == 0 {
			return nil, fmt.Errorf("%w: note without preimage", ErrField)
		}
		return append(wire.TxWitness{w[0]}, leaf.Script, leaf.ControlBlock), nil
	}
	c, err := Decode(leaf.Script)
	if err != nil {
		return nil, err
	}
	sigs := map[[32]byte][]byte{}
	for _, k := range fake {
		sigs[k] = make([]byte, 64)
	}
	for _, s := range in.TaprootScriptSpendSig {
		sig := s.Signature
		if s.SigHash != txscript.SigHashDefault {
			sig = append(append([]byte{}, sig...), byte(s.SigHash))
		}
		sigs[[32]byte(s.XOnlyPubKey)] = sig
	}
	var w wire.TxWitness
	for i := len(c.Keys) - 1; i >= 0; i-- {
		sig, ok := sigs[c.Keys[i]]
		if !ok {
			return nil, fmt.Errorf("%w: missing signature for %x", ErrSignature, c.Keys[i])
		}
		w = append(w, sig)
	}
	if c.Condition != nil {
		items, err := Condition(in)
		if err != nil {
			return nil, err
		}
		w = append(w, items...)
	}
	return append(w, leaf.Script, leaf.ControlBlock), nil
}
