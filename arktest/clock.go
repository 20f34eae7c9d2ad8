package arktest

import (
	"sync"
	"time"
)

// Clock tells the operator the time and wakes it. SystemClock and ManualClock
// implement it; inside testing/synctest SystemClock is the bubble's clock.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine once d has passed; stop cancels it.
	AfterFunc(d time.Duration, f func()) (stop func())
}

// SystemClock is the wall clock.
type SystemClock struct{}

// Now returns time.Now().
func (SystemClock) Now() time.Time { return time.Now() }

// AfterFunc is time.AfterFunc.
func (SystemClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// ManualClock stands still until Advance moves it. It is safe for concurrent
// use.
type ManualClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*manualTimer]struct{}
	armed  *sync.Cond // a timer was added
}

type manualTimer struct {
	at time.Time
	f  func()
}

// NewManualClock returns a clock that shows t.
func NewManualClock(t time.Time) *ManualClock {
	c := &ManualClock{now: t, timers: map[*manualTimer]struct{}{}}
	c.armed = sync.NewCond(&c.mu)
	return c
}

// Now returns the time shown.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc arms a timer that Advance fires.
func (c *ManualClock) AfterFunc(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &manualTimer{at: c.now.Add(d), f: f}
	if d <= 0 {
		go f()
		return func() {}
	}
	c.timers[t] = struct{}{}
	c.armed.Broadcast()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
	}
}

// Advance moves the clock forward and fires what is due, each timer with the
// clock standing at its own time. It does not wait for what the timers start:
// a test that needs a phase waits for it (Operator.AwaitPhase) before moving on.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.now.Add(d)
	for {
		var next *manualTimer
		for t := range c.timers {
			if !t.at.After(end) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		if next == nil {
			break
		}
		delete(c.timers, next)
		if next.at.After(c.now) {
			c.now = next.at
		}
		go next.f()
	}
	if end.After(c.now) {
		c.now = end
	}
}

// WaitTimers blocks until at least n timers are armed, so that an Advance
// cannot come before what it should fire.
func (c *ManualClock) WaitTimers(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.timers) < n {
		c.armed.Wait()
	}
}
