package arktest

import (
	"strings"
	"sync"
	"time"
)

// queueSize is how many events wait for one slow listener (protocol 1.1.1).
const queueSize = 100

// patience is how long a listener may block before it is cut.
const patience = 5 * time.Second

// listener is one open stream, or a subscription waiting for its stream.
type listener[T any] struct {
	id   string
	ch   chan T
	done chan struct{}
	once sync.Once

	mu     sync.Mutex
	topics map[string]struct{}
}

func newListener[T any](id string, topics []string) *listener[T] {
	l := &listener[T]{id: id, ch: make(chan T, queueSize), done: make(chan struct{}), topics: map[string]struct{}{}}
	l.add(topics)
	return l
}

func (l *listener[T]) close() { l.once.Do(func() { close(l.done) }) }

// topicForm is how arkd compares topics: trimmed and in lower case.
func topicForm(t string) string { return strings.Trim(strings.ToLower(t), " ") }

func (l *listener[T]) add(topics []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range topics {
		l.topics[topicForm(t)] = struct{}{}
	}
}

func (l *listener[T]) remove(topics []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range topics {
		delete(l.topics, topicForm(t))
	}
}

func (l *listener[T]) overwrite(topics []string) {
	l.mu.Lock()
	l.topics = map[string]struct{}{}
	l.mu.Unlock()
	l.add(topics)
}

func (l *listener[T]) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]string, 0, len(l.topics))
	for t := range l.topics {
		out = append(out, t)
	}
	return out
}

// wants says whether an event with these topics is for the listener; one
// without topics is for everybody.
func (l *listener[T]) wants(topics []string) bool {
	if len(topics) == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range topics {
		if _, ok := l.topics[topicForm(t)]; ok {
			return true
		}
	}
	return false
}

// message is one event with the topics it goes to.
type message[T any] struct {
	topics []string
	event  T
}

// broker hands events to listeners.
type broker[T any] struct {
	clock Clock
	mu    sync.Mutex
	open  map[string]*listener[T]
	wg    sync.WaitGroup
}

func newBroker[T any](clock Clock) *broker[T] {
	return &broker[T]{clock: clock, open: map[string]*listener[T]{}}
}

func (b *broker[T]) push(l *listener[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[l.id] = l
}

func (b *broker[T]) drop(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, ok := b.open[id]; ok {
		l.close()
		delete(b.open, id)
	}
}

func (b *broker[T]) get(id string) (*listener[T], bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.open[id]
	return l, ok
}

func (b *broker[T]) listeners() []*listener[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*listener[T], 0, len(b.open))
	for _, l := range b.open {
		out = append(out, l)
	}
	return out
}

// emit sends one group. Each listener gets the group in order from a goroutine
// of its own; between groups no order is kept, as in arkd.
func (b *broker[T]) emit(group []message[T]) {
	for _, l := range b.listeners() {
		var mine []T
		for _, m := range group {
			if l.wants(m.topics) {
				mine = append(mine, m.event)
			}
		}
		if len(mine) == 0 {
			continue
		}
		b.wg.Go(func() { b.deliver(l, mine) })
	}
}

func (b *broker[T]) deliver(l *listener[T], events []T) {
	for _, ev := range events {
		select {
		case l.ch <- ev: // room at once: no timer
			continue
		case <-l.done:
			return
		default:
		}
		late := make(chan struct{})
		stop := b.clock.AfterFunc(patience, func() { close(late) })
		select {
		case <-l.done:
			stop()
			return
		case l.ch <- ev:
			stop()
		case <-late:
			l.close()
			return
		}
	}
}

// closeAll cuts every listener and waits for deliveries to end.
func (b *broker[T]) closeAll() {
	for _, l := range b.listeners() {
		b.drop(l.id)
	}
	b.wg.Wait()
}
