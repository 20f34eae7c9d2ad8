package lie

// Lies in answers, told until the operator is honest again.
const (
	InfoFee       Name = "info-fee"
	InfoDust      Name = "info-dust"
	InfoForfeit   Name = "info-forfeit-address"
	InfoSigner    Name = "info-signer"
	InfoDigest    Name = "info-digest"
	IndexSpent    Name = "indexer-spent"
	IndexUnspent  Name = "indexer-unspent"
	IndexGone     Name = "indexer-gone"
	IndexAmount   Name = "indexer-amount"
	IndexUnrolled Name = "indexer-unrolled"
)

func standingLies() []Spec {
	return []Spec{
		{Name: InfoFee, Scope: Standing, Told: "GetInfo tells no fees, and registration asks for 1000 sats more", Forbids: Confirm, Rule: "retried later; nothing is lost"},
		{Name: InfoDust, Scope: Standing, Told: "GetInfo tells twice the dust", Forbids: Confirm, Rule: "stored forfeits no longer fit: the user is woken, the record stays armed"},
		{Name: InfoForfeit, Scope: Standing, Told: "GetInfo tells another forfeit address", Forbids: Confirm, Rule: "stored forfeits no longer fit: the user is woken, the record stays armed"},
		{Name: InfoSigner, Scope: Standing, Told: "GetInfo tells another signer key", Forbids: Confirm, Rule: "intake stops until it is accepted"},
		{Name: InfoDigest, Scope: Standing, Told: "the digest differs at every answer, and calls with it are refused", Forbids: Confirm, Rule: "refreshed and tried once, then later"},
		{Name: IndexSpent, Scope: Standing, Told: "the indexer says that the target is settled by an unknown transaction", Forbids: Confirm, Rule: "a spent input ends its delegate; it is the operator's word"},
		{Name: IndexUnspent, Scope: Standing, Told: "the indexer says that a settled target is unspent", Forbids: Nothing, Rule: "no second forfeit while the first commitment may confirm"},
		{Name: IndexGone, Scope: Standing, Told: "the indexer does not know the target", Forbids: Confirm, Rule: "an unknown input is not a spent one: retried"},
		{Name: IndexAmount, Scope: Standing, Told: "the indexer tells another amount", Forbids: Confirm, Rule: "the record's amount counts"},
		{Name: IndexUnrolled, Scope: Standing, Told: "the indexer says that the target is unrolled", Forbids: Confirm, Rule: "an unrolled input breaks its delegate"},
	}
}

// Lies of the event stream.
const (
	EventsDuplicated Name = "events-duplicated"
	EventsReordered  Name = "events-reordered"
	EventsDropped    Name = "events-dropped"
	StreamCutTree    Name = "stream-cut-tree"
	StreamCutNonces  Name = "stream-cut-nonces"
	StreamCutFinal   Name = "stream-cut-final"
	StreamCutEnd     Name = "stream-cut-end"
	EventsUnknown    Name = "events-unknown"
	EventsMalformed  Name = "events-malformed"
)

func streamLies() []Spec {
	return []Spec{
		{Name: EventsDuplicated, Told: "every event comes twice", Forbids: Nothing, Rule: "the batch ends well"},
		{Name: EventsReordered, Told: "the events that belong to one step come in random order", Forbids: Nothing, Rule: "the batch ends well"},
		{Name: EventsDropped, Told: "every third event of a group does not come", Forbids: Forfeits, Rule: "the batch fails; tried again"},
		{Name: StreamCutTree, Told: "all streams are cut before the tree is sent", Forbids: Nonces, Rule: "reconnected, reconciled, tried again"},
		{Name: StreamCutNonces, Told: "all streams are cut before the nonces are sent", Forbids: Signatures, Rule: "reconnected, reconciled, tried again"},
		{Name: StreamCutFinal, Told: "all streams are cut before signatures and connectors are sent", Forbids: Forfeits, Rule: "reconnected, reconciled, tried again"},
		{Name: StreamCutEnd, Told: "all streams are cut before BatchFinalized", Forbids: Nothing, Rule: "found settled at the indexer"},
		{Name: EventsUnknown, Told: "events without content come in between", Forbids: Nothing, Rule: "the batch ends well"},
		{Name: EventsMalformed, Told: "events with broken hex and impossible lengths come in between", Forbids: Nothing, Rule: "they are refused or ignored; nothing crashes"},
	}
}
