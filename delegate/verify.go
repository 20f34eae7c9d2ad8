package delegate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
)

// ErrDamaged says that a stored record is not what its owner signed: the disk,
// or somebody at it, changed it. Nothing may be done in its name.
var ErrDamaged = errors.New("delegate: the record is not what was signed")

// Verify holds a record that was read from a store against the owner's
// signatures in it: message, proof and forfeits verify, and id, keys, coins and
// the outputs that its leaf must have are those that they are over. The error is
// ErrDamaged. What intake judged by the operator's parameters is not judged
// again. A record that has ended has nothing left to verify.
func (r *Record) Verify() error {
	if err := r.verify(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, r.ID, err)
	}
	return nil
}

// Mark identifies all that Verify looks at: of two records with one mark, both
// verify or neither does. The error is canon.ErrBounds, for a record that cannot
// be stored.
func (r *Record) Mark() ([32]byte, error) {
	b, err := canon.Encode(r.format(), MaxRecord, func(c *canon.Coder) {
		c.Fixed(r.ID[:], "id")
		r.walletFields(c, r.format())
		r.keyFields(c)
		r.signedFields(c, r.format())
	})
	return sha256.Sum256(b), err
}

func (r *Record) verify() error {
	message, err := intent.DecodeCanonical(r.Message, intent.Register)
	if err != nil {
		return err
	}
	cosigners, err := message.CosignerKeys()
	switch {
	case err != nil:
		return err
	case len(cosigners) != 1 || cosigners[0] != r.TreeKey:
		return errors.New("the message names another cosigner")
	case len(message.OnchainOutputs) > 0 || message.ValidAt != r.ValidAt || message.ExpireAt != r.ExpireAt:
		return errors.New("the message names other times or outputs")
	}
	packet, err := script.DecodePSBT(r.Proof, script.StrangerLimits())
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	reader := script.NewReader()
	keys, err := leafKeys(packet, reader)
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	proof, err := intent.Verify(packet, r.Message, intent.Options{Skip: keys, Reader: reader})
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if proof.Txid != r.ProofTxid || r.Kind == Stock && StockID(proof.Txid) != r.ID {
		return errors.New("the proof is another delegate's")
	}
	for i, in := range append([]intent.ProofInput{proof.Message}, proof.Inputs...) {
		if !slices.ContainsFunc(in.Signatures, func(s script.Signature) bool {
			return s.Key != r.SignerKey.XOnly() && s.Key != r.DelegateKey.XOnly()
		}) {
			return fmt.Errorf("no owner signed input %d of the proof", i)
		}
	}
	if err := r.verifyOutputs(proof); err != nil {
		return err
	}
	if err := r.verifyInputs(proof, reader); err != nil {
		return err
	}
	if r.Kind != Wallet {
		return nil
	}
	return r.verifyWallet(proof, reader)
}

// verifyWallet: what only a wallet's delegate has. Its id is tied to it by its tree
// key, which the message names and whose secret the id finds.
func (r *Record) verifyWallet(proof intent.Proof, reader *script.Reader) error {
	if len(r.Owners) != 1 || r.Owners[0] != bip340.XOnly(r.Wallet) {
		return errors.New("its owner is not the wallet")
	}
	signed := func(in intent.ProofInput) bool {
		return slices.ContainsFunc(in.Signatures, func(s script.Signature) bool { return s.Key == r.Owners[0] })
	}
	deletion, err := intent.DecodeCanonical(r.DeleteMessage, intent.Delete)
	if err != nil {
		return err
	}
	packet, err := script.DecodePSBT(r.DeleteProof, script.StrangerLimits())
	if err != nil {
		return fmt.Errorf("delete proof: %w", err)
	}
	taken, err := intent.Verify(packet, r.DeleteMessage, intent.Options{Skip: []bip340.XOnly{r.SignerKey.XOnly()}, Reader: reader})
	if err != nil {
		return fmt.Errorf("delete proof: %w", err)
	}
	if deletion.ExpireAt != 0 || len(taken.Inputs) != 1 || taken.HasOutputs() || !r.Spends(taken.Inputs[0].Outpoint) {
		return errors.New("the delete proof is another delegate's")
	}
	for _, in := range slices.Concat([]intent.ProofInput{proof.Message, taken.Message}, proof.Inputs, taken.Inputs) {
		if !signed(in) {
			return errors.New("a proof is not signed by the wallet")
		}
	}
	return nil
}

