package client

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/ark"
)

// TestWorthwhile holds that a stranger's dust is renewed at nobody's cost: what it is
// worth must be more than what the operator takes for it, then or later.
func TestWorthwhile(t *testing.T) {
	t.Parallel()
	var coins []coin
	for _, sats := range []int64{5, 10, 11, 329, 1000} {
		coins = append(coins, coin{VTXO: ark.VTXO{Amount: sats, ExpiresAt: 1000, CommitmentTxs: make([]chainhash.Hash, 1)}})
	}
	for programs, want := range map[string]int{
		"":     5,
		"0.0":  5,
		"10.0": 3,
		"inputType == 'recoverable' ? 500.0 : 0.0": 1, // as it may be by the time it runs
		"2000.0": 1, // a coin that is not dust is the owner's to judge
	} {
		got, err := worthwhile(coins, ark.Params{Dust: 330, Fees: ark.FeePrograms{OffchainInput: programs}}, 0)
		if err != nil || len(got) != want {
			t.Errorf("fee %q: %d of %d coins are worth it, want %d; %v", programs, len(got), len(coins), want, err)
		}
	}
}
