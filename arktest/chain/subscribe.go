package chain

import (
	"context"
	"fmt"
	"time"
)

// EventKind says what happened.
type EventKind uint8

// Kinds of events.
const (
	// Seen: a transaction entered the mempool.
	Seen EventKind = iota + 1
	// Confirmed: a block holds the transaction; Block is that block.
	Confirmed
	// Evicted: a transaction left chain and mempool for good (conflict, reorganisation).
	Evicted
	// Connected: Block is the new tip; its Confirmed events came before.
	Connected
	// Disconnected: Block left the chain. Its transactions are in the mempool again
	// unless an Evicted event follows.
	Disconnected
)

// Event is a change of the chain or the mempool.
type Event struct {
	Kind  EventKind
	Tx    Tx
	Block Block
}

// Subscription receives events in order.
type Subscription struct {
	c   *Chain
	ch  chan Event
	err error
}

// Subscribe returns a subscription whose buffer holds n events (at least 1).
// A consumer that falls behind it is cut off with ErrLagged: nothing is ever
// left out silently.
func (c *Chain) Subscribe(n int) *Subscription {
	s := &Subscription{c: c, ch: make(chan Event, max(n, 1))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[s] = struct{}{}
	return s
}

// C is closed by Close, or when the consumer fell behind.
func (s *Subscription) C() <-chan Event { return s.ch }

// Err says why C was closed: nil after Close, else ErrLagged.
func (s *Subscription) Err() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err
}

// Close ends the subscription; it may be called more than once.
func (s *Subscription) Close() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.drop(s, nil)
}

func (c *Chain) drop(s *Subscription, err error) {
	if _, live := c.subs[s]; !live {
		return
	}
	delete(c.subs, s)
	s.err = err
	close(s.ch)
}

func (c *Chain) publish(ev Event) {
	for s := range c.subs {
		select {
		case s.ch <- ev:
		default:
			c.drop(s, ErrLagged)
		}
	}
}

// Run mines on its own until ctx ends, as a development chain does: a block
// when the oldest mempool transaction is older than soon, and one every so often
// so that the median time moves on. Zero switches either off.
func (c *Chain) Run(ctx context.Context, soon, every time.Duration) error {
	step := min(time.Second, max(soon, time.Millisecond)/2)
	if soon <= 0 {
		step = time.Second
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := c.clock.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := c.clock.Now()
		pool := c.Mempool()
		due := soon > 0 && len(pool) > 0 && now.Sub(pool[0].Seen) >= soon
		if !due && (every <= 0 || now.Sub(last) < every) {
			continue
		}
		if err := c.Mine(1); err != nil {
			return fmt.Errorf("chain: mining: %w", err)
		}
		last = now
	}
}
