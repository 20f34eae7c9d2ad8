package operator

import "sync"

const (
	// maxQueued and maxQueuedBytes bound the events that wait for the consumer: a
	// batch of 128 participants has about a thousand, under 2 MiB together.
	maxQueued      = 8192
	maxQueuedBytes = 64 << 20
)

// queue is a bounded list of events between the stream, which must never wait
// (the operator cuts a listener that is 5 s behind), and the consumer, which may.
type queue struct {
	mu     sync.Mutex
	events []Event
	sizes  []int
	bytes  int
	ready  chan struct{} // holds a token while there may be events
	empty  chan struct{} // holds a token when the last one was taken
}

func newQueue() *queue {
	return &queue{ready: make(chan struct{}, 1), empty: make(chan struct{}, 1)}
}

// push appends ev and says whether there was room.
func (q *queue) push(ev Event, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) >= maxQueued || q.bytes+size > maxQueuedBytes {
		return false
	}
	q.append(ev, size)
	return true
}

// force appends an event of our own, of which there are two a stream, so that
// room or not, the consumer learns of a stream's end.
func (q *queue) force(ev Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(ev, 0)
}

func (q *queue) append(ev Event, size int) {
	q.events = append(q.events, ev)
	q.sizes = append(q.sizes, size)
	q.bytes += size
	signal(q.ready)
}

func (q *queue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return nil, false
	}
	ev := q.events[0]
	q.events[0] = nil
	q.bytes -= q.sizes[0]
	q.events, q.sizes = q.events[1:], q.sizes[1:]
	if len(q.events) == 0 {
		q.events, q.sizes = nil, nil
		signal(q.empty)
	}
	return ev, true
}

func (q *queue) isEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events) == 0
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
