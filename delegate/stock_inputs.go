package delegate

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// rawPSBT decodes base64 that has been parsed before.
func rawPSBT(b64 string) []byte {
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return nil // ParseStock has decoded it
	}
	return raw
}

// checkMessage: no on-chain output, exactly one cosigner, which is ours.
func (c *stockCheck) checkMessage() error {
	if len(c.message.OnchainOutputs) > 0 {
		return vigil.Errorf(vigil.CodeOnchainOutput, "the message sends %d outputs on chain", len(c.message.OnchainOutputs))
	}
	cosigners, err := c.message.CosignerKeys()
	if err != nil {
		return vigil.Errorf(vigil.CodeCosignersMismatch, "the message's cosigners: %w", err)
	}
	if len(cosigners) != 1 || !slices.Contains(c.Keys, cosigners[0]) {
		return vigil.Errorf(vigil.CodeCosignersMismatch, "the message must name exactly one cosigner, the key in this server's info")
	}
	c.key = cosigners[0]
	return nil
}

// checkVTXOs: every input is a VTXO that the operator knows, unspent, not on
// chain, and what the proof says it is.
func (c *intake) checkVTXOs() error {
	known := make(map[wire.OutPoint]ark.VTXO, len(c.known))
	for _, v := range c.known {
		known[v.Outpoint] = v
	}
	c.byOp = make(map[wire.OutPoint]int)
	for i, op := range c.Outpoints() {
		if _, twice := c.byOp[op]; twice {
			return vigil.Errorf(vigil.CodeDuplicateInput, "%s is spent twice", op)
		}
		c.byOp[op] = i
		v, ok := known[op]
		utxo := c.proof.Inputs[i+1].WitnessUtxo
		switch {
		case !ok:
			return vigil.Errorf(vigil.CodeInputUnknown, "the operator does not know %s", op)
		case v.Unrolled:
			return vigil.Errorf(vigil.CodeInputUnrolled, "%s is on chain", op)
		case v.Spent:
			return vigil.Errorf(vigil.CodeInputSpent, "%s is spent", op)
		case v.Note():
			return vigil.Errorf(vigil.CodeInputNotDelegable, "%s is a note", op)
		case utxo == nil:
			return vigil.Errorf(vigil.CodeInvalidProof, "input %d has no witness UTXO", i+1)
		case utxo.Value != v.Amount || !bytes.Equal(utxo.PkScript, v.Script):
			return vigil.Errorf(vigil.CodeInputMismatch, "the proof says that %s holds %d; the operator says %d, or another script", op, utxo.Value, v.Amount)
		}
		c.vtxos = append(c.vtxos, v)
	}
	return nil
}

// checkProof: shape, weight, and every signature over its recomputed sighash.
// Only the operator's signatures and ours may be missing.
func (c *stockCheck) checkProof() error {
	if err := c.verifyProof(append(c.signers(), c.key.XOnly()), c.params.MaxTxWeight); err != nil {
		return err
	}
	for i, in := range append([]intent.ProofInput{c.proven.Message}, c.proven.Inputs...) {
		if err := c.checkSpend(i, in); err != nil {
			return err
		}
	}
	return nil
}

// verifyProof: shape, weight of at most so many units, and signatures, of which
// only those of skip may be missing.
func (c *intake) verifyProof(skip []bip340.XOnly, weight int64) (err error) {
	c.proven, err = intent.Verify(c.proof, c.text, intent.Options{Skip: skip, MaxWeight: weight, Reader: c.reader})
	if err != nil {
		return proofRefusal(err)
	}
	if !c.proven.HasOutputs() {
		return vigil.Errorf(vigil.CodeInvalidProof, "the proof asks for no output")
	}
	return nil
}

// proofRefusal gives an error of intent.Verify its code.
func proofRefusal(err error) error {
	switch {
	case errors.Is(err, intent.ErrTooHeavy):
		return vigil.Errorf(vigil.CodeProofTooHeavy, "%w", err)
	case errors.Is(err, intent.ErrSignature), errors.Is(err, intent.ErrUnsigned):
		return vigil.Errorf(vigil.CodeSignatureInvalid, "%w", err)
	}
	return vigil.Errorf(vigil.CodeInvalidProof, "%w", err)
}

// checkSpend: one input of the proof is signed by its owner, with a type that
// commits to everything, on a leaf that may be used so.
func (c *stockCheck) checkSpend(i int, in intent.ProofInput) error {
	switch leaf := in.Closure.(type) {
	case script.Multisig, script.CLTVMultisig:
		if in.Sequence < wire.MaxTxInSequenceNum-1 && in.Sequence != c.params.ExitDelay.Sequence() {
			return vigil.Errorf(vigil.CodeInvalidProof, "input %d has the sequence %#x", i, in.Sequence)
		}
	case script.CSVMultisig:
		if in.Sequence != leaf.Sequence {
			return vigil.Errorf(vigil.CodeExitLeafSequence, "input %d is on an exit leaf of %#x with the sequence %#x", i, leaf.Sequence, in.Sequence)
		}
	default:
		return vigil.Errorf(vigil.CodeLeafUnsupported, "input %d is signed on a leaf with a condition", i)
	}
	owned := false
	sighash := Sighash{Input: uint16(i), LeafHash: in.LeafHash}
	for _, sig := range in.Signatures {
		if sig.Type != txscript.SigHashDefault && sig.Type != txscript.SigHashAll {
			return vigil.Errorf(vigil.CodeSighashUnsupported, "input %d is signed with the sighash type %#x", i, uint32(sig.Type))
		}
		if sig.Key != c.key.XOnly() && !slices.Contains(c.signers(), sig.Key) {
			owned, sighash.Type = true, byte(sig.Type)
		}
	}
	if !owned {
		return vigil.Errorf(vigil.CodeSignatureInvalid, "input %d carries no signature of an owner", i)
	}
	sighash.Ours = script.HasKey(in.Closure, c.key.XOnly())
	c.signed = append(c.signed, sighash)
	return nil
}

