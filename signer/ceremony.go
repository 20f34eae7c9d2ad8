package signer

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
)

// Errors of ceremonies. What a device's messages did wrong is a
// *chilldkg.FaultError or another error of the two ceremonies' packages.
var (
	// ErrCeremony says that there is no such ceremony of this owner, that its time
	// is over, or that the step is not its next: the device begins anew.
	ErrCeremony = errors.New("signer: no such ceremony, or not at this step")
	// ErrCeremonies says that as many ceremonies are open as are allowed.
	ErrCeremonies = errors.New("signer: too many open ceremonies")
)

// CeremonyLimits bound what abandoned ceremonies hold. Zero fields take their
// defaults.
type CeremonyLimits struct {
	PerOwner     int   // a further one takes the place of its owner's oldest; default 2
	Total        int   // default 1024
	Participants int   // of one ceremony; default 16
	Seconds      int64 // that one may last; default 600
}

func (l CeremonyLimits) withDefaults() CeremonyLimits {
	if l.PerOwner <= 0 {
		l.PerOwner = 2
	}
	if l.Total <= 0 {
		l.Total = 1024
	}
	if l.Participants <= 0 {
		l.Participants = 16
	}
	if l.Seconds <= 0 {
		l.Seconds = 600
	}
	return l
}

// Ceremonies are the key ceremonies and refreshes under way. They live in memory
// alone: forgetting one before its certificate leaves costs nothing. It is safe
// for concurrent use.
type Ceremonies struct {
	signer *Signer
	limits CeremonyLimits
	now    func() int64 // unix seconds

	mu   sync.Mutex
	open map[frost.SessionID]*ceremony
	next uint64
}

// ceremony is one of them: the steps of its owner's.
type ceremony struct {
	owner bip340.PubKey
	ends  int64
	order uint64

	over atomic.Bool
	mu   sync.Mutex // one step at a time
	act  actor
}

// actor is Vigil's part in one kind of ceremony.
type actor interface{ burn() }

// Ceremonies makes an empty set. now tells unix seconds.
func (s *Signer) Ceremonies(limits CeremonyLimits, now func() int64) *Ceremonies {
	return &Ceremonies{signer: s, limits: limits.withDefaults(), now: now, open: map[frost.SessionID]*ceremony{}}
}

// end wipes a ceremony that has been taken out of the set. One whose step is
// running, and may wait for a store, is wiped when that is over.
func (c *ceremony) end() {
	c.over.Store(true)
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		c.act.burn()
	}
}

// step runs f, alone, unless the ceremony is over.
func (c *ceremony) step(f func(actor) error) error {
	err := ErrCeremony
	c.mu.Lock()
	if !c.over.Load() {
		err = f(c.act)
	}
	c.mu.Unlock()
	if c.over.Load() {
		c.end() // it ended meanwhile, and found the step running
	}
	return err
}

// begin adds a ceremony. The actor is burned when it cannot be added.
func (cs *Ceremonies) begin(owner bip340.PubKey, act actor) (frost.SessionID, error) {
	cs.Sweep()
	var id frost.SessionID
	if _, err := rand.Read(id[:]); err != nil {
		act.burn()
		return id, fmt.Errorf("draw a session id: %w", err)
	}
	out, err := cs.add(id, &ceremony{owner: owner, ends: cs.now() + cs.limits.Seconds, act: act})
	if err != nil {
		act.burn()
	}
	if out != nil {
		out.end()
	}
	return id, err
}

// add returns the ceremony that had to make room.
func (cs *Ceremonies) add(id frost.SessionID, c *ceremony) (out *ceremony, _ error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	count := 0
	var oldest frost.SessionID
	for id, other := range cs.open {
		if other.owner != c.owner {
			continue
		}
		if count++; out == nil || other.order < out.order {
			oldest, out = id, other
		}
	}
	switch {
	case count >= cs.limits.PerOwner:
		delete(cs.open, oldest)
	case len(cs.open) >= cs.limits.Total:
		return nil, fmt.Errorf("%w: %d", ErrCeremonies, len(cs.open))
	default:
		out = nil
	}
	cs.next++
	c.order = cs.next
	cs.open[id] = c
	return out, nil
}

// Sweep wipes the ceremonies whose time is over. Begin does it too; somebody calls
// it now and then, so that the secrets of the last ones do not stay.
func (cs *Ceremonies) Sweep() {
	now := cs.now()
	cs.take(func(c *ceremony) bool { return c.ends < now })
}

// Close wipes all.
func (cs *Ceremonies) Close() { cs.take(func(*ceremony) bool { return true }) }

// Forget wipes one, once its outcome is durable or nobody wants it. An unknown one
// is no error.
func (cs *Ceremonies) Forget(session frost.SessionID) {
	cs.mu.Lock()
	c := cs.open[session]
	delete(cs.open, session)
	cs.mu.Unlock()
	if c != nil {
		c.end()
	}
}

// Len tells how many are open.
func (cs *Ceremonies) Len() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.open)
}

// take ends those that which picks.
func (cs *Ceremonies) take(which func(*ceremony) bool) {
	var gone []*ceremony
	cs.mu.Lock()
	for id, c := range cs.open {
		if which(c) {
			delete(cs.open, id)
			gone = append(gone, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range gone {
		c.end()
	}
}

// step runs one step of an owner's ceremony of kind A. What fails by its message
// ends it: the device begins anew. Only a store that is down does not: the step
// may be repeated.
func step[A actor](cs *Ceremonies, session frost.SessionID, owner bip340.PubKey, f func(A) error) error {
	cs.mu.Lock()
	c := cs.open[session]
	cs.mu.Unlock()
	if c == nil || c.owner != owner {
		return ErrCeremony
	}
	err := c.step(func(act actor) error {
		mine, ok := act.(A)
		if !ok || c.ends < cs.now() {
			return ErrCeremony
		}
		return f(mine)
	})
	var kept *storeError
	if err != nil && !errors.As(err, &kept) {
		cs.Forget(session)
	}
	return err
}

// storeError is a store's failure in a step: it says nothing about the ceremony.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }
