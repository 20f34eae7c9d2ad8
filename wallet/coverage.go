package wallet

import (
	"context"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

// coverage is until when a wallet is safe, as far as is known.
type coverage struct {
	active    bool  // some coin has a delegate that counts
	until     int64 // unix seconds until which no coin is in danger; 0: one is now, or there is none
	uncovered []wire.OutPoint
	dust      []wire.OutPoint // uncovered, and of no account
	lastExit  int64           // when to begin to leave without anybody's help, at the latest; 0: no coin could
}

// smallness is what makes a coin too small: the operator's dust, and what a batch
// takes for it. The zero value finds none too small.
type smallness struct {
	dust int64
	fees *fee.Estimator // nil: a batch takes nothing
}

// mostDust bounds what an operator's word on dust takes out of account, in satoshis:
// some times what Bitcoin's relay rules have for a taproot output (330).
const mostDust = 1_000

// smallness asks for it. Without an answer every coin counts, and so does every coin
// that no honest operator calls dust, so that nothing is called safe that is not.
func (s *Service) smallness(ctx context.Context) smallness {
	p, err := s.announced.Current(ctx)
	if err != nil {
		return smallness{}
	}
	small := smallness{dust: min(p.Dust, mostDust)}
	if small.fees, err = s.announced.Estimator(p.Fees); err != nil {
		small.fees = nil
	}
	return small
}

// alone says whether coins that are each below dust cannot be renewed without
// another: what a batch would leave of them together is below dust as well. Such
// coins anybody can send, and no device can do anything about them.
func (t smallness) alone(coins []*ledger.Holding, now int64) bool {
	var left float64
	for _, h := range coins {
		rest := float64(h.Amount)
		if t.fees != nil {
			cost, err := t.fees.Sum([]fee.InputArg{{Amount: h.Amount, Expiry: h.ExpiresAt, Birth: h.CreatedAt, Type: fee.Recoverable}}, nil, now)
			if err == nil {
				rest -= cost
			}
		}
		left += max(rest, 0)
	}
	return left < float64(t.dust)
}

// coverage reckons it. A coin is safe until its expiry; one with a delegate until
// the batch that renews it would expire at the earliest: as late as the delegate
// accepts no shorter one, counted from when it may run, since a coin's life counts
// from its confirmation. One that has expired is at the operator's mercy whatever
// was signed, and one on chain is its owner's to fetch. One below dust was never on
// any chain and is the operator's word from its birth, so that no hour changes
// anything about it: under a delegate it is renewed with the others, and bare ones
// count only if together they could be renewed.
func (v *view) coverage(t smallness) coverage {
	var c coverage
	var small []*ledger.Holding
	coins := v.unspent()
	for _, h := range coins {
		if h.Fate == ledger.Unrolled {
			continue
		}
		rec, _ := v.cover(h)
		if h.Amount < t.dust {
			if rec == nil {
				small = append(small, h)
			} else {
				c.active = true
			}
			continue
		}
		safe := int64(0)
		if !h.Recoverable(v.now) {
			safe = h.ExpiresAt
		}
		if rec == nil {
			c.uncovered = append(c.uncovered, h.Outpoint)
		} else {
			c.active = true
			if safe > 0 {
				safe = max(safe, renewedUntil(rec))
			}
		}
		if c.until == 0 || safe < c.until {
			c.until = safe
		}
		if safe == 0 {
			c.until = -1
		}
		if exit := lastExit(h, v.now); exit > 0 && (c.lastExit == 0 || exit < c.lastExit) {
			c.lastExit = exit
		}
	}
	for _, h := range small {
		c.dust = append(c.dust, h.Outpoint)
	}
	if len(small) > 0 && !t.alone(small, v.now) {
		c.uncovered, c.dust, c.until = append(c.uncovered, c.dust...), nil, 0
	}
	c.until = max(c.until, 0)
	return c
}

// renewedUntil is the earliest expiry of the coin that a delegate would make; 0
// when its batch is counted in blocks, of which nobody knows the time. It counts on
// no more than nine tenths of what was left of the coins when the delegate came: a
// measured lifetime may be longer than any batch's, by what the commitment waited
// for its block.
func renewedUntil(rec *delegate.Record) int64 {
	d := ark.Delay(rec.MinBatchExpiry)
	if d.IsBlocks() {
		return 0
	}
	left := int64(0)
	for _, in := range rec.Inputs {
		left = max(left, in.ExpiresAt-rec.CreatedAt)
	}
	return rec.ValidAt + min(d.Seconds(), left/10*9)
}

// Leaving takes a transaction for every level of the tree, each a block or more
// after the one before, with fees bought on chain: a day is what a full mempool
// was seen to take. Coins that live for less are given a tenth of their life, as
// on test networks.
const exitLead = 24 * 60 * 60

// lastExit is when to begin to unroll a coin, at the latest; 0 when it is too late
// or not needed.
func lastExit(h *ledger.Holding, now int64) int64 {
	if h.ExpiresAt <= 0 || h.Recoverable(now) {
		return 0
	}
	lead := int64(exitLead)
	if life := h.ExpiresAt - h.CreatedAt; h.CreatedAt > 0 && life > 0 {
		lead = min(lead, life/10)
	}
	return max(h.ExpiresAt-lead, 1)
}
