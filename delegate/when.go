package delegate

import (
	"encoding/binary"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
)

// How the bounds of time were chosen. All are seconds.
const (
	// skew is added to valid_at: an operator whose clock lags refuses an intent
	// before its time. Machines that keep time at all are within it; one that is
	// further off costs a refused attempt and a retry.
	skew = 3
	// maxJitter spreads delegates that name one second, few enough that they still
	// meet in one batch.
	maxJitter = 2
	// soon is how far ahead a wallet may put valid_at when it is in a hurry: the
	// SDK says "in a minute" for coins that have expired.
	soon = 60
	// furthest bounds valid_at: no VTXO lives as long.
	furthest = 10 * 365 * 86_400

	// LongestPause bounds how far ahead the next attempt of a due delegate lies:
	// refusals and bans are waited out within hours. What is further was written by a
	// clock that ran ahead, and nobody would look at the delegate until then.
	LongestPause = 86_400

	// day is the least batch expiry outside regtest, as the SDKs have it.
	day = 86_400
)

// FirstAttempt is when a delegate is due: at valid_at plus the clock-skew
// allowance and a jitter by its id, but never so much later that a short-lived
// coin would expire over it. Times are unix seconds; expiry 0 is none.
func FirstAttempt(id vigil.DelegateID, validAt, expiry int64) int64 {
	jitter := int64(binary.BigEndian.Uint32(id[:4])) % (maxJitter + 1)
	wait := skew + jitter
	if left := expiry - validAt; expiry > 0 && left > 0 {
		wait = min(wait, max(left/4, 1))
	}
	return validAt + wait
}

// checkTimes: valid_at is there and leaves room before the first input that
// still needs a forfeit expires; expire_at leaves room for more than one try.
func (c *intake) checkTimes() error {
	validAt, expireAt := c.message.ValidAt, c.message.ExpireAt
	if validAt <= 0 || validAt > c.now+furthest {
		return vigil.Errorf(vigil.CodeValidAtInvalid, "valid_at is %d", validAt)
	}
	for _, v := range c.vtxos {
		if !v.NeedsForfeit(c.now) {
			continue
		}
		if latest := v.ExpiresAt - room(c.params); validAt > latest && validAt > c.now+soon {
			return vigil.Errorf(vigil.CodeValidAtInvalid, "valid_at is %d; %s expires at %d, so that %d is the latest", validAt, v.Outpoint, v.ExpiresAt, latest)
		}
	}
	if least := max(validAt, c.now) + 2*c.params.SessionSeconds; expireAt != 0 && expireAt < least {
		return vigil.Errorf(vigil.CodeExpireAtInvalid, "expire_at is %d; before %d a failed attempt could not be repeated", expireAt, least)
	}
	return nil
}

// room is what must be left between valid_at and expiry: two sessions. On
// regtest coins live for seconds, and only the order counts.
func room(p ark.Params) int64 {
	if p.Network == ark.Regtest {
		return 1
	}
	return 2 * p.SessionSeconds
}

// minBatchExpiry is the least batch expiry that renews these coins: nine tenths
// of the longest lifetime that one of them had, so that a batch cannot be much
// shorter than what the owner gives up, and a day outside regtest.
func (c *intake) minBatchExpiry() uint32 {
	var longest int64
	for _, v := range c.vtxos {
		longest = max(longest, v.ExpiresAt-v.CreatedAt)
	}
	least := longest / 10 * 9
	if c.params.Network != ark.Regtest {
		least = max(least, day)
	}
	return uint32(min(least, furthest))
}

// LeastExpiry is the least batch expiry that renews the record's coins at now, in
// the operator's encoding. While one of them is live it is the record's own, but
// never more than nine times what is left of the first one's life: a batch that
// makes that of it takes nothing away, and to wait for a longer one would cost the
// coin. The record's own may be more than any batch has, as a coin's measured life
// is too long by what its commitment waited for a block. Once all have expired they
// are at the operator's mercy, and no batch is too short that the network allows:
// an operator that shortened its batches for good must not keep them there.
func (r *Record) LeastExpiry(now int64) uint32 {
	left := int64(0)
	for _, in := range r.Inputs {
		if more := in.ExpiresAt - now; !in.Recoverable && more >= 0 && (left == 0 || more < left) {
			left = more
		}
	}
	least := min(int64(r.MinBatchExpiry), 9*left)
	if r.Network != ark.Regtest {
		least = min(max(least, day), int64(r.MinBatchExpiry))
	}
	return uint32(least)
}
