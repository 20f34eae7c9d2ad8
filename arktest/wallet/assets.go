package wallet

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"
)

// ErrAssets is returned for coins that hold assets.
var ErrAssets = errors.New("wallet: assets are not supported")

// withAssets appends the extension output that carries every unit of the coins'
// assets to outs[to].
func withAssets(coins []coin, outs []*wire.TxOut, _ int) ([]*wire.TxOut, error) {
	for _, c := range coins {
		if len(c.Assets) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrAssets, c.Outpoint)
		}
	}
	return outs, nil
}
