package delegate

// Edge is one row of the state table.
type Edge struct {
	From  State
	Event Event
	To    State
	Why   string // when it is taken, or what is done after it
}

// Table returns a copy of the state table, in the order of a delegate's life.
func Table() []Edge { return append([]Edge(nil), table...) }

// table is read only. Every live state has a Recover edge: what is to be done
// after a restart is written beside it. None of these edges trusts memory.
var table = []Edge{
	{Pending, Recover, Pending, "Nothing: it waits for the older delegate over its VTXOs."},
	{Pending, Note, Pending, ""},
	{Pending, Promote, Armed, "The older delegate is out of flight and replaced in the same write."},
	{Pending, InputSpent, Spent, "The older delegate was settled, or an input is gone: there is nothing left to renew."},
	{Pending, InputUnrolled, Broken, "An input of the older delegate was unrolled."},
	{Pending, Replace, Replaced, "A still newer one waits in its place."},
	{Pending, Cancel, Cancelled, ""},
	{Pending, Expire, Expired, ""},

	{Armed, Recover, Armed, "Nothing: the due index holds its time."},
	{Armed, Note, Armed, ""},
	{Armed, Ripe, Due, "valid_at, the clock-skew allowance and the jitter have passed."},
	{Armed, Late, Unconfirmed, "A commitment of an older delegate that it replaced appeared."},
	{Armed, InputSpent, Spent, ""},
	{Armed, InputUnrolled, Broken, ""},
	{Armed, Replace, Replaced, ""},
	{Armed, Cancel, Cancelled, ""},
	{Armed, Expire, Expired, ""},
	{Armed, Quarantine, Quarantined, ""},

	{Due, Recover, Due, "Attempt at the stored time."},
	{Due, Note, Due, "Put off: operator away, banned, fee or time refused; past the VTXO's expiry at a slow pace."},
	{Due, Register, Registering, "Inputs re-read, session opened, stream topics set; written before the call."},
	{Due, Late, Unconfirmed, "A commitment of an earlier attempt appeared."},
	{Due, InputSpent, Spent, ""},
	{Due, InputUnrolled, Broken, ""},
	{Due, Replace, Replaced, ""},
	{Due, Cancel, Cancelled, ""},
	{Due, Expire, Expired, ""},
	{Due, Quarantine, Quarantined, ""},

	{Registering, Recover, Registering, "It may or may not be queued: register every 500 ms; at \"duplicated input\" the owner's delete proof takes the old copy back, and without one a confirmation stage must pop it first. Three sessions without an id: alert."},
	{Registering, Note, Registering, "Still \"duplicated input\", or no answer."},
	{Registering, Accepted, Registered, "The id is in the same write."},
	{Registering, Refused, Due, "Refused for now, nothing is queued: back off. So it is when another intent than ours has held the coins for three sessions: the place is for others meanwhile."},
	{Registering, Late, Unconfirmed, "A commitment of an earlier attempt appeared."},
	{Registering, InputSpent, Spent, ""},
	{Registering, InputUnrolled, Broken, ""},
	{Registering, Replace, Replaced, "Only after the intent was deleted at the operator."},
	{Registering, Cancel, Cancelled, "Only after the intent was deleted at the operator."},
	{Registering, Expire, Expired, ""},
	{Registering, Quarantine, Quarantined, ""},

	{Registered, Recover, Registered, "Wait for a batch that lists the id."},
	{Registered, Note, Registered, ""},
	{Registered, Join, Joining, "A batch lists the id, its expiry is accepted, the inputs were re-read just now; written before the confirmation."},
	{Registered, Dropped, Due, "No batch listed the id for three sessions, or a batch that did was left to a newer delegate that is due."},
	{Registered, Late, Unconfirmed, "A commitment of an earlier attempt appeared."},
	{Registered, InputSpent, Spent, ""},
	{Registered, InputUnrolled, Broken, ""},
	{Registered, Replace, Replaced, "Only after the intent was deleted at the operator."},
	{Registered, Cancel, Cancelled, "Only after the intent was deleted at the operator."},
	{Registered, Expire, Expired, ""},
	{Registered, Quarantine, Quarantined, ""},

	{Joining, Recover, Joining, "The nonces are gone, so the batch fails and our scripts are convicted: wait for its end, then read the inputs and count the conviction."},
	{Joining, Note, Joining, ""},
	{Joining, Requeued, Registered, "Too few confirmed, or ours came too late."},
	{Joining, BatchFailed, Due, "Attempt again, within the ban rules."},
	{Joining, Submit, Submitted, "Branch, commitment and completed forfeits are in the same write; then the forfeits leave."},
	{Joining, Finalized, Unconfirmed, "No input needed a forfeit and the batch ended without us: the operator says so."},
	{Joining, Late, Unconfirmed, "A commitment of an earlier attempt appeared."},
	{Joining, InputSpent, Spent, ""},
	{Joining, InputUnrolled, Broken, ""},
	{Joining, Quarantine, Quarantined, ""},

	{Submitted, Recover, Submitted, "Neither register nor confirm until the commitment is known to be broadcast, or known not to be."},
	{Submitted, Note, Submitted, ""},
	{Submitted, Finalized, Unconfirmed, "The operator says broadcast, or the indexer says settled by that txid."},
	{Submitted, NotFinalized, Due, "The commitment goes on the watch list: the operator broadcasts before it stores."},
	{Submitted, Late, Unconfirmed, "A commitment of an earlier attempt appeared."},
	{Submitted, InputSpent, Spent, "By something that is not a commitment of ours."},
	{Submitted, InputUnrolled, Broken, ""},

	{Unconfirmed, Recover, Unconfirmed, "Ask again for the commitment's confirmations."},
	{Unconfirmed, Note, Unconfirmed, ""},
	{Unconfirmed, Confirmed, Settled, "State, due index, VTXOs, history and secret garbage in one write."},
	{Unconfirmed, Conflict, Due, "What excludes the commitment confirmed: the old VTXO is to be renewed again."},
	{Unconfirmed, Late, Unconfirmed, "Another commitment of ours turned out to be the one on chain."},

	{Quarantined, Note, Quarantined, ""},
	{Quarantined, Release, Due, "Its operator brought the secret back: attempt at once."},
	{Quarantined, Late, Unconfirmed, "A commitment of an earlier attempt appeared: to find it settled takes no key."},
	{Quarantined, InputSpent, Spent, ""},
	{Quarantined, InputUnrolled, Broken, ""},
	{Quarantined, Replace, Replaced, ""},
	{Quarantined, Cancel, Cancelled, ""},
	{Quarantined, Expire, Expired, ""},
}
