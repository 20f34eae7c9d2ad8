package delegate

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/fee"
)

// checkOutputs: outputs the operator accepts, each back to a script of the
// inputs, one of them Vigil's fee if it asks one, and every asset returned.
func (c *stockCheck) checkOutputs() error {
	var extension []byte
	fees, returned := 0, 0
	for i, out := range c.proven.Outputs {
		if asset.IsExtension(out.PkScript) {
			extension = out.PkScript
			continue
		}
		if err := c.checkAmount(i, out); err != nil {
			return err
		}
		switch {
		case c.Fee > 0 && bytes.Equal(out.PkScript, c.FeeScript):
			fees++
			c.served = out.Value
		case c.owned(out), c.AnyDestination:
			returned++
		default:
			return vigil.Errorf(vigil.CodeDestinationNotOwner, "output %d pays neither a script of the inputs nor this server's fee", i)
		}
		c.leaf = append(c.leaf, wire.TxOut{Value: out.Value, PkScript: out.PkScript})
	}
	switch {
	case c.Fee > 0 && (fees != 1 || c.served < c.Fee):
		return vigil.Errorf(vigil.CodeServiceFee, "the proof must pay %d to this server's fee address, in one output", c.Fee)
	case returned == 0:
		return vigil.Errorf(vigil.CodeInputNotDelegable, "no output returns anything to the owner")
	}
	if err := c.checkAssets(func(out *wire.TxOut) bool { return c.AnyDestination || c.owned(out) }); err != nil {
		return err
	}
	return c.extend(extension)
}

// checkAmount: the operator takes an output of this script and amount.
func (c *intake) checkAmount(i int, out *wire.TxOut) error {
	if _, ok := ark.TaprootKey(out.PkScript); !ok {
		return vigil.Errorf(vigil.CodeOutputAmount, "output %d does not pay to a Taproot script", i)
	}
	if out.Value < c.params.Dust || c.params.VtxoMax >= 0 && out.Value > c.params.VtxoMax {
		return vigil.Errorf(vigil.CodeOutputAmount, "output %d holds %d; the operator takes %d to %d (-1: no bound)", i, out.Value, c.params.Dust, c.params.VtxoMax)
	}
	return nil
}

// extend adds the leaf's form of an extension, if there is one: the operator puts
// its own behind the other outputs.
func (c *intake) extend(extension []byte) error {
	if extension == nil {
		return nil
	}
	leaf, err := asset.LeafScript(extension, c.proven.Txid)
	if err != nil {
		return vigil.Errorf(vigil.CodeAssetsNotConserved, "the extension output: %w", err)
	}
	c.leaf = append(c.leaf, wire.TxOut{PkScript: leaf})
	return nil
}

// owned says whether an output pays the script of an input.
func (c *stockCheck) owned(out *wire.TxOut) bool {
	for _, in := range c.proven.Inputs {
		if bytes.Equal(out.PkScript, in.Out.PkScript) {
			return true
		}
	}
	return false
}

// checkAssets: whatever the inputs hold goes whole to owners' outputs.
func (c *intake) checkAssets(ours func(*wire.TxOut) bool) error {
	held := make(map[int][]asset.Holding)
	for i, v := range c.vtxos {
		hs, err := asset.HoldingsOf(v)
		if err != nil {
			return vigil.Errorf(vigil.CodeAssetsNotConserved, "%s: %w", v.Outpoint, err)
		}
		if len(hs) > 0 {
			held[i+1] = hs // in a proof the first coin is input 1
		}
	}
	if err := asset.ConservesAssets(c.proof.UnsignedTx, held, ours); err != nil {
		return vigil.Errorf(vigil.CodeAssetsNotConserved, "%w", err)
	}
	return nil
}

// checkFee: the operator gets what it will ask at valid_at, and not much more
// than it could ask, for live inputs or for recoverable ones.
func (c *intake) checkFee() error {
	if c.estimator == nil {
		var err error
		if c.estimator, err = fee.Compile(c.params.Fees); err != nil {
			return err
		}
	}
	c.paid = c.proven.Fee()
	at := max(c.message.ValidAt, c.now)
	due, err := c.estimator.Fee(c.feeInputs(func(v ark.VTXO) fee.InputType { return fee.TypeOf(v, c.now) }), c.feeOutputs(), at)
	if err != nil {
		return err
	}
	most := due
	for _, kind := range []fee.InputType{fee.VTXO, fee.Recoverable} {
		f, err := c.estimator.Fee(c.feeInputs(func(ark.VTXO) fee.InputType { return kind }), c.feeOutputs(), at)
		if err != nil {
			return err
		}
		most = max(most, f)
	}
	most += most/4 + c.slack
	switch {
	case c.paid < due:
		return vigil.Errorf(vigil.CodeFeeTooLow, "the outputs leave %d for the operator, which asks %d", c.paid, due)
	case c.paid > most:
		return vigil.Errorf(vigil.CodeFeeTooHigh, "the outputs leave %d for the operator; at most %d are allowed", c.paid, most)
	}
	return nil
}

func (c *intake) feeInputs(kind func(ark.VTXO) fee.InputType) []fee.InputArg {
	args := make([]fee.InputArg, len(c.vtxos))
	for i, v := range c.vtxos {
		args[i] = fee.InputArg{Amount: v.Amount, Expiry: v.ExpiresAt, Birth: v.CreatedAt, Type: kind(v)}
	}
	return args
}

// feeOutputs are the outputs that are charged: extensions are not.
func (c *intake) feeOutputs() []fee.OutputArg {
	var args []fee.OutputArg
	for _, out := range c.proven.Outputs {
		if !asset.IsExtension(out.PkScript) {
			args = append(args, fee.OutputArg{Amount: out.Value, Script: out.PkScript})
		}
	}
	return args
}
