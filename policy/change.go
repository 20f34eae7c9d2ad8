package policy

import (
	"bytes"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/internal/canon"
)

// Looser says whether a change from one policy to another would let anything
// pass that did not before. A change that loosens one thing and tightens another
// is looser.
func Looser(from, to Policy) bool {
	return raised(from.PerTx, to.PerTx) || looserWindow(from, to) || looserAllow(from.Allow, to.Allow) ||
		to.FeeMargin > from.FeeMargin || to.TwoLeaf && !from.TwoLeaf || to.Assets && !from.Assets ||
		to.CoolDown < from.CoolDown
}

// raised compares two bounds, of which 0 is none.
func raised(from, to int64) bool { return from > 0 && (to == 0 || to > from) }

// looserWindow: the same amount in a shorter time is more.
func looserWindow(from, to Policy) bool {
	return raised(from.Window, to.Window) || from.Window > 0 && to.WindowSeconds < from.WindowSeconds
}

func looserAllow(from, to [][]byte) bool {
	if len(from) == 0 {
		return false
	}
	return len(to) == 0 || slices.ContainsFunc(to, func(s []byte) bool { return len(s) > 0 && !contains(from, s) })
}

// nobody is the allow-list that lets none be paid.
func nobody() [][]byte { return [][]byte{{}} }

// tightened is the policy from with all that to tightens of it, and nothing that to
// loosens: it lets pass what both do.
func tightened(from, to Policy) Policy {
	out := from
	out.PerTx = lower(from.PerTx, to.PerTx)
	out.Window, out.WindowSeconds = lower(from.Window, to.Window), max(from.WindowSeconds, to.WindowSeconds)
	out.FeeMargin, out.CoolDown = min(from.FeeMargin, to.FeeMargin), max(from.CoolDown, to.CoolDown)
	out.TwoLeaf, out.Assets = from.TwoLeaf && to.TwoLeaf, from.Assets && to.Assets
	switch {
	case len(from.Allow) == 0:
		out.Allow = slices.Clone(to.Allow)
	case len(to.Allow) > 0:
		out.Allow = slices.DeleteFunc(slices.Clone(from.Allow), func(s []byte) bool { return !contains(to.Allow, s) })
		if len(out.Allow) == 0 { // which would be anybody
			out.Allow = nobody()
		}
	}
	return out
}

// lower is the lower of two bounds, of which 0 is none.
func lower(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func contains(list [][]byte, s []byte) bool {
	return slices.ContainsFunc(list, func(o []byte) bool { return bytes.Equal(o, s) })
}

// State is a wallet's policy with a loosening that may be under way.
type State struct {
	Current Policy
	Pending *Policy // nil: none
	At      int64   // unix seconds, when Pending takes hold
}

// Effective is the policy that holds at now, unix seconds.
func (s State) Effective(now int64) Policy {
	if s.Pending != nil && now >= s.At {
		return *s.Pending
	}
	return s.Current
}

// Propose changes the policy at now. What is not looser holds at once, whoever
// asks, but for a longer cool-down, which needs the host key: whoever has but the
// device must not keep its owner from loosening what he tightened. A looser policy
// needs the host key too, and holds after the cool-down of the policy that it
// loosens; what it tightens beside that holds at once. Either takes the place of a
// loosening that waits, so that setting the policy in force again takes one back.
// The new policy's Version must be that of the policy in force plus one, or 0 for
// whatever it is. The error is a *vigil.Error.
func (s State) Propose(p Policy, host bool, now int64) (State, error) {
	current := s.Effective(now)
	if p.Version == 0 {
		p.Version = current.Version + 1
	}
	if err := p.Check(); err != nil {
		return s, &vigil.Error{Code: vigil.CodePolicyInvalid, Message: "the policy cannot be kept: " + err.Error(), Err: err}
	}
	if p.Version != current.Version+1 {
		return s, vigil.Errorf(vigil.CodePolicyInvalid, "the policy in force has version %d; it was changed meanwhile", current.Version)
	}
	if p.CoolDown > current.CoolDown && !host {
		return s, vigil.Errorf(vigil.CodeHostKeyNeeded, "the cool-down would be %d s and is %d s; lengthening it is for the host key", p.CoolDown, current.CoolDown)
	}
	if !Looser(current, p) {
		return State{Current: p}, nil
	}
	if !host {
		return s, vigil.Errorf(vigil.CodeHostKeyNeeded, "the policy would allow more than the one in force")
	}
	next := State{Current: tightened(current, p), Pending: &p, At: now + current.CoolDown}
	if Looser(next.Current, current) { // something is tighter: a change of its own
		next.Current.Version, p.Version = current.Version+1, current.Version+2
	}
	return next, nil
}

func (s *State) fields(c *canon.Coder) {
	s.Current.fields(c)
	waits := s.Pending != nil
	c.Bool(&waits, "pending")
	if !waits || !c.OK() {
		return
	}
	if s.Pending == nil {
		s.Pending = &Policy{}
	}
	s.Pending.fields(c)
	c.Time(&s.At, "effective at")
}

// Encode writes the state; the error is canon.ErrBounds.
func (s State) Encode() ([]byte, error) { return canon.Encode(format, 2*maxSize, s.fields) }

// DecodeState reads what State.Encode wrote. Errors are canon.ErrMalformed and
// canon.ErrNewer.
func DecodeState(b []byte) (State, error) {
	var s State
	return s, canon.Decode(b, format, 2*maxSize, s.fields)
}
