package forfeit

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// Complete appends the connector as input 1 to a partial forfeit that Check
// accepted, and returns the new transaction with the sighash that the delegate
// signs with DelegateSighash. The partial is not changed.
//
// The caller vouches for the connector: whoever signs the sighash gives the VTXO
// up as soon as the connector's transaction can confirm. r may be nil; the Reader
// that Check used saves work, here and in Sign.
func Complete(partial *psbt.Packet, connector wire.OutPoint, out *wire.TxOut, r *script.Reader) (*psbt.Packet, [32]byte, error) {
	fail := func(err error) (*psbt.Packet, [32]byte, error) { return nil, [32]byte{}, err }
	if len(partial.Inputs) != 1 || len(partial.UnsignedTx.TxIn) != 1 {
		return fail(fmt.Errorf("%w: %d inputs", ErrForm, len(partial.Inputs)))
	}
	if err := checkForm(partial.UnsignedTx); err != nil {
		return fail(err)
	}
	spend, err := orNew(r).Spend(&partial.Inputs[0])
	if err != nil {
		return fail(readError(err))
	}
	tx := partial.UnsignedTx.Copy()
	if out == nil || tx.TxOut[0].Value != spend.Out.Value+out.Value {
		return fail(fmt.Errorf("%w: connector's value does not fit the signed output", ErrTerms))
	}
	if _, ok := ark.TaprootKey(out.PkScript); !ok || connector == tx.TxIn[0].PreviousOutPoint {
		return fail(fmt.Errorf("%w: not a connector", ErrTerms))
	}
	tx.AddTxIn(wire.NewTxIn(&connector, nil, nil))
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrForm, err))
	}
	p.Inputs[0] = psbt.PInput{
		WitnessUtxo:       spend.Out,
		TaprootLeafScript: partial.Inputs[0].TaprootLeafScript,
	}
	for _, sig := range spend.Signatures {
		script.AddSignature(&p.Inputs[0], spend.Leaf, sig)
	}
	p.Inputs[1].WitnessUtxo = wire.NewTxOut(out.Value, bytes.Clone(out.PkScript))
	h, err := script.TapscriptSighash(tx, []*wire.TxOut{spend.Out, out}, 0, spend.Leaf, DelegateSighash)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrForm, err))
	}
	return p, h, nil
}

// Sign puts the delegate's signature into a transaction that Complete made,
// and verifies the whole.
func Sign(p *psbt.Packet, delegate bip340.XOnly, sig [64]byte, r *script.Reader) error {
	if len(p.Inputs) != 2 || len(p.Inputs[0].TaprootLeafScript) != 1 {
		return fmt.Errorf("%w: not completed", ErrForm)
	}
	script.AddSignature(&p.Inputs[0], p.Inputs[0].TaprootLeafScript[0].Script,
		script.Signature{Key: delegate, Type: DelegateSighash, Sig: sig})
	return VerifyComplete(p, delegate, r)
}

// VerifyComplete checks a completed forfeit before it leaves: VTXO at input 0,
// connector at input 1, amounts that add up, and on the VTXO's leaf exactly two
// valid signatures: the delegate's of type DelegateSighash, and another key's of
// type OwnerSighash.
func VerifyComplete(p *psbt.Packet, delegate bip340.XOnly, r *script.Reader) error {
	return verifyComplete(p, r, func(spend script.Spend) error {
		if len(spend.Signatures) != 2 || !spend.Signed(delegate) {
			return fmt.Errorf("%w: %d of two", ErrSignature, len(spend.Signatures))
		}
		for _, sig := range spend.Signatures {
			want := OwnerSighash
			if sig.Key == delegate {
				want = DelegateSighash
			}
			if sig.Type != want {
				return fmt.Errorf("%w: type %#x by %s", ErrSignature, sig.Type, sig.Key)
			}
		}
		return nil
	})
}

// VerifyBearer is VerifyComplete for a bearer forfeit: nobody but the owner has
// signed it, with OwnerSighash, so that it commits to no connector and would be
// valid with any.
func VerifyBearer(p *psbt.Packet, owner bip340.XOnly, r *script.Reader) error {
	return verifyComplete(p, r, func(spend script.Spend) error {
		if len(spend.Signatures) != 1 || !isOwners(spend.Signatures[0], owner) {
			return fmt.Errorf("%w: want exactly the owner's, of type %#x", ErrSignature, OwnerSighash)
		}
		return nil
	})
}

// verifyComplete checks what both kinds of completed forfeits have in common;
// signed says whose signatures there must be.
func verifyComplete(p *psbt.Packet, r *script.Reader, signed func(script.Spend) error) error {
	tx := p.UnsignedTx
	if len(p.Inputs) != 2 || len(tx.TxIn) != 2 {
		return fmt.Errorf("%w: %d inputs", ErrForm, len(p.Inputs))
	}
	if err := checkForm(tx); err != nil {
		return err
	}
	r = orNew(r)
	spend, err := r.Spend(&p.Inputs[0])
	if err != nil {
		return readError(err)
	}
	connector := p.Inputs[1].WitnessUtxo
	if connector == nil || tx.TxOut[0].Value != spend.Out.Value+connector.Value {
		return fmt.Errorf("%w: amounts do not add up", ErrTerms)
	}
	if err := signed(spend); err != nil {
		return err
	}
	h, err := script.NewSighasher(tx, []*wire.TxOut{spend.Out, connector})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := r.Verify(h, 0, spend); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

func orNew(r *script.Reader) *script.Reader {
	if r == nil {
		return script.NewReader()
	}
	return r
}
