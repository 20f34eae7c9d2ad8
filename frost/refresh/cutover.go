package refresh

import (
	"errors"
	"fmt"
)

// ErrCutover says that a step of a cut-over comes at the wrong time.
var ErrCutover = errors.New("refresh: not at this point of the cut-over")

// Cutover says which epochs of a key one party has and may sign with. At every
// instant both sides of a key share at least one epoch that both may sign with,
// whoever is a step ahead. It is a value; each step returns the next one, to be
// stored together with the shares before the step's effect leaves.
//
//	active e --Prepare--> + e+1 pending --Certified--> e+1 active, e retiring --Acknowledged (all)--> e+1
//
// There are never three: no refresh begins while one is pending or retiring.
type Cutover struct {
	Active   uint32
	Pending  bool   // epoch Active+1 is stored and waits for its certificate
	Retiring bool   // epoch Active-1 is kept until all have acknowledged Active
	Acked    []bool // by participant, while Retiring
}

// Prepare records that epoch Active+1 is durable, before the second message
// leaves.
func (c Cutover) Prepare() (Cutover, error) {
	if c.Pending || c.Retiring {
		return c, fmt.Errorf("%w: a refresh is under way", ErrCutover)
	}
	c.Pending = true
	return c, nil
}

// Abandon forgets a pending epoch. It is right only while this party's second
// message has not left, or with another participant's Void, verified: otherwise
// the others may have a certificate.
func (c Cutover) Abandon() (Cutover, error) {
	if !c.Pending {
		return c, fmt.Errorf("%w: nothing is pending", ErrCutover)
	}
	c.Pending = false
	return c, nil
}

// Certified makes the pending epoch the active one, of n participants, and the
// active one retiring.
func (c Cutover) Certified(n int) (Cutover, error) {
	if !c.Pending {
		return c, fmt.Errorf("%w: nothing is pending", ErrCutover)
	}
	return Cutover{Active: c.Active + 1, Retiring: true, Acked: make([]bool, n)}, nil
}

// Acknowledged records that participant id has the active epoch. When all have,
// the retiring epoch is gone from the result: erase its share.
func (c Cutover) Acknowledged(id int) (Cutover, error) {
	if !c.Retiring || id < 0 || id >= len(c.Acked) {
		return c, fmt.Errorf("%w: nothing is retiring, or no participant %d", ErrCutover, id)
	}
	acked := append([]bool(nil), c.Acked...)
	acked[id] = true
	c.Acked = acked
	for _, ok := range acked {
		if !ok {
			return c, nil
		}
	}
	return Cutover{Active: c.Active}, nil
}

// MaySign says whether a request that names this epoch can be signed.
func (c Cutover) MaySign(epoch uint32) bool {
	return epoch == c.Active || c.Retiring && epoch+1 == c.Active
}
