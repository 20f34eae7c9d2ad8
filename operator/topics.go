package operator

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/bip340"
)

const (
	// maxTopics bounds what one stream listens to: ten thousand delegates at once
	// with a dozen inputs each.
	maxTopics = 1 << 17
	// openTopics is how many go into the request that opens a stream, and
	// modifyTopics how many into one that changes it. The operator accepts requests
	// of 4 MiB; a topic has at most 75 characters in practice.
	openTopics   = 16384
	modifyTopics = 1024
)

// ErrTopics is returned for a topic that cannot be one, or for too many of them.
var ErrTopics = errors.New("operator: topics")

// KeyTopic is the topic of a cosigner key's tree events (section 5.2).
func KeyTopic(k bip340.PubKey) string { return k.String() }

// OutpointTopic is the topic of an input's connectors and of the failure of its
// batch.
func OutpointTopic(op wire.OutPoint) string { return op.String() }

// topics holds what a stream should listen to, what the operator was told, and
// which topics may differ between the two.
type topics struct {
	mu      sync.Mutex
	want    map[string]int // how often it was added
	have    map[string]bool
	dirty   map[string]bool
	changed chan struct{} // closed and replaced when have grew
	wake    chan struct{} // holds one token while dirty may not be empty
}

func newTopics() *topics {
	return &topics{
		want: make(map[string]int), have: make(map[string]bool), dirty: make(map[string]bool),
		changed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// normal is the operator's own normal form of a topic.
func normal(list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, t := range list {
		t = strings.ToLower(strings.TrimSpace(t))
		if t == "" || len(t) > maxTopicLen {
			return nil, fmt.Errorf("%w: one of %d characters", ErrTopics, len(t))
		}
		out[i] = t
	}
	return out, nil
}

func (t *topics) add(list []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.want)+len(list) > maxTopics {
		return fmt.Errorf("%w: more than %d", ErrTopics, maxTopics)
	}
	for _, s := range list {
		t.want[s]++
		t.mark(s)
	}
	return nil
}

func (t *topics) remove(list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range list {
		switch n := t.want[s]; {
		case n > 1:
			t.want[s] = n - 1
		case n == 1:
			delete(t.want, s)
			t.mark(s)
		}
	}
}

// mark is called with mu held.
func (t *topics) mark(s string) {
	if (t.want[s] > 0) == t.have[s] {
		return
	}
	t.dirty[s] = true
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// begin forgets what an earlier stream was told and returns what the request
// that opens the next one should name; the rest stays dirty.
func (t *topics) begin() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.have)
	clear(t.dirty)
	opening := make([]string, 0, min(len(t.want), openTopics))
	for s := range t.want {
		if len(opening) < openTopics {
			opening = append(opening, s)
		} else {
			t.dirty[s] = true
		}
	}
	return opening
}

// diff takes one request's worth of differences.
func (t *topics) diff() (add, remove []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.dirty {
		if len(add)+len(remove) == modifyTopics {
			break
		}
		delete(t.dirty, s)
		switch want := t.want[s] > 0; {
		case want && !t.have[s]:
			add = append(add, s)
		case !want && t.have[s]:
			remove = append(remove, s)
		}
	}
	return add, remove
}

// told records what the operator acknowledged. What changed meanwhile is dirty
// again.
func (t *topics) told(add, remove []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range add {
		t.have[s] = true
		t.mark(s)
	}
	for _, s := range remove {
		delete(t.have, s)
		t.mark(s)
	}
	if len(add) > 0 {
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// failed puts back what diff took.
func (t *topics) failed(lists ...[]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range lists {
		for _, s := range list {
			t.mark(s)
		}
	}
}

// down says that no stream is open.
func (t *topics) down() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.have)
}

// heard says whether the operator knows all of list, and gives a channel that is
// closed at the next change when not.
func (t *topics) heard(list []string) (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range list {
		if !t.have[s] {
			return false, t.changed
		}
	}
	return true, nil
}
