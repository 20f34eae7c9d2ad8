// Package forfeit owns forfeit transactions, by which the owner of a VTXO gives
// it up in exchange for the outputs of one batch: what the owner signs ahead,
// how it is checked, and how a connector completes it. It holds no keys and
// knows nothing of batches.
package forfeit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

const (
	version = 3

	// OwnerSighash is the type of the owner's signature: all outputs, but only
	// its own input, as the connector is not known yet.
	OwnerSighash = txscript.SigHashAll | txscript.SigHashAnyOneCanPay
	// DelegateSighash is the type of the delegate's signature. It commits to
	// the connector and is all that binds a forfeit to one batch.
	DelegateSighash = txscript.SigHashDefault
)

var (
	// ErrForm is returned for a transaction that is not built as a forfeit is.
	ErrForm = errors.New("forfeit: wrong form")
	// ErrTerms is returned for a forfeit of another coin, to another script or
	// over another amount.
	ErrTerms = errors.New("forfeit: wrong terms")
	// ErrLeaf is returned for a forfeit on a leaf that does not pin it to a batch.
	ErrLeaf = errors.New("forfeit: wrong leaf")
	// ErrSignature is returned for a signature that is missing, superfluous, of
	// another type or invalid.
	ErrSignature = errors.New("forfeit: wrong signature")
)

// Terms are what a forfeit has to say.
type Terms struct {
	Outpoint wire.OutPoint
	Amount   int64       // satoshis of the VTXO
	Tree     script.Tree // its script
	Dust     int64       // the operator's dust: what a connector adds
	Script   []byte      // the operator's forfeit script
	// Delegate is the key that completes the forfeit; the leaf must have it.
	Delegate bip340.XOnly
	// Bearer says that the forfeit is on a leaf of owner and operator alone, as the
	// two-leaf script has one: no key of a delegate's pins it to a batch, and with it
	// the operator has the coin.
	Bearer bool
	// Signers are the operator's signer keys, current and deprecated.
	Signers []bip340.XOnly
}

// Partial is a checked forfeit without connector.
type Partial struct {
	Owner    bip340.XOnly // the one key of the leaf that is neither the delegate's nor a signer's
	Leaf     []byte
	LeafHash [32]byte
}

// Unsigned is the partial forfeit on leaf i of the terms' tree, with the sighash of
// type OwnerSighash that the owner signs.
func Unsigned(t Terms, i int) (*wire.MsgTx, [32]byte, error) {
	tx := wire.NewMsgTx(version)
	tx.AddTxIn(wire.NewTxIn(&t.Outpoint, nil, nil))
	tx.AddTxOut(wire.NewTxOut(t.Amount+t.Dust, bytes.Clone(t.Script)))
	tx.AddTxOut(ark.AnchorOut())
	leaf, _ := t.Tree.LeafProof(i)
	if leaf == nil {
		return nil, [32]byte{}, fmt.Errorf("%w: no leaf %d", ErrLeaf, i)
	}
	h, err := script.TapscriptSighash(tx, []*wire.TxOut{wire.NewTxOut(t.Amount, t.Tree.PkScript())}, 0, leaf, OwnerSighash)
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return tx, h, nil
}

// Build is Unsigned as a PSBT.
func Build(t Terms, i int) (*psbt.Packet, [32]byte, error) {
	tx, h, err := Unsigned(t, i)
	if err != nil {
		return nil, h, err
	}
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, h, fmt.Errorf("%w: %w", ErrForm, err)
	}
	in := &p.Inputs[0]
	in.WitnessUtxo = wire.NewTxOut(t.Amount, t.Tree.PkScript())
	in.SighashType = OwnerSighash
	if err := script.SetLeaf(in, t.Tree, i); err != nil {
		return nil, h, fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	return p, h, nil
}

