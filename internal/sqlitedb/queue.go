package sqlitedb

import (
	"context"
	"slices"
	"sync"
)

// request is one Update on its way.
type request struct {
	ctx      context.Context
	f        func(*Tx) error
	err      error
	erased   bool
	panicked any // what f panicked with
	done     chan struct{}
}

// call runs the function, keeping a panic for the caller's own goroutine.
func (r *request) call(tx *Tx) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked, r.err = p, errPanicked
		}
	}()
	r.err = r.f(tx)
}

func (r *request) answer(err error) {
	r.err = err
	close(r.done)
}

func (r *request) answered() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// outcome is what Update returns; the request is answered.
func (r *request) outcome() error {
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.err
}

// queue holds the updates that wait for a leader, first come first served.
type queue struct {
	mu     sync.Mutex
	list   []*request
	closed bool
}

func (q *queue) add(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.list = append(q.list, r)
	return true
}

// take removes and returns the first n or fewer.
func (q *queue) take(n int) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.list))
	first := slices.Clone(q.list[:n])
	q.list = slices.Delete(q.list, 0, n)
	return first
}

func (q *queue) putBack(rs []*request) {
	if len(rs) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = slices.Insert(q.list, 0, rs...)
}

// withdraw removes r unless a leader has taken it.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.list, r)
	if i < 0 {
		return false
	}
	q.list = slices.Delete(q.list, i, i+1)
	return true
}

// shut refuses new requests and returns those that wait.
func (q *queue) shut() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	rest := q.list
	q.list = nil
	return rest
}
