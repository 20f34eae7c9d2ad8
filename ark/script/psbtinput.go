package script

import (
	"bytes"
	"encoding/binary"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Key types of an input that are read here; with those that btcd does not know
// they are nearly all that Ark's inputs have.
const (
	psbtInputSighash   = 0x03
	psbtInputFinal     = 0x08 // the last of those of BIP-174 that btcd knows
	psbtInputScriptSig = 0x14
	psbtInputLeaf      = 0x15
	psbtInputTaproot   = 0x13 // the first of those of BIP-371
	psbtInputRoot      = 0x18 // and the last
)

// input is what of an input's fields is read here rather than by btcd, which
// makes a square root of every key whenever it meets it, and a copy of every field.
// What is refused is the same.
type input struct {
	utxo     *wire.TxOut
	sighash  txscript.SigHashType
	sigs     []*psbt.TaprootScriptSpendSig
	leaves   []*psbt.TaprootTapLeafScript
	unknowns []*psbt.Unknown
}

// points are x coordinates that were found to be of points, which is remembered
// for as long as one request is read.
type points map[[32]byte]struct{}

func (p points) has(x []byte) bool {
	if len(x) != 32 {
		return false
	}
	if _, ok := p[[32]byte(x)]; ok {
		return true
	}
	if _, err := schnorr.ParsePubKey(x); err != nil {
		return false
	}
	p[[32]byte(x)] = struct{}{}
	return true
}

// take reads a field, or says that it is btcd's. It keeps key and value.
func (in *input) take(key, value []byte, known points) (taken bool, err error) {
	if len(key) > psbt.MaxPsbtKeyLength || len(value) > psbt.MaxPsbtValueLength {
		return false, errLimit
	}
	typ, rest, ok := key[0], key[1:], false
	switch {
	case typ == psbtInputWitnessTx:
		ok = in.takeUTXO(rest, value)
	case typ == psbtInputSighash:
		ok = len(rest) == 0 && len(value) == 4 && in.sighash == 0
		if ok {
			in.sighash = txscript.SigHashType(binary.LittleEndian.Uint32(value))
		}
	case typ == psbtInputScriptSig:
		ok = in.takeSignature(rest, value, known)
	case typ == psbtInputLeaf:
		ok = in.takeLeaf(rest, value, known)
	case typ <= psbtInputFinal, typ >= psbtInputTaproot && typ <= psbtInputRoot:
		return false, nil
	default:
		ok = in.takeUnknown(key, value)
	}
	if !ok {
		return true, errLayout
	}
	return true, nil
}

func (in *input) takeUTXO(key, value []byte) bool {
	if len(key) != 0 || in.utxo != nil || len(value) <= minOutput {
		return false
	}
	n, size, ok := compactSize(value[8:])
	if !ok || n != uint64(len(value)-8-size) || size != 1 {
		return false // btcd takes the ninth byte for the length, and what is left for the script
	}
	in.utxo = wire.NewTxOut(int64(binary.LittleEndian.Uint64(value)), value[9:])
	return true
}

func (in *input) takeSignature(key, value []byte, known points) bool {
	if len(key) != 64 || len(value) != 64 && len(value) != 65 {
		return false
	}
	sig := &psbt.TaprootScriptSpendSig{XOnlyPubKey: key[:32:32], LeafHash: key[32:], Signature: value[:64:64]}
	if len(value) == 65 {
		sig.SigHash = txscript.SigHashType(value[64])
	}
	if _, err := schnorr.ParseSignature(sig.Signature); err != nil || !known.has(sig.XOnlyPubKey) {
		return false
	}
	for _, other := range in.sigs {
		if other.EqualKey(sig) {
			return false
		}
	}
	in.sigs = append(in.sigs, sig)
	return true
}

func (in *input) takeLeaf(block, value []byte, known points) bool {
	last := len(value) - 1
	if last < 0 || len(block) < txscript.ControlBlockBaseSize || len(block) > txscript.ControlBlockMaxSize ||
		(len(block)-txscript.ControlBlockBaseSize)%txscript.ControlBlockNodeSize != 0 || !known.has(block[1:33]) {
		return false
	}
	for _, other := range in.leaves {
		if bytes.Equal(other.ControlBlock, block) {
			return false
		}
	}
	in.leaves = append(in.leaves, &psbt.TaprootTapLeafScript{
		ControlBlock: block, Script: value[:last:last], LeafVersion: txscript.TapscriptLeafVersion(value[last]),
	})
	return true
}

func (in *input) takeUnknown(key, value []byte) bool {
	for _, other := range in.unknowns {
		if bytes.Equal(other.Key, key) && bytes.Equal(other.Value, value) {
			return false
		}
	}
	in.unknowns = append(in.unknowns, &psbt.Unknown{Key: key, Value: value})
	return true
}

// into adds what was read to what btcd made of the rest.
func (in *input) into(p *psbt.PInput) {
	p.WitnessUtxo, p.SighashType = in.utxo, in.sighash
	p.TaprootScriptSpendSig, p.TaprootLeafScript, p.Unknowns = in.sigs, in.leaves, in.unknowns
}
