package arktest

import (
	"testing"
	"time"
)

// TestLateListener: a listener that does not read is cut once its queue is
// full and patience is over; one that reads gets everything in order.
func TestLateListener(t *testing.T) {
	clock := NewManualClock(time.Unix(1_800_000_000, 0))
	b := newBroker[int](clock)
	lazy, good := newListener[int]("lazy", nil), newListener[int]("good", nil)
	b.push(lazy)
	b.push(good)
	var group []message[int]
	for i := range queueSize + 1 {
		group = append(group, message[int]{event: i})
	}
	b.emit(group)
	for i := range queueSize + 1 {
		if got := <-good.ch; got != i {
			t.Fatalf("event %d is %d", i, got)
		}
	}
	clock.WaitTimers(1)
	select {
	case <-lazy.done:
		t.Error("cut at once")
	default:
	}
	clock.Advance(patience)
	<-lazy.done
	b.closeAll()
}

func TestTopicsMatchInAnyCase(t *testing.T) {
	l := newListener[int]("l", []string{" AbC "})
	for topic, want := range map[string]bool{"abc": true, "ABC ": true, "ab": false} {
		if got := l.wants([]string{"other", topic}); got != want {
			t.Errorf("%q: %v", topic, got)
		}
	}
	if !l.wants(nil) {
		t.Error("a broadcast is not wanted")
	}
	l.remove([]string{"ABC"})
	if l.wants([]string{"abc"}) {
		t.Error("a removed topic is wanted")
	}
	l.overwrite([]string{"x"})
	if got := l.all(); len(got) != 1 || got[0] != "x" {
		t.Errorf("topics %v", got)
	}
}

// TestManualClockFiresInOrder: timers fire by their time, stopped ones never.
func TestManualClockFiresInOrder(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	c := NewManualClock(start)
	type fired struct {
		name string
		at   time.Time
	}
	out := make(chan fired, 3)
	c.AfterFunc(2*time.Second, func() { out <- fired{"late", c.Now()} })
	stop := c.AfterFunc(time.Second, func() { out <- fired{"stopped", c.Now()} })
	c.AfterFunc(time.Second, func() { out <- fired{"early", c.Now()} })
	stop()
	c.Advance(time.Second)
	if f := <-out; f.name != "early" {
		t.Errorf("%s fired first", f.name)
	}
	c.Advance(5 * time.Second)
	if f := <-out; f.name != "late" {
		t.Errorf("%s fired second", f.name)
	}
	if !c.Now().Equal(start.Add(6 * time.Second)) {
		t.Errorf("the clock shows %v", c.Now())
	}
	ran := make(chan struct{})
	c.AfterFunc(0, func() { close(ran) })
	<-ran
}