// Check checks a partial forfeit against its terms, to the letter: version 3,
// locktime 0, one input with sequence ffffffff, exactly the forfeit output and
// P2A, a plain multisig leaf of the tree with the delegate's key (of a bearer
// forfeit: without one), and on it exactly one signature, the owner's, of type
// OwnerSighash and valid.
//
// The packet must come from script.ParsePSBT or Build. r may be nil; one Reader
// for all forfeits of a request saves work.
func Check(p *psbt.Packet, t Terms, r *script.Reader) (Partial, error) {
	tx := p.UnsignedTx
	if len(tx.TxIn) != 1 || len(p.Inputs) != 1 {
		return Partial{}, fmt.Errorf("%w: %d inputs", ErrForm, len(tx.TxIn))
	}
	if err := checkForm(tx); err != nil {
		return Partial{}, err
	}
	switch {
	case tx.TxIn[0].PreviousOutPoint != t.Outpoint:
		return Partial{}, fmt.Errorf("%w: spends %s", ErrTerms, tx.TxIn[0].PreviousOutPoint)
	case t.Amount < 0, t.Dust < 0, t.Amount > btcutil.MaxSatoshi, t.Dust > btcutil.MaxSatoshi,
		tx.TxOut[0].Value != t.Amount+t.Dust:
		return Partial{}, fmt.Errorf("%w: pays %d, want %d and %d", ErrTerms, tx.TxOut[0].Value, t.Amount, t.Dust)
	case !bytes.Equal(tx.TxOut[0].PkScript, t.Script):
		return Partial{}, fmt.Errorf("%w: pays to %.80x", ErrTerms, tx.TxOut[0].PkScript)
	}
	r = orNew(r)
	spend, err := r.Spend(&p.Inputs[0])
	if err != nil {
		return Partial{}, readError(err)
	}
	if spend.Out.Value != t.Amount || !bytes.Equal(spend.Out.PkScript, t.Tree.PkScript()) {
		return Partial{}, fmt.Errorf("%w: witness UTXO is not the VTXO", ErrTerms)
	}
	owner, err := ownerOf(spend, t)
	if err != nil {
		return Partial{}, err
	}
	if len(spend.Signatures) != 1 || !isOwners(spend.Signatures[0], owner) {
		return Partial{}, fmt.Errorf("%w: want exactly the owner's, of type %#x", ErrSignature, OwnerSighash)
	}
	if typ := p.Inputs[0].SighashType; typ != 0 && typ != OwnerSighash {
		return Partial{}, fmt.Errorf("%w: type field %#x", ErrSignature, typ)
	}
	h, err := script.NewSighasher(tx, []*wire.TxOut{spend.Out})
	if err != nil {
		return Partial{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := r.Verify(h, 0, spend); err != nil {
		return Partial{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return Partial{Owner: owner, Leaf: spend.Leaf, LeafHash: spend.LeafHash}, nil
}

// checkForm checks what partial and complete forfeits have in common.
func checkForm(tx *wire.MsgTx) error {
	switch {
	case tx.Version != version:
		return fmt.Errorf("%w: version %d", ErrForm, tx.Version)
	case tx.LockTime != 0:
		return fmt.Errorf("%w: locktime %d", ErrForm, tx.LockTime)
	case len(tx.TxOut) != 2 || !ark.IsAnchor(tx.TxOut[1]):
		return fmt.Errorf("%w: outputs are not the forfeit's and P2A", ErrForm)
	}
	for i, in := range tx.TxIn {
		if in.Sequence != wire.MaxTxInSequenceNum {
			return fmt.Errorf("%w: sequence %#x of input %d", ErrForm, in.Sequence, i)
		}
	}
	return nil
}

func readError(err error) error {
	if errors.Is(err, script.ErrSignature) {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return fmt.Errorf("%w: %w", ErrForm, err)
}

// ownerOf finds the owner among the leaf's keys: the leaf must be a plain
// multisig of the tree with delegate, one signer and one more key; of a bearer
// forfeit with a signer and one more key. Leaves with locktime or condition are
// refused: the forfeit would need more than it has.
func ownerOf(s script.Spend, t Terms) (bip340.XOnly, error) {
	m, ok := s.Closure.(script.Multisig)
	if !ok {
		return bip340.XOnly{}, fmt.Errorf("%w: %T", ErrLeaf, s.Closure)
	}
	if t.Tree.Index(s.Leaf) < 0 {
		return bip340.XOnly{}, fmt.Errorf("%w: not in the revealed script", ErrLeaf)
	}
	keys := 2
	if !t.Bearer {
		keys = 3
		if !script.HasKey(m, t.Delegate) {
			return bip340.XOnly{}, fmt.Errorf("%w: lacks the delegate's key", ErrLeaf)
		}
	}
	var owners []bip340.XOnly
	signer := false
	for _, k := range m.PubKeys {
		switch {
		case !t.Bearer && k == t.Delegate:
		case slices.Contains(t.Signers, k):
			signer = true
		default:
			owners = append(owners, k)
		}
	}
	if len(owners) != 1 || !signer || len(m.PubKeys) != keys {
		return bip340.XOnly{}, fmt.Errorf("%w: %d keys, want owner and operator, and the delegate's unless it is a bearer's", ErrLeaf, len(m.PubKeys))
	}
	return owners[0], nil
}

func isOwners(s script.Signature, owner bip340.XOnly) bool {
	return s.Key == owner && s.Type == OwnerSighash
}
