package delegate

import (
	"errors"
	"fmt"
)

// State is where a delegate stands (spec section 6). The numbers are stored.
type State uint8

// The states. Armed to Unconfirmed and Pending are live, Quarantined is kept
// for its operator to look at, the others are ends.
const (
	// Pending waits beside an older delegate over the same VTXOs that is being
	// renewed, and takes its place when that attempt fails.
	Pending State = 1 + iota
	// Armed waits for its time.
	Armed
	// Due is to be registered at its next attempt.
	Due
	// Registering was written before RegisterIntent: whether the intent is queued
	// at the operator is not known until the answer is written too.
	Registering
	// Registered has an intent id and waits for a batch that lists it.
	Registered
	// Joining was written before ConfirmRegistration: from here a stall costs the
	// inputs' scripts a conviction.
	Joining
	// Submitted was written, together with the branch, before the forfeits leave.
	Submitted
	// Unconfirmed belongs to a commitment that was broadcast and lacks
	// confirmations.
	Unconfirmed
	// Settled ends a delegate whose commitment is confirmed.
	Settled
	// Spent ends a delegate of which an input was spent by something else.
	Spent
	// Broken ends a delegate of which an input was unrolled.
	Broken
	// Replaced ends a delegate whose owner signed a newer one.
	Replaced
	// Cancelled ends a delegate whose owner took it back.
	Cancelled
	// Expired ends a delegate whose intent's own expire_at has passed.
	Expired
	// Quarantined keeps a delegate that cannot be carried out because its secret
	// is missing or wrong. Nothing deletes it.
	Quarantined
)

// States lists every state in the order of a delegate's life.
func States() []State {
	all := make([]State, 0, Quarantined)
	for s := Pending; s <= Quarantined; s++ {
		all = append(all, s)
	}
	return all
}

// String returns the state's name as the API and the metrics write it.
func (s State) String() string {
	names := [...]string{
		Pending: "pending", Armed: "armed", Due: "due", Registering: "registering", Registered: "registered",
		Joining: "joining", Submitted: "submitted", Unconfirmed: "unconfirmed", Settled: "settled", Spent: "spent",
		Broken: "broken", Replaced: "replaced", Cancelled: "cancelled", Expired: "expired", Quarantined: "quarantined",
	}
	if !s.Known() {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return names[s]
}

// ParseState returns the state of that name.
func ParseState(name string) (State, error) {
	for _, s := range States() {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("delegate: no state is called %.32q", name)
}

// Known says whether s is a state of this version.
func (s State) Known() bool { return s >= Pending && s <= Quarantined }

// Live says whether the delegate is still to be carried out.
func (s State) Live() bool { return s >= Pending && s <= Unconfirmed }

// Ended says whether nothing can happen to the delegate any more. A quarantined
// one is neither live nor ended.
func (s State) Ended() bool { return s >= Settled && s <= Expired }

// InFlight says whether the operator may hold the intent or a forfeit, so that
// a replacement or a cancellation must wait or take the intent back first.
func (s State) InFlight() bool { return s >= Registering && s <= Unconfirmed }

// Event is what happened to a delegate. Events are not stored.
type Event uint8

// The events. Each is written together with the state that it leads to.
const (
	// Note changes attempts, times or the last error and not the state.
	Note Event = 1 + iota
	// Recover takes the delegate up again after a restart.
	Recover
	// Promote ends the wait of a pending replacement.
	Promote
	// Ripe says that valid_at and its allowance have passed.
	Ripe
	// Register is written before RegisterIntent is called.
	Register
	// Accepted brings the intent id.
	Accepted
	// Refused says that the operator refused the registration for now and holds
	// no copy of the intent.
	Refused
	// Dropped says that no batch listed the intent for so long that the operator
	// has lost it.
	Dropped
	// Join is written before ConfirmRegistration is called.
	Join
	// Requeued says that the batch ended before our confirmation counted; the
	// intent is queued again under the same id.
	Requeued
	// BatchFailed says that a joined batch failed, or that its session ended
	// without a trace of it.
	BatchFailed
	// Submit is written with the branch before any forfeit leaves.
	Submit
	// Finalized says that the operator broadcast the commitment.
	Finalized
	// NotFinalized says that the batch failed or its session ended, that the
	// inputs are unspent and that the commitment is in neither chain nor mempool.
	NotFinalized
	// Late says that a commitment of an earlier attempt appeared after all.
	Late
	// Confirmed says that the commitment has its confirmations.
	Confirmed
	// Conflict says that a transaction which excludes the commitment confirmed.
	Conflict
	// InputSpent says that an input was spent by something that is not ours.
	InputSpent
	// InputUnrolled says that an input is on chain.
	InputUnrolled
	// Replace says that a newer delegate takes over.
	Replace
	// Cancel says that the owner took the delegate back; a queued intent was
	// deleted at the operator before.
	Cancel
	// Expire says that the intent's own expire_at has passed.
	Expire
	// Quarantine says that the session cannot be opened: secret missing or wrong.
	Quarantine
	// Release says that the cause of a quarantine is gone.
	Release
)

// Events lists every event.
func Events() []Event {
	all := make([]Event, 0, Release)
	for e := Note; e <= Release; e++ {
		all = append(all, e)
	}
	return all
}

// String returns the event's name.
func (e Event) String() string {
	names := [...]string{
		Note: "note", Recover: "recover", Promote: "promote", Ripe: "ripe", Register: "register", Accepted: "accepted",
		Refused: "refused", Dropped: "dropped", Join: "join", Requeued: "requeued", BatchFailed: "batch_failed",
		Submit: "submit", Finalized: "finalized", NotFinalized: "not_finalized", Late: "late", Confirmed: "confirmed",
		Conflict: "conflict", InputSpent: "input_spent", InputUnrolled: "input_unrolled", Replace: "replace",
		Cancel: "cancel", Expire: "expire", Quarantine: "quarantine", Release: "release",
	}
	if e < Note || e > Release {
		return fmt.Sprintf("event(%d)", uint8(e))
	}
	return names[e]
}

// ErrTransition is returned by Next for a pair that the table lacks.
var ErrTransition = errors.New("delegate: no such transition")

// Next returns the state that event leads to from state, or ErrTransition. It
// is the only place that decides.
func Next(state State, event Event) (State, error) {
	for _, edge := range table {
		if edge.From == state && edge.Event == event {
			return edge.To, nil
		}
	}
	return state, fmt.Errorf("%w: %s in %s", ErrTransition, event, state)
}
