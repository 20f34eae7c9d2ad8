package script

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/bip340"
)

var (
	// ErrSpend is returned for a PSBT input that is not one tapscript spend of
	// a known closure.
	ErrSpend = errors.New("script: not a tapscript spend")
	// ErrSignature is returned for a signature that does not verify, or that
	// stands where it does not belong.
	ErrSignature = errors.New("script: invalid signature")
)

// Signature is a tapscript signature of a PSBT input.
type Signature struct {
	Key  bip340.XOnly
	Type txscript.SigHashType
	Sig  [64]byte
}

// Spend is a PSBT input read as the spend of one tapscript leaf.
type Spend struct {
	Out          *wire.TxOut // what is spent
	Leaf         []byte
	ControlBlock []byte
	LeafHash     chainhash.Hash
	Closure      Closure
	Signatures   []Signature // by closure keys, over LeafHash; at most one a key, none for a note
}

// Signed says whether key has signed.
func (s Spend) Signed(key bip340.XOnly) bool {
	for _, sig := range s.Signatures {
		if sig.Key == key {
			return true
		}
	}
	return false
}

// Reader reads the inputs of one request. It remembers what it computed, as
// the inputs of a wallet mostly share script and keys. It is not safe for
// concurrent use; make one for every request.
type Reader struct {
	closures map[string]Closure
	proofs   map[string]error
	key      []byte // of the proof that was looked for last
	trees    map[string]Tree
	keys     map[bip340.XOnly]*bip340.Verifier
	valid    map[seen]bool
	points   points
}

// seen is a signature that was verified: a signature is good or not whoever
// looks.
type seen struct {
	key bip340.XOnly
	msg [32]byte
	sig [64]byte
}

// NewReader returns a Reader that remembers nothing yet.
func NewReader() *Reader {
	return &Reader{
		closures: map[string]Closure{}, proofs: map[string]error{},
		trees: map[string]Tree{}, keys: map[bip340.XOnly]*bip340.Verifier{}, valid: map[seen]bool{}, points: points{},
	}
}

// Spend reads an input: a witness UTXO paying to taproot, exactly one leaf that
// is a closure and leads to it, nothing final, and signatures by the closure's
// keys over that leaf. Signatures are not verified yet.
func (r *Reader) Spend(in *psbt.PInput) (Spend, error) {
	switch {
	case in.WitnessUtxo == nil:
		return Spend{}, fmt.Errorf("%w: no witness UTXO", ErrSpend)
	case len(in.TaprootLeafScript) != 1:
		return Spend{}, fmt.Errorf("%w: %d leaf scripts", ErrSpend, len(in.TaprootLeafScript))
	case in.FinalScriptSig != nil, in.FinalScriptWitness != nil,
		in.TaprootKeySpendSig != nil, len(in.PartialSigs) != 0:
		return Spend{}, fmt.Errorf("%w: finalized, or signed by other than the leaf", ErrSpend)
	}
	leaf := in.TaprootLeafScript[0]
	if leaf.LeafVersion != txscript.BaseLeafVersion {
		return Spend{}, fmt.Errorf("%w: leaf version %#x", ErrSpend, leaf.LeafVersion)
	}
	s := Spend{Out: in.WitnessUtxo, Leaf: leaf.Script, ControlBlock: leaf.ControlBlock}
	// The proof first: it costs the same whatever the leaf, while decoding costs
	// a square root for every key that a stranger put into it.
	if err := r.leads(s); err != nil {
		return Spend{}, fmt.Errorf("%w: %w", ErrSpend, err)
	}
	var err error
	if s.Closure, err = r.Decode(leaf.Script); err != nil {
		return Spend{}, fmt.Errorf("%w: %w", ErrSpend, err)
	}
	s.LeafHash = LeafHash(leaf.Script)
	if _, note := s.Closure.(Note); note {
		return s, nil // wallets sign notes too, which means nothing
	}
	for _, sig := range in.TaprootScriptSpendSig {
		key, err := xonly(sig.XOnlyPubKey)
		switch {
		case err != nil, len(sig.Signature) != 64:
			return Spend{}, fmt.Errorf("%w: malformed", ErrSignature)
		case !bytes.Equal(sig.LeafHash, s.LeafHash[:]):
			return Spend{}, fmt.Errorf("%w: over another leaf", ErrSignature)
		case !HasKey(s.Closure, key):
			return Spend{}, fmt.Errorf("%w: by a key that the leaf does not have", ErrSignature)
		case s.Signed(key):
			return Spend{}, fmt.Errorf("%w: second one by a key", ErrSignature)
		}
		s.Signatures = append(s.Signatures, Signature{key, sig.SigHash, [64]byte(sig.Signature)})
	}
	return s, nil
}

