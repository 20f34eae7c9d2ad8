package wallet

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
)

// ErrFees is returned for an operator that asks fees.
var ErrFees = errors.New("wallet: operator's fees are not supported")

// fees evaluates the operator's fee programs.
type fees struct{}

func newFees(p ark.FeePrograms, _ int64) (fees, error) {
	if p != (ark.FeePrograms{}) {
		return fees{}, fmt.Errorf("%w: %+v", ErrFees, p)
	}
	return fees{}, nil
}

func (fees) vtxo(ark.VTXO, int64) (int64, error)        { return 0, nil }
func (fees) input(ark.VTXO, bool, int64) (int64, error) { return 0, nil }
func (fees) output(*wire.TxOut) (int64, error)          { return 0, nil }
