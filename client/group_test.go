package client

import (
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
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

// TestGroupKeepsADelegate holds that the coins of one delegate stay together when they
// are delegated again, although the one has expired meanwhile and they would be parted.
func TestGroupKeepsADelegate(t *testing.T) {
	t.Parallel()
	const now = 1_000_000
	p := ark.Params{Dust: 330, MaxTxWeight: 40_000, SessionSeconds: 60}
	at := func(n byte, under byte, sats, expiry int64) coin {
		c := coin{VTXO: ark.VTXO{Amount: sats, CreatedAt: now - 1000, ExpiresAt: expiry}, under: vigil.DelegateID{under}}
		c.Outpoint.Hash[0] = n
		return c
	}
	coins := []coin{
		at(1, 7, 1000, now+500_000), at(2, 0, 1000, now+500_000), at(3, 7, 1000, now-5), at(4, 8, 1000, now+500_000), at(5, 9, 10, now+900_000),
		at(6, 9, 1000, now+800_000),
	}
	numbers := func(single bool) (list [][]byte) {
		for _, g := range group(coins, p, now, single) {
			var ns []byte
			for _, c := range g {
				ns = append(ns, c.Outpoint.Hash[0])
			}
			list = append(list, ns)
		}
		return list
	}
	if got, want := fmt.Sprint(numbers(false)), "[[2 4] [3 1] [6 5]]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := fmt.Sprint(numbers(true)), "[[3] [1] [2] [4] [6]]"; got != want {
		t.Errorf("each for itself: %s, want %s", got, want)
	}
}

// TestLead: coins are renewed early enough for attempts that fail, and no earlier
// (spec section 6, When).
func TestLead(t *testing.T) {
	const now, hour, day = 1_800_000_000, 3600, 86_400
	for name, tt := range map[string]struct {
		lifetime, remaining, session, want int64
	}{
		"a tenth of a week":               {7 * day, 7 * day, 30, 60_480},
		"of the life that it had":         {7 * day, 3 * day, 30, 60_480},
		"at most three days":              {60 * day, 60 * day, 30, 3 * day},
		"at least half an hour":           {4 * hour, 4 * hour, 30, 1800},
		"at least twelve sessions":        {day, day, 1000, 12_000},
		"never over half of what remains": {7 * day, hour, 30, 1800},
		"nothing remains":                 {7 * day, 0, 30, 0},
		"it is over":                      {7 * day, -5, 30, 0},
	} {
		var c coin
		c.ExpiresAt = now + tt.remaining
		c.CreatedAt = c.ExpiresAt - tt.lifetime
		if got := lead(c, ark.Params{SessionSeconds: tt.session}, now); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