// checkInputs: every input reveals a script that the operator accepts and that
// has a leaf by which we can complete a forfeit.
func (c *stockCheck) checkInputs() error {
	rules := script.RulesOf(c.params, c.now)
	for i, in := range c.proven.Inputs {
		if in.Tree.Len() == 0 {
			return vigil.Errorf(vigil.CodeScriptInvalid, "input %d has no taptree", i+1)
		}
		if err := script.Validate(in.Tree, rules); err != nil {
			return vigil.Errorf(vigil.CodeScriptInvalid, "input %d: %w", i+1, err)
		}
		closures, err := in.Tree.Closures()
		if err != nil {
			return vigil.Errorf(vigil.CodeScriptInvalid, "input %d: %w", i+1, err)
		}
		if _, err := script.SmallestExit(closures); err != nil {
			return vigil.Errorf(vigil.CodeScriptInvalid, "input %d: %w", i+1, err)
		}
		owner, signer, ok := c.delegateLeaf(closures)
		if !ok {
			return vigil.Errorf(vigil.CodeDelegateKeyMissing, "input %d has no leaf of owner, %s and operator", i+1, c.key)
		}
		if !slices.Contains(c.owners, owner) {
			c.owners = append(c.owners, owner)
		}
		if i > 0 && signer != c.signer {
			return vigil.Errorf(vigil.CodeScriptInvalid, "input %d names another key of the operator than input 1; delegate them apart", i+1)
		}
		c.signer = signer
		c.trees = append(c.trees, in.Tree)
	}
	return nil
}

// delegateLeaf finds the leaf of exactly one owner, our key and the operator.
func (c *stockCheck) delegateLeaf(closures []script.Closure) (owner bip340.XOnly, signer bip340.PubKey, ok bool) {
	for _, closure := range closures {
		leaf, multisig := closure.(script.Multisig)
		if !multisig || len(leaf.PubKeys) != 3 || !script.HasKey(leaf, c.key.XOnly()) {
			continue
		}
		for n, key := range c.signers() {
			if !script.HasKey(leaf, key) {
				continue
			}
			signer = c.params.SignerKey
			if n > 0 {
				signer = c.params.DeprecatedSigners[n-1].Key
			}
			for _, k := range leaf.PubKeys {
				if k != key && k != c.key.XOnly() {
					return k, signer, true
				}
			}
		}
	}
	return owner, signer, false
}

// checkForfeits: every forfeit is one of an input, as the operator's parameters
// of now ask for it, and every input that needs one has it.
func (c *intake) checkForfeits() error {
	c.given = make([]int, len(c.proven.Inputs))
	for n, packet := range c.forfeits {
		op := packet.UnsignedTx.TxIn[0].PreviousOutPoint
		i, ok := c.byOp[op]
		if !ok {
			return vigil.Errorf(vigil.CodeForfeitUnexpected, "forfeit %d spends %s, which the proof does not", n, op)
		}
		if c.given[i] > 0 {
			return vigil.Errorf(vigil.CodeForfeitDuplicate, "forfeits %d and %d spend %s", c.given[i]-1, n, op)
		}
		partial, err := forfeit.Check(packet, forfeit.Terms{
			Outpoint: op, Amount: c.vtxos[i].Amount, Tree: c.trees[i], Dust: c.params.Dust, Script: c.params.ForfeitScript,
			Delegate: c.key.XOnly(), Bearer: c.bears(i), Signers: []bip340.XOnly{c.signer.XOnly()}, // the record keeps one
		}, c.reader)
		if errors.Is(err, forfeit.ErrSignature) {
			return vigil.Errorf(vigil.CodeSignatureInvalid, "forfeit %d: %w", n, err)
		}
		if err != nil {
			return vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d: %w", n, err)
		}
		c.given[i] = n + 1
		c.signed = append(c.signed, Sighash{
			Forfeit: true, Of: uint16(i), LeafHash: partial.LeafHash, Type: byte(forfeit.OwnerSighash), Ours: !c.bears(i),
		})
	}
	for i, v := range c.vtxos {
		if v.NeedsForfeit(c.now) && c.given[i] == 0 {
			return vigil.Errorf(vigil.CodeForfeitMissing, "%s needs a forfeit", v.Outpoint)
		}
	}
	return nil
}
