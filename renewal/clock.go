package renewal

import (
	"sync/atomic"
	"time"

	"github.com/vigil-ark/vigil/delegate"
)

// wall is the engine's clock. It remembers the latest time that anybody in the
// engine was told, so that no moment at which it ran ahead goes unseen.
type wall struct {
	now    func() time.Time
	latest atomic.Int64 // unix seconds
}

func (w *wall) Now() time.Time {
	now := w.now()
	for unix := now.Unix(); ; {
		old := w.latest.Load()
		if old >= unix || w.latest.CompareAndSwap(old, unix) {
			return now
		}
	}
}

// setBack says whether the clock says a time that is over, by more than clocks
// differ, and forgets the one that it was set back from.
func (w *wall) setBack() bool {
	now := w.now().Unix()
	old := w.latest.Load()
	return old-now > int64(clockSkew.Seconds()) && w.latest.CompareAndSwap(old, now)
}

// farOff bounds every wait: a time further ahead was written by a clock that was
// wrong, and nobody would look at the delegate until then.
func (e *Engine) farOff() time.Duration {
	return max(delegate.LongestPause*time.Second, 2*e.cfg.Pace.Ban)
}

// near is at, unless that is further ahead than any wait.
func (e *Engine) near(at, now time.Time) time.Time {
	if at.Sub(now) > e.farOff() {
		return now
	}
	return at
}

// sessionEnd is when to take the session of a record's batch for over. One that
// ends further ahead than any does was joined by a clock that was wrong; it may
// have begun just now, and is over when a ban would be, which lasts longer.
func (e *Engine) sessionEnd(rec *delegate.Record, now time.Time) time.Time {
	end := time.Unix(rec.BatchEnd, 0).Add(e.cfg.Pace.Margin)
	if end.Sub(now) > e.farOff() {
		return now.Add(e.cfg.Pace.Ban)
	}
	return end
}

// sessionOver says whether it is over. Of one that ends too far ahead it is said
// at once: whoever asks has waited until sessionEnd.
func (e *Engine) sessionOver(rec *delegate.Record, now time.Time) bool {
	end := time.Unix(rec.BatchEnd, 0).Add(e.cfg.Pace.Margin)
	return !now.Before(end) || end.Sub(now) > e.farOff()
}

// rightClock takes up a clock that was set back: nothing waits for a time that the
// wrong one invented. What it wrote into records that wait in the due index is for
// somebody else to set right, who looks at all of them.
func (e *Engine) rightClock(now time.Time) {
	e.cfg.Log.Warn("the clock was set back; what was noted while it ran ahead is looked at again")
	e.nextDue, e.nextWatch = time.Time{}, time.Time{}
	if e.announced.After(now) {
		e.announced = now
	}
	for _, f := range e.flights.byID {
		if f.since.After(now) {
			f.since = now
		}
		switch {
		case f.busy() || f.next.Sub(now) <= e.farOff():
		case f.rec.State == delegate.Joining || f.rec.State == delegate.Submitted:
			e.flights.wait(f, e.sessionEnd(f.rec, now))
		default:
			e.flights.wait(f, now)
		}
	}
	e.cfg.SetBack()
}
