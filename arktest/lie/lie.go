// Package lie names the lies that the test operator tells on request, and says
// of each what a participant must not do when told it. It must not know how
// they are told.
package lie

import "slices"

// Name is a lie's stable name.
type Name string

// Step is something that a participant sends in a batch, in its order.
type Step int

// The steps. A participant that must not send one must not send the later ones
// either.
const (
	Confirm Step = iota + 1
	Nonces
	Signatures
	Forfeits
	// Nothing forbids no message: the lie is survived, as Rule says.
	Nothing
)

// String names the step.
func (s Step) String() string {
	return [...]string{"", "confirmation", "nonces", "signatures", "forfeits", "nothing"}[s]
}

// Scope says when a lie is told.
type Scope int

const (
	// Batch lies are told in one batch, from its announcement to its end.
	Batch Scope = iota
	// Standing lies are told in every answer until the operator is honest again.
	Standing
)

// Spec documents one lie.
type Spec struct {
	Name  Name
	Scope Scope
	// Told is what the operator says or does.
	Told string
	// Forbids is the first message that a participant who is its target must not
	// send in that batch.
	Forbids Step
	// Rule is the reason, or what must hold afterwards.
	Rule string
	// Needs is what the target must look like for the lie to be one, "" if
	// anything does.
	Needs string
}

// All lists every lie, sorted by name.
func All() []Spec {
	all := slices.Concat(leafLies(), treeLies(), signingLies(), connectorLies(), endLies(), standingLies(), streamLies())
	slices.SortFunc(all, func(a, b Spec) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// Of returns a lie's documentation.
func Of(n Name) (Spec, bool) {
	all := All()
	i := slices.IndexFunc(all, func(s Spec) bool { return s.Name == n })
	if i < 0 {
		return Spec{}, false
	}
	return all[i], true
}
