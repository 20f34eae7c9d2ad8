package notify

import (
	"context"
	"errors"
	"sync"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
)

// Why a watch ended, or did not begin.
var (
	ErrSlow    = errors.New("notify: the watcher reads too slowly")
	ErrRevoked = errors.New("notify: the key may not watch any more")
	ErrStopped = errors.New("notify: stopping")
	ErrTooMany = errors.New("notify: too many watchers")
)

// Limits bound a hub.
type Limits struct {
	Queue     int // events that wait for one watcher; default 64
	PerWallet int // watchers of one wallet; default 8
	Watchers  int // in all; default 10,000
}

func (l Limits) orDefault() Limits {
	pick := func(v, otherwise int) int {
		if v > 0 {
			return v
		}
		return otherwise
	}
	return Limits{pick(l.Queue, 64), pick(l.PerWallet, 8), pick(l.Watchers, 10_000)}
}

// Hub hands events to whoever watches. It starts no goroutine of its own but one
// for every watch, which ends with it. It is safe for concurrent use.
type Hub struct {
	limits Limits
	sink   func(vigil.WalletID, Event)

	mu      sync.Mutex
	wallets map[vigil.WalletID]map[*Watch]bool
	total   int
	stopped bool
}

// NewHub returns a hub. A sink, if not nil, gets every event too, in the
// publisher's goroutine: it must not block. A webhook's Offer is one.
func NewHub(l Limits, sink func(vigil.WalletID, Event)) *Hub {
	return &Hub{limits: l.orDefault(), sink: sink, wallets: map[vigil.WalletID]map[*Watch]bool{}}
}

// Publish hands an event to all who watch the wallet. It never blocks: a watcher
// whose queue is full is cut off with ErrSlow.
func (h *Hub) Publish(wallet vigil.WalletID, e Event) {
	h.mu.Lock()
	for w := range h.wallets[wallet] {
		select {
		case w.events <- e:
		default:
			h.end(w, ErrSlow)
		}
	}
	stopped := h.stopped
	h.mu.Unlock()
	if h.sink != nil && !stopped {
		h.sink(wallet, e)
	}
}

// Watch is one watcher's view of a wallet's events.
type Watch struct {
	hub    *Hub
	wallet vigil.WalletID
	key    bip340.PubKey
	events chan Event
	done   chan struct{} // closed with events
	err    error         // set before done is closed
}

// Watch begins to watch a wallet in the name of a key, until ctx ends, Close or
// a cut. Errors are ErrTooMany and ErrStopped.
func (h *Hub) Watch(ctx context.Context, wallet vigil.WalletID, key bip340.PubKey) (*Watch, error) {
	w := &Watch{hub: h, wallet: wallet, key: key, events: make(chan Event, h.limits.Queue), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.stopped:
		return nil, ErrStopped
	case h.total >= h.limits.Watchers, len(h.wallets[wallet]) >= h.limits.PerWallet:
		return nil, ErrTooMany
	}
	if h.wallets[wallet] == nil {
		h.wallets[wallet] = map[*Watch]bool{}
	}
	h.wallets[wallet][w] = true
	h.total++
	go func() {
		select {
		case <-ctx.Done():
			h.cut(w, context.Cause(ctx))
		case <-w.done:
		}
	}()
	return w, nil
}

// C gives the events. It is closed when the watch ends, after what was queued.
func (w *Watch) C() <-chan Event { return w.events }

// Err says why the watch ended: ErrSlow, ErrRevoked, ErrStopped or the cause of
// its context; nil while it goes on, and after Close.
func (w *Watch) Err() error {
	select {
	case <-w.done:
		return w.err
	default:
		return nil
	}
}

// Close ends the watch.
func (w *Watch) Close() { w.hub.cut(w, nil) }

func (h *Hub) cut(w *Watch, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end(w, why)
}

// end closes a watch once; the hub is locked.
func (h *Hub) end(w *Watch, why error) {
	if !h.wallets[w.wallet][w] {
		return
	}
	delete(h.wallets[w.wallet], w)
	if len(h.wallets[w.wallet]) == 0 {
		delete(h.wallets, w.wallet)
	}
	h.total--
	w.err = why
	close(w.done) // first: whoever finds that no more events come asks why
	close(w.events)
}

// Revoke cuts off every watch of the wallet by a key.
func (h *Hub) Revoke(wallet vigil.WalletID, key bip340.PubKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.wallets[wallet] {
		if w.key == key {
			h.end(w, ErrRevoked)
		}
	}
}

// Forget cuts off everybody who watches the wallet: it is gone.
func (h *Hub) Forget(wallet vigil.WalletID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.wallets[wallet] {
		h.end(w, ErrRevoked)
	}
}

// Watchers is how many watch now.
func (h *Hub) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// Close cuts everybody off with ErrStopped; nothing is published any more.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for _, ws := range h.wallets {
		for w := range ws {
			h.end(w, ErrStopped)
		}
	}
}
