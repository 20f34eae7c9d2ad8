package wallet

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
)

// fees evaluates the operator's fee programs at one unix time. Like the stock
// wallet it rounds every charge up by itself, where the operator rounds their
// sum: it never pays less than is asked.
type fees struct {
	programs *fee.Estimator
	at       int64
}

func newFees(p ark.FeePrograms, at int64) (fees, error) {
	e, err := fee.Compile(p)
	return fees{e, at}, err
}

// input is the charge for spending a VTXO of the given type.
func (f fees) input(v ark.VTXO, as fee.InputType) (int64, error) {
	arg := fee.InputArg{Amount: v.Amount, Expiry: v.ExpiresAt, Birth: v.CreatedAt, Type: as}
	return f.programs.Fee([]fee.InputArg{arg}, nil, f.at)
}

// boarding is the charge for taking in an on-chain coin.
func (f fees) boarding(v ark.VTXO) (int64, error) {
	return f.programs.Fee([]fee.InputArg{{Amount: v.Amount, Onchain: true}}, nil, f.at)
}

// output is the charge for a new VTXO.
func (f fees) output(out *wire.TxOut) (int64, error) {
	return f.programs.Fee(nil, []fee.OutputArg{{Amount: out.Value, Script: out.PkScript}}, f.at)
}
