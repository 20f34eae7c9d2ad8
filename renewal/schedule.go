package renewal

import (
	"math/rand/v2"
	"time"

	"github.com/vigil-ark/vigil/delegate"
)

// Pace holds the engine's waits. The zero value is not usable; DefaultPace
// says how each was chosen.
type Pace struct {
	// Duplicate is the wait after "duplicated input": the operator's queue lacks
	// our intent only between a pop and the re-push, so the window is short.
	Duplicate time.Duration
	// First and Longest bound the doubling wait after any other refusal.
	First, Longest time.Duration
	// Recoverable is the wait once every input has expired: nothing is lost by
	// waiting any more.
	Recoverable time.Duration
	// Ban is the operator's ban, which it does not announce.
	Ban time.Duration
	// Bans is the number of convictions that the operator bans at.
	Bans uint32
	// Margin is added to the end of a session before it is taken for over.
	Margin time.Duration
	// Confirm is the wait between two looks at an unconfirmed commitment.
	Confirm time.Duration
	// Watch is the wait between two looks at commitments of failed attempts, of
	// which each is at some of them only: they may confirm after days.
	Watch time.Duration
}

// DefaultPace suits an operator with arkd's defaults: sessions of 30 s, three
// convictions, a ban of 5 minutes.
func DefaultPace() Pace {
	return Pace{
		Duplicate:   500 * time.Millisecond,
		First:       2 * time.Second,
		Longest:     10 * time.Minute,
		Recoverable: 30 * time.Minute,
		Ban:         5 * time.Minute,
		Bans:        3,
		Margin:      5 * time.Second,
		Confirm:     15 * time.Second,
		Watch:       5 * time.Minute,
	}
}

// retry is the wait before the next attempt of a delegate that failed in a way
// that may pass: doubling with the attempts, never more than a twentieth of
// what is left until the first input expires, so that attempts come faster as
// expiry nears, and slow once it has passed. random is in [0,1).
func (p Pace) retry(rec *delegate.Record, now time.Time, random float64) time.Duration {
	wait := p.First << min(rec.Attempts, 16)
	wait = min(wait, p.Longest)
	if expiry := rec.Expiry(); expiry > 0 {
		left := time.Unix(expiry, 0).Sub(now)
		if left <= 0 {
			// The doubling still counts: the first attempts after expiry come soon,
			// since the coin is at the operator's mercy until one succeeds.
			wait = min(p.First<<min(rec.Attempts, 24), p.Recoverable)
		} else {
			wait = min(wait, max(left/20, p.First))
		}
	}
	return wait + time.Duration(random*float64(wait)/4)
}

// banned is the wait after the operator refused a script for its convictions.
func (p Pace) banned(random float64) time.Duration {
	return p.Ban + time.Duration(random*float64(p.Ban)/10)
}

// mayConfirm says whether rec may join a batch whose failure would convict its
// scripts stake times: after a conviction, only if that would leave them
// unbanned, or the earlier ones have lapsed.
func (p Pace) mayConfirm(rec *delegate.Record, now time.Time, stake uint32) bool {
	if p.Bans == 0 || rec.Convictions == 0 {
		return true
	}
	if now.Sub(time.Unix(rec.LastConviction, 0)) >= p.Ban {
		return true
	}
	return rec.Convictions+stake < p.Bans
}

// after is the unix second at which d has passed since now: rounded up, so that
// a wait of less than a second is still a wait.
func after(now time.Time, d time.Duration) int64 {
	return now.Add(d + time.Second - 1).Unix()
}

// random is the jitter's source: it only spreads load and guards nothing.
func random() float64 { return rand.Float64() }