// Decode is Decode, remembered.
func (r *Reader) Decode(leaf []byte) (Closure, error) {
	c, ok := r.closures[string(leaf)]
	if !ok {
		var err error
		if c, err = Decode(leaf); err != nil {
			return nil, err
		}
		r.closures[string(leaf)] = c
	}
	return c, nil
}

func xonly(b []byte) (bip340.XOnly, error) {
	if len(b) != 32 {
		return bip340.XOnly{}, ErrSignature
	}
	return bip340.XOnly(b), nil
}

// Know has the reader take a tree that the caller put together for what it is: its
// leaves lead to its script, and its field means it, without any more curve work.
func (r *Reader) Know(t Tree) {
	pkScript := t.PkScript()
	for i := range t.Len() {
		leaf, cb := t.LeafProof(i)
		r.proofs[string(proofKey(nil, pkScript, cb, leaf))] = nil
	}
	r.trees[string(t.TapTreeField())] = t
}

func proofKey(to, pkScript, controlBlock, leaf []byte) []byte {
	return append(append(append(to, pkScript...), controlBlock...), leaf...)
}

// leads checks once for every script, leaf and control block that they belong
// together.
func (r *Reader) leads(s Spend) error {
	r.key = proofKey(r.key[:0], s.Out.PkScript, s.ControlBlock, s.Leaf)
	err, ok := r.proofs[string(r.key)]
	if !ok {
		err = VerifyLeaf(s.Out.PkScript, s.Leaf, s.ControlBlock)
		r.proofs[string(r.key)] = err
	}
	return err
}

// TapTree is TapTree, remembered.
func (r *Reader) TapTree(in *psbt.PInput) (Tree, error) {
	v, err := single(in, fieldTapTree)
	if err != nil {
		return Tree{}, err
	}
	t, ok := r.trees[string(v)]
	if !ok {
		if t, err = ParseTapTree(v); err != nil {
			return Tree{}, err
		}
		r.trees[string(v)] = t
	}
	return t, nil
}

// Verify verifies every signature of input index, each under its own sighash
// type.
func (r *Reader) Verify(h *Sighasher, index int, s Spend) error {
	for _, sig := range s.Signatures {
		msg, err := h.Tapscript(index, s.Leaf, sig.Type)
		if err != nil {
			return fmt.Errorf("%w: by %s: %w", ErrSignature, sig.Key, err)
		}
		this := seen{sig.Key, msg, sig.Sig}
		if r.valid[this] {
			continue
		}
		v, ok := r.keys[sig.Key]
		if !ok {
			if v, err = bip340.NewVerifier(sig.Key); err != nil {
				return fmt.Errorf("%w: %w", ErrSignature, err)
			}
			r.keys[sig.Key] = v
		}
		if !v.Verify(msg[:], sig.Sig) {
			return fmt.Errorf("%w: by %s", ErrSignature, sig.Key)
		}
		r.valid[this] = true
	}
	return nil
}

// AddSignature puts a signature over leaf into an input in place of any that
// the key already has there.
func AddSignature(in *psbt.PInput, leaf []byte, sig Signature) {
	hash := LeafHash(leaf)
	kept := in.TaprootScriptSpendSig[:0:0]
	for _, s := range in.TaprootScriptSpendSig {
		if !bytes.Equal(s.XOnlyPubKey, sig.Key[:]) || !bytes.Equal(s.LeafHash, hash[:]) {
			kept = append(kept, s)
		}
	}
	in.TaprootScriptSpendSig = append(kept, &psbt.TaprootScriptSpendSig{
		XOnlyPubKey: bytes.Clone(sig.Key[:]), LeafHash: hash[:],
		Signature: bytes.Clone(sig.Sig[:]), SigHash: sig.Type,
	})
}

// SetLeaf makes leaf i of the tree the leaf that the input spends.
func SetLeaf(in *psbt.PInput, t Tree, i int) error {
	leaf, cb := t.LeafProof(i)
	if leaf == nil {
		return fmt.Errorf("%w: no leaf %d", ErrSpend, i)
	}
	in.TaprootLeafScript = []*psbt.TaprootTapLeafScript{{
		ControlBlock: cb, Script: leaf, LeafVersion: txscript.BaseLeafVersion,
	}}
	return nil
}