// leafKeys are the keys of all leaves that a proof is signed on: whose signatures
// had to be there is for intake to judge, and here only that those which are
// there verify.
func leafKeys(packet *psbt.Packet, r *script.Reader) ([]bip340.XOnly, error) {
	var keys []bip340.XOnly
	for _, in := range packet.Inputs {
		for _, leaf := range in.TaprootLeafScript {
			closure, err := r.Decode(leaf.Script)
			if err != nil {
				return nil, err
			}
			for _, key := range closure.Keys() {
				if !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys, nil
}

// verifyOutputs: the leaf must pay what the proof asks for, with the extension
// in the form that leaves have, last.
func (r *Record) verifyOutputs(proof intent.Proof) error {
	var leaf []wire.TxOut
	var extension []byte
	for _, out := range proof.Outputs {
		if asset.IsExtension(out.PkScript) {
			extension = out.PkScript
			continue
		}
		leaf = append(leaf, *out)
	}
	if extension != nil {
		script, err := asset.LeafScript(extension, proof.Txid)
		if err != nil {
			return fmt.Errorf("proof: %w", err)
		}
		leaf = append(leaf, wire.TxOut{PkScript: script})
	}
	if !slices.EqualFunc(leaf, r.Outputs, func(a, b wire.TxOut) bool {
		return a.Value == b.Value && bytes.Equal(a.PkScript, b.PkScript)
	}) {
		return errors.New("its outputs are not those of the proof")
	}
	return nil
}

// verifyInputs: the coins are the proof's, and every forfeit is one of its coin.
func (r *Record) verifyInputs(proof intent.Proof, reader *script.Reader) error {
	if len(proof.Inputs) != len(r.Inputs) {
		return fmt.Errorf("%d coins, the proof spends %d", len(r.Inputs), len(proof.Inputs))
	}
	for i, in := range r.Inputs {
		spent := proof.Inputs[i]
		tree, err := script.ParseTapTree(in.TapTree)
		switch {
		case err != nil:
			return fmt.Errorf("script of %s: %w", in.Outpoint, err)
		case in.Outpoint != spent.Outpoint || in.Amount != spent.Out.Value || !bytes.Equal(in.Script, spent.Out.PkScript) ||
			!bytes.Equal(tree.PkScript(), in.Script):
			return fmt.Errorf("coin %d is not the proof's", i)
		case in.Bearer():
			if err := r.verifySealed(i, tree); err != nil {
				return fmt.Errorf("sealed forfeit of %s: %w", in.Outpoint, err)
			}
			continue
		case len(in.Forfeit) == 0:
			continue
		}
		packet, err := script.DecodePSBT(in.Forfeit, script.StrangerLimits())
		if err != nil {
			return fmt.Errorf("forfeit of %s: %w", in.Outpoint, err)
		}
		if _, err := forfeit.Check(packet, r.Terms(in, tree), reader); err != nil {
			return fmt.Errorf("forfeit of %s: %w", in.Outpoint, err)
		}
	}
	return nil
}

// Terms are what the forfeit of one of the record's coins says; tree is the
// coin's script.
func (r *Record) Terms(in Input, tree script.Tree) forfeit.Terms {
	return forfeit.Terms{
		Outpoint: in.Outpoint, Amount: in.Amount, Tree: tree, Dust: r.Dust, Script: r.ForfeitScript,
		Delegate: r.DelegateKey.XOnly(), Bearer: in.Bearer(), Signers: []bip340.XOnly{r.SignerKey.XOnly()},
	}
}

// Unsealed is the forfeit of input i, which is a bearer instrument, as its owner
// signed it and without the signature, with the sighash that this is over and its
// leaf: all from what the record says, and held against the rest of that. tree is the
// coin's script.
func (r *Record) Unsealed(i int, tree script.Tree) (partial *psbt.Packet, sighash [32]byte, leaf []byte, err error) {
	in := r.Inputs[i]
	fail := func(text string) (*psbt.Packet, [32]byte, []byte, error) {
		return nil, [32]byte{}, nil, errors.New(text)
	}
	at := slices.IndexFunc(r.Sighashes, func(s Sighash) bool { return s.Forfeit && int(s.Of) == i })
	if !in.Bearer() || len(in.Forfeit) > 0 || at < 0 {
		return fail("it is not told what was signed")
	}
	said := r.Sighashes[at]
	n := slices.IndexFunc(tree.Leaves(), func(leaf []byte) bool { return script.LeafHash(leaf) == said.LeafHash })
	if n < 0 || said.Input != 0 || said.Type != byte(forfeit.OwnerSighash) || said.Ours {
		return fail("its sighash is no bearer forfeit's")
	}
	if partial, sighash, err = forfeit.Build(r.Terms(in, tree), n); err != nil {
		return nil, [32]byte{}, nil, err
	}
	if partial.UnsignedTx.TxHash() != in.Sealed {
		return fail("its txid is another's")
	}
	return partial, sighash, tree.Leaves()[n], nil
}

// verifySealed: what was signed is the forfeit of the coin, on a leaf of the owner
// and the operator alone. The signature is not here to be verified.
func (r *Record) verifySealed(i int, tree script.Tree) error {
	_, _, leaf, err := r.Unsealed(i, tree)
	if err != nil {
		return err
	}
	closure, err := script.Decode(leaf)
	if err != nil {
		return err
	}
	m, ok := closure.(script.Multisig)
	if !ok || len(m.PubKeys) != 2 || len(r.Owners) != 1 || !script.HasKey(m, r.Owners[0]) || !script.HasKey(m, r.SignerKey.XOnly()) {
		return errors.New("its leaf is not one of owner and operator alone")
	}
	return nil
}
