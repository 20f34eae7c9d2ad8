package batch

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/ark"
)

// MinExpiry is the shortest batch expiry that is ever confirmed outside
// regtest, in seconds: one day, as the stock wallets have it (protocol section
// 2.6).
const MinExpiry = 86_400

// ErrExpiry says that an announced batch expiry is not acceptable. The batch
// must not be confirmed; nothing else is wrong with it.
var ErrExpiry = errors.New("batch: expiry refused")

// CheckExpiry decides whether a batch with the announced expiry may be
// confirmed: it must be a delay of the network's kind (seconds, or on regtest
// blocks too) and not below least, in seconds, which outside regtest counts as
// at least MinExpiry. A block counts as one second, as it does for the operator.
func CheckExpiry(network ark.Network, expiry uint32, least int64) error {
	d, err := ark.ParseDelay(int64(expiry))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExpiry, err)
	}
	if !network.AllowsBlocks() {
		if d.IsBlocks() {
			return fmt.Errorf("%w: %v on %s", ErrExpiry, d, network)
		}
		least = max(least, MinExpiry)
	}
	if d.Seconds() < least {
		return fmt.Errorf("%w: %v, at least %d s wanted", ErrExpiry, d, least)
	}
	return nil
}
